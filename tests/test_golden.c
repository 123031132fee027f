/* Forward and backward passes against results stored from PyTorch (golden/make_golden.py). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_rig.h"
#include "safetensors.h"

static const fl_layer smooth[] = {
    {.kind = FL_CONV, .out = 3, .kernel = 3, .pad = 1},
    {.kind = FL_GELU},
    {.kind = FL_AVG_POOL, .kernel = 2, .pad = 1},
    {.kind = FL_CONV, .out = 4, .kernel = 2, .stride = 2},
    {.kind = FL_TANH},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .out = 6},
    {.kind = FL_SIGMOID},
    {.kind = FL_DENSE, .no_bias = true},
};

static const fl_layer head[] = {
    {.kind = FL_DENSE, .out = 4},
    {.kind = FL_TANH},
    {.kind = FL_DENSE},
};

static const fl_layer tokens[] = {
    {.kind = FL_EMBED, .out = 3}, {.kind = FL_LSTM, .out = 5},
    {.kind = FL_LSTM, .out = 4},  {.kind = FL_LAST},
    {.kind = FL_DENSE},
};

static const fl_layer series[] = {
    {.kind = FL_GRU, .out = 5}, {.kind = FL_LAST}, {.kind = FL_DENSE}};
static const fl_layer flat[] = {
    {.kind = FL_AS_IMAGE},
    {.kind = FL_CONV1D, .out = 6, .kernel = 3, .stride = 2, .pad = 1},
    {.kind = FL_MAX_POOL1D, .kernel = 3, .stride = 2, .pad = 1},
    {.kind = FL_TANH},
    {.kind = FL_CONV1D, .out = 16, .kernel = 2},
    {.kind = FL_GELU},
    {.kind = FL_AVG_POOL1D},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE},
};

static const fl_layer columns[] = {
    {.kind = FL_AS_IMAGE},    {.kind = FL_CONV1D, .out = 4, .kernel = 3},
    {.kind = FL_AS_SEQUENCE}, {.kind = FL_DENSE, .out = 5},
    {.kind = FL_TANH},        {.kind = FL_AS_IMAGE},
    {.kind = FL_FLATTEN},     {.kind = FL_DENSE},
};

static const fl_layer depthwise[] = {
    {.kind = FL_CONV, .out = 16, .kernel = 3, .pad = 1},
    {.kind = FL_DEPTHWISE, .kernel = 3, .stride = 2, .pad = 1},
    {.kind = FL_GELU},
    {.kind = FL_CONV, .out = 6, .kernel = 1},
    {.kind = FL_DEPTHWISE, .kernel = 2, .no_bias = true},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE},
};

/* A stored result and the network it is of: a table here, or the catalogue's of the same name with
 * every width divided by `narrow`. */
typedef struct golden {
  const char *name;
  int narrow;
  fl_image input;
  int n_output, tokens, steps; /* steps: of answers */
  const fl_layer *layer;
  int n_layer;
  fl_regression regression;
  float delta;
} golden;

static const golden list[] = {
    {.name = "logistic", .narrow = 1, .input = {2, 3, 3}, .n_output = 5},
    {.name = "mlp", .narrow = 10, .input = {1, 6, 6}, .n_output = 10},
    {.name = "cnn_fedavg", .narrow = 8, .input = {1, 8, 8}, .n_output = 10},
    {.name = "cnn_dropout", .narrow = 8, .input = {3, 10, 10}, .n_output = 10},
    {.name = "lenet", .narrow = 3, .input = {3, 20, 20}, .n_output = 10},
    {.name = "cnn_feddyn", .narrow = 16, .input = {3, 16, 16}, .n_output = 10},
    {.name = "resnet18_gn", .narrow = 32, .input = {3, 8, 8}, .n_output = 10},
    {.name = "smooth",
     .input = {2, 6, 6},
     .n_output = 3,
     .layer = smooth,
     .n_layer = FL_COUNT(smooth)},
    {.name = "mse",
     .input = {5, 1, 1},
     .n_output = 2,
     .layer = head,
     .n_layer = FL_COUNT(head),
     .regression = FL_LOSS_MSE},
    {.name = "huber",
     .input = {5, 1, 1},
     .n_output = 2,
     .layer = head,
     .n_layer = FL_COUNT(head),
     .regression = FL_LOSS_HUBER,
     .delta = 0.5f},
    {.name = "lstm",
     .input = {1, 1, 1, 6},
     .n_output = 7,
     .tokens = 7,
     .steps = 6,
     .layer = tokens,
     .n_layer = FL_COUNT(tokens)},
    {.name = "gru",
     .input = {3, 1, 1, 6},
     .n_output = 2,
     .layer = series,
     .n_layer = FL_COUNT(series),
     .regression = FL_LOSS_MSE},
    {.name = "flat",
     .input = {3, 1, 1, 14},
     .n_output = 3,
     .layer = flat,
     .n_layer = FL_COUNT(flat)},
    {.name = "columns",
     .input = {2, 1, 1, 7},
     .n_output = 3,
     .layer = columns,
     .n_layer = FL_COUNT(columns)},
    {.name = "depthwise",
     .input = {2, 7, 6},
     .n_output = 3,
     .layer = depthwise,
     .n_layer = FL_COUNT(depthwise)},
    {.name = "cnn_rul", .narrow = 8, .input = {3, 1, 1, 9}, .n_output = 1},
    {.name = "resnet20_gn", .narrow = 8, .input = {3, 8, 8}, .n_output = 10},
};

/* Answers of an example. */
static int answers(const golden *g) { return g->steps > 0 ? g->steps : 1; }

static fl_model *build(const golden *g) {
  fl_model *model = NULL;
  fl_layer table[FL_LAYERS_MAX];
  const fl_model_spec *spec = (const fl_model_spec *)fl_catalogue_find(&fl_models, g->name);
  int n = g->layer ? g->n_layer : spec->n_layer;
  memcpy(table, g->layer ? g->layer : spec->layer, (size_t)n * sizeof *table);
  for (int i = 0; g->narrow && i < n; i++) table[i].out /= g->narrow;
  const fl_ends ends = {
      .input = g->input, .tokens = g->tokens, .n_output = g->n_output, .steps = g->steps};
  CU_ASSERT_EQUAL_FATAL(fl_model_build(g->name, n, table, FL_INIT_TORCH, &ends, &model),
                        FEDLANE_OK);
  return model;
}

/* A tensor of the file as floats of their own; free it. */
static float *floats(const fl_st_file *file, const char *prefix, const char *name, int64_t count) {
  char full[128];
  snprintf(full, sizeof full, "%s%s", prefix, name);
  const fl_st_tensor *t = fl_st_find(file, full);
  if (!t) printf("no tensor %s\n", full);
  CU_ASSERT_PTR_NOT_NULL_FATAL(t);
  CU_ASSERT_EQUAL_FATAL(t->type, FL_F32);
  CU_ASSERT_EQUAL_FATAL(t->count, count);
  float *out = rig_floats(count);
  memcpy(out, t->data, (size_t)count * sizeof *out);
  return out;
}

static void close_to(const char *what, const char *name, int64_t n, const float *have,
                     const float *want) {
  double worst = 0, peak = 0;
  for (int64_t i = 0; i < n; i++) {
    double error = fabs((double)have[i] - want[i]);
    if (!(error <= worst)) worst = error;
    peak = fmax(peak, fabs(want[i]));
  }
  bool good = worst <= 2e-6 + 2e-5 * peak;
  if (!good) printf("%s %s: error %g of %g\n", what, name, worst, peak);
  CU_ASSERT(good);
}

static void load_weights(rig *r, const fl_st_file *file) {
  memset(r->w, 0, (size_t)r->about->P * sizeof *r->w);
  for (int i = 0; i < r->about->n_tensor; i++) {
    const fl_tensor *t = fl_model_tensor(r->model, i);
    float *w = floats(file, "weight/", t->name, t->count);
    memcpy(r->w + t->at, w, (size_t)t->count * sizeof *w);
    free(w);
  }
}

static void compare(rig *r, const golden *g, const fl_st_file *file) {
  int64_t n = (int64_t)r->B * answers(g) * g->n_output;
  float *output = floats(file, "output", "", n);
  float *loss = floats(file, "loss", "", 1);
  close_to(g->name, "output", n, r->act + fl_model_output_at(r->model, r->B), output);
  float mean = (float)(r->loss[0] / r->B);
  close_to(g->name, "loss", 1, &mean, loss);
  for (int i = 0; i < r->about->n_tensor; i++) {
    const fl_tensor *t = fl_model_tensor(r->model, i);
    float *grad = floats(file, "grad/", t->name, t->count);
    close_to(g->name, t->name, t->count, r->g + t->at, grad);
    free(grad);
  }
  free(output);
  free(loss);
}

static void run(const fl_ops *ops, const golden *g) {
  static const float zero[5], one[5] = {1, 1, 1, 1, 1};
  char path[512];
  fl_st_file *file = NULL;
  snprintf(path, sizeof path, "%s/tests/golden/%s.safetensors", FEDLANE_SOURCE, g->name);
  CU_ASSERT_EQUAL_FATAL(fl_st_open(path, &file), FEDLANE_OK);
  fl_model *model = build(g);
  const fl_st_tensor *x = fl_st_find(file, "x"), *label = fl_st_find(file, "label");
  CU_ASSERT_PTR_NOT_NULL_FATAL(x);
  int rows = (int)x->dim[0];
  CU_ASSERT_EQUAL_FATAL(fl_st_count(file), 4 + 2 * fl_model_about(model)->n_tensor);
  float *pixels = floats(file, "x", "", rows * fl_image_size(g->input));
  float *target = label ? NULL : floats(file, "target", "", (int64_t)rows * g->n_output);
  int32_t labels[RIG_BATCH * RIG_BATCH];
  for (int i = 0; label && i < rows * answers(g); i++) {
    int64_t value;
    memcpy(&value, (const char *)label->data + (ptrdiff_t)i * 8, sizeof value);
    labels[i] = (int32_t)value;
  }
  rig r = rig_open(ops, model, 1, rows);
  r.drop = false;
  r.regression = g->regression;
  r.delta = g->delta;
  r.source = (fl_source){.image = g->input,
                         .n_label = answers(g),
                         .x = pixels,
                         .label = label ? labels : NULL,
                         .target = target,
                         .n_target = target ? g->n_output : 0,
                         .shift = zero,
                         .scale = one};
  load_weights(&r, file);
  rig_train(&r);
  compare(&r, g, file);
  rig_close(&r);
  free(pixels);
  free(target);
  fl_st_close(&file);
}

static void all(const fl_ops *ops) {
  for (int k = 0; k < FL_COUNT(list); k++) run(ops, &list[k]);
}

static void passes(void) { rig_on_each(all); }

static const fl_test tests[] = {{"forward and backward", passes}};
FL_SUITE_MAIN("golden", tests)
