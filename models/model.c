#include "model.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers.h"

enum {
  TENSORS_MAX = 256,        /* the random numbers' layer word has 8 bits */
  ACTIVATION_MAX = 1 << 30, /* floats of one value of one example */
  NAME_MAX_LENGTH = 48      /* leaves room for ".weight" in fl_tensor */
};
static const int64_t PARAMETERS_MAX = (int64_t)1 << 36;

/* A layer as messages show it: "layer 3 (conv, out 16, kernel 5)". */
typedef struct label {
  char text[256];
} label;

static label label_of(const fl_node *n) {
  label l;
  const fl_record *record = &n->kind->record;
  int used = snprintf(l.text, sizeof l.text, "layer %d (%s", n->place + 1, record->name);
  for (int k = 0; k < record->n_param; k++) {
    const fl_param *p = &record->param[k];
    int value = p->type == FL_INT32 ? *(const int *)((const char *)&n->layer + p->offset) : 0;
    if (value != 0)
      used += snprintf(l.text + used, sizeof l.text - (size_t)used, ", %s %d", p->name, value);
  }
  snprintf(l.text + used, sizeof l.text - (size_t)used, ")");
  return l;
}

static bool too_large(fl_image i) {
  int64_t area = (int64_t)i.height * i.width;
  if (area > ACTIVATION_MAX || i.channels > ACTIVATION_MAX / area) return true;
  return i.steps > ACTIVATION_MAX / (area * i.channels);
}

/* Puts a parameter's default where the table has zero, and checks its range. */
static fl_status check_param(const char *name, fl_node *n, const fl_param *p) {
  void *at = (char *)&n->layer + p->offset;
  double value = 0;
  if (p->type == FL_REAL) value = *(double *)at;
  if (p->type == FL_INT32) {
    if (*(int *)at == 0) *(int *)at = (int)p->dflt;
    value = *(int *)at;
  }
  bool low = value < p->lo || (value == p->lo && (p->flags & FL_LO_OPEN));
  bool high = value > p->hi || (value == p->hi && (p->flags & FL_HI_OPEN));
  if (p->lo == p->hi || !(low || high || isnan(value))) return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE, "model '%s': layer %d (%s): %s is %g; it must lie in %c%g, %g%c",
                 name, n->place + 1, n->kind->record.name, p->name, value,
                 p->flags & FL_LO_OPEN ? '(' : '[', p->lo, p->hi,
                 p->flags & FL_HI_OPEN ? ')' : ']');
}

/* The value that `back` layers before node n's output is, counted as in fl_layer. */
static fl_status source(const char *name, const fl_node *n, const char *param, int back, int *out) {
  *out = n->place + 1 + back;
  if (*out >= 0) return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE,
                 "model '%s': %s: %s reaches %d layers back, but the model's input is %d back",
                 name, label_of(n).text, param, -back, n->place + 1);
}

/* Copies layer i of the table and finds its kind, parameters and inputs. */
static fl_status read_layer(const char *name, const fl_layer *layer, int n_output, fl_node *n) {
  n->layer = *layer;
  n->layer.name = NULL;
  if ((int)layer->kind < 0 || layer->kind >= FL_KIND_COUNT)
    return fl_fail(FEDLANE_USAGE, "model '%s': layer %d is of kind %d; kinds are 0 to %d", name,
                   n->place + 1, (int)layer->kind, FL_KIND_COUNT - 1);
  n->kind = (const fl_kind_record *)fl_layer_kinds.entry[layer->kind];
  for (int k = 0; k < n->kind->record.n_param; k++)
    FL_TRY(check_param(name, n, &n->kind->record.param[k]));
  if (layer->kind == FL_DENSE && layer->out == 0) n->layer.out = n_output;
  FL_TRY(source(name, n, "from", layer->from == 0 ? -1 : layer->from, &n->x));
  n->skip = -1;
  if (layer->kind == FL_ADD) FL_TRY(source(name, n, "skip", layer->skip, &n->skip));
  char place[16];
  snprintf(place, sizeof place, "%d", n->place);
  const char *module = layer->name && layer->name[0] ? layer->name : place;
  if (strlen(module) > NAME_MAX_LENGTH)
    return fl_fail(FEDLANE_USAGE, "model '%s': %s: its name '%s' is longer than %d characters",
                   name, label_of(n).text, module, NAME_MAX_LENGTH);
  n->layer.name = strdup(module);
  return n->layer.name ? FEDLANE_OK : fl_fail(FEDLANE_MEMORY, "no memory for a layer's name");
}

/* Gives a layer its shapes. */
static fl_status fit(const char *name, const fl_model *m, fl_node *n) {
  fl_image skip = {0, 0, 0};
  char second[64] = "";
  n->in = fl_value_shape(m, n->x);
  if (n->skip >= 0) {
    skip = fl_value_shape(m, n->skip);
    snprintf(second, sizeof second, " and %d x %d x %d", skip.channels, skip.height, skip.width);
  }
  label text = label_of(n);
  const char *why = n->kind->shape(n, skip);
  if (!why && too_large(n->out)) why = "its output is too large";
  if (!why) return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE, "model '%s': %s does not fit its input %d x %d x %d%s: %s", name,
                 text.text, n->in.channels, n->in.height, n->in.width, second, why);
}

/* Appends a layer's tensors. */
static fl_status add_tensors(const char *name, fl_model *m, fl_node *n) {
  n->tensor = m->info.n_tensor;
  for (int i = 0; n->kind->tensor; i++) {
    fl_tensor t = {.layer = n->place, .at = m->info.P, .count = 1};
    if (!n->kind->tensor(n, i, &t)) break;
    if (m->info.n_tensor == TENSORS_MAX)
      return fl_fail(FEDLANE_USAGE, "model '%s' has more than %d tensors", name, TENSORS_MAX);
    for (int d = 0; d < t.n_dim; d++) t.count *= t.dim[d];
    if (!t.part) t.part = i == 0 ? "weight" : "bias";
    snprintf(t.name, sizeof t.name, "%s.%s", n->layer.name, t.part);
    for (int k = 0; k < m->info.n_tensor; k++)
      if (strcmp(m->tensor[k].name, t.name) == 0)
        return fl_fail(FEDLANE_USAGE, "model '%s': layers %d and %d are both called '%s'", name,
                       m->tensor[k].layer + 1, n->place + 1, n->layer.name);
    m->tensor[m->info.n_tensor++] = t;
    m->info.parameters += t.count;
    m->info.P += (t.count + 15) / 16 * 16;
    if (m->info.P > PARAMETERS_MAX)
      return fl_fail(FEDLANE_USAGE, "model '%s': %s brings it past %lld parameters", name,
                     label_of(n).text, (long long)PARAMETERS_MAX);
    n->n_tensor++;
  }
  return FEDLANE_OK;
}

/* A value, and its gradient where there is one, written once and read once. */
static double value_bytes(fl_image shape, bool gradient) {
  return 2.0 * sizeof(float) * (gradient ? 2 : 1) * (double)fl_image_size(shape);
}

/* Which gradients are wanted, who writes each first, and the work of a pass. */
static fl_status connect(const char *name, fl_model *m) {
  bool trained[FL_LAYERS_MAX + 1] = {false}, seen[FL_LAYERS_MAX + 1] = {false};
  for (int i = 0; i < m->n_layer; i++) {
    fl_node *n = &m->node[i];
    double flop = n->kind->flop ? n->kind->flop(n) : 0;
    n->dx = trained[n->x];
    n->dskip = n->skip >= 0 && trained[n->skip];
    trained[i + 1] = n->n_tensor > 0 || n->dx || n->dskip;
    m->info.flop += flop;
    m->info.flop_train += flop * (n->dx ? 3 : 2);
    m->info.draws |= n->layer.kind == FL_DROPOUT;
    if (!n->kind->in_place) m->info.bytes_train += value_bytes(n->out, trained[i + 1]);
  }
  m->info.bytes_train += value_bytes(m->info.input, false);
  m->info.bytes_step = 3.0 * sizeof(float) * (double)m->info.parameters;
  if (m->info.n_tensor == 0)
    return fl_fail(FEDLANE_USAGE, "model '%s' has no weights to train", name);
  for (int i = m->n_layer - 1; i >= 0; i--) {
    fl_node *n = &m->node[i];
    if (i + 1 < m->n_layer && !seen[i + 1])
      return fl_fail(FEDLANE_USAGE, "model '%s': no layer uses the output of %s", name,
                     label_of(n).text);
    n->first = !seen[n->x];
    seen[n->x] = true;
    if (n->skip < 0) continue;
    n->first_skip = !seen[n->skip];
    seen[n->skip] = true;
  }
  return FEDLANE_OK;
}

static fl_status check_ends(const char *name, int n_layer, fl_image in, int n_output) {
  if (n_layer < 1 || n_layer > FL_LAYERS_MAX)
    return fl_fail(FEDLANE_USAGE, "model '%s' has %d layers; 1 to %d are allowed", name, n_layer,
                   FL_LAYERS_MAX);
  if (in.channels < 1 || in.height < 1 || in.width < 1 || in.steps < 0 || too_large(in))
    return fl_fail(FEDLANE_USAGE,
                   "model '%s': its input is %d x %d x %d; each must be at least 1, and all "
                   "together at most %d",
                   name, in.channels, in.height, in.width, ACTIVATION_MAX);
  if (n_output < 1 || n_output > FL_LAYER_OUT_MAX)
    return fl_fail(FEDLANE_USAGE, "model '%s': %d outputs are wanted; 1 to %d are allowed", name,
                   n_output, FL_LAYER_OUT_MAX);
  return FEDLANE_OK;
}

/* steps: at which outputs are wanted; 0: one output an example. */
static fl_status check_output(const char *name, const fl_model *m, int steps) {
  fl_image end = m->node[m->n_layer - 1].out;
  bool fits = end.channels == m->info.n_output && end.height == 1 && end.width == 1;
  if (fits && end.steps == steps) return FEDLANE_OK;
  if (fits && steps == 0)
    return fl_fail(FEDLANE_USAGE,
                   "model '%s' ends with a sequence of %d steps, but the data have one answer an "
                   "example: put `last` before its last dense layer",
                   name, end.steps);
  if (fits)
    return fl_fail(FEDLANE_USAGE,
                   "model '%s' ends with %d steps, but the data have an answer at each of %d", name,
                   end.steps, steps);
  return fl_fail(FEDLANE_USAGE,
                 "model '%s' ends with %d x %d x %d, but the data need %d outputs: end it with a "
                 "dense layer",
                 name, end.channels, end.height, end.width, m->info.n_output);
}

static fl_status fill_in(const char *name, const fl_layer *layer, int steps, fl_model *m) {
  for (int i = 0; i < m->n_layer; i++) {
    fl_node *n = &m->node[i];
    n->place = i;
    n->model = m;
    FL_TRY(read_layer(name, &layer[i], m->info.n_output, n));
    FL_TRY(fit(name, m, n));
    FL_TRY(add_tensors(name, m, n));
  }
  FL_TRY(check_output(name, m, steps));
  FL_TRY(connect(name, m));
  fl_blocks_find(m);
  FL_TRY(fl_layout_make(m, false, &m->eval));
  return fl_model_imply(m, FL_IMPLY_NEVER, 0, 1);
}

fl_status fl_model_build(const char *name, int n_layer, const fl_layer *layer, fl_init init,
                         const fl_ends *ends, fl_model **out) {
  FL_TRY(check_ends(name, n_layer, ends->input, ends->n_output));
  fl_model *m = calloc(1, sizeof *m);
  if (m) m->node = calloc((size_t)n_layer, sizeof *m->node);
  if (m) m->tensor = calloc(TENSORS_MAX, sizeof *m->tensor);
  if (!m || !m->node || !m->tensor) {
    fl_model_close(&m);
    return fl_fail(FEDLANE_MEMORY, "no memory for model '%s'", name);
  }
  m->init = init;
  m->n_layer = n_layer;
  m->info.input = ends->input;
  m->info.tokens = ends->tokens;
  m->info.steps = ends->input.steps;
  m->info.answer_steps = ends->steps;
  m->info.n_output = ends->n_output;
  fl_status status = fill_in(name, layer, ends->steps, m);
  if (status == FEDLANE_OK)
    *out = m;
  else
    fl_model_close(&m);
  return status;
}

void fl_model_close(fl_model **model) {
  fl_model *m = model ? *model : NULL;
  if (!m) return;
  for (int i = 0; m->node && i < m->n_layer; i++) free((char *)m->node[i].layer.name);
  free(m->node);
  free(m->tensor);
  free(m->train.at);
  free(m->eval.at);
  free(m->part);
  free(m);
  *model = NULL;
}

const fl_model_info *fl_model_about(const fl_model *model) { return &model->info; }

const fl_tensor *fl_model_tensor(const fl_model *model, int i) { return &model->tensor[i]; }

int64_t fl_model_act(const fl_model *model, int B, bool train) {
  return (train ? model->train : model->eval).total * B;
}

int64_t fl_model_input_at(const fl_model *model, int B) { return model->train.at[0].value * B; }

int64_t fl_model_output_at(const fl_model *model, int B) {
  return model->train.at[model->n_layer].value * B;
}

int64_t fl_model_dout_at(const fl_model *model, int B) {
  return model->train.at[model->n_layer].grad * B;
}

/* The bound of a tensor's uniform start; 0 for tensors that start constant. */
static double bound(fl_init init, const fl_tensor *t) {
  if (t->role == FL_ROLE_SCALE || t->role == FL_ROLE_SHIFT) return 0;
  if (init == FL_INIT_TORCH) return 1 / sqrt((double)t->fan_in);
  return t->role == FL_ROLE_WEIGHT ? sqrt(6 / (double)(t->fan_in + t->fan_out)) : 0;
}

void fl_model_init(const fl_model *model, uint32_t seed, float *w) {
  memset(w, 0, (size_t)model->info.P * sizeof *w);
  for (int k = 0; k < model->info.n_tensor; k++) {
    const fl_tensor *t = &model->tensor[k];
    fl_key key = {.seed = seed, .purpose = FL_FOR_INIT, .layer = (uint32_t)k};
    float limit = (float)bound(model->init, t), constant = t->role == FL_ROLE_SCALE ? 1 : 0;
    fl_words words = {{0}};
    for (int64_t i = 0; i < t->count; i++) {
      if (i % 4 == 0) words = fl_rng_block(&key, (uint32_t)(i / 4));
      w[t->at + i] = constant + limit * (2 * fl_unit_float(words.v[i % 4]) - 1);
    }
  }
}
