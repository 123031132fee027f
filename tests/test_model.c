/* Models: sizes, refusals, gradients, and that batching, sharing and fusing change nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_rig.h"

/* Every kind of layer: a residual, group norm, all activations, both pools, strides and padding. */
static const fl_layer every_kind[] = {
    {.kind = FL_CONV, .out = 4, .kernel = 3, .pad = 1},
    {.kind = FL_GROUP_NORM, .groups = 2},
    {.kind = FL_RELU},
    {.kind = FL_CONV, .out = 4, .kernel = 3, .pad = 1, .no_bias = true},
    {.kind = FL_GROUP_NORM, .groups = 4},
    {.kind = FL_ADD, .skip = -3},
    {.kind = FL_GELU},
    {.kind = FL_AVG_POOL, .kernel = 2},
    {.kind = FL_CONV, .out = 5, .kernel = 3, .stride = 2, .pad = 1},
    {.kind = FL_TANH},
    {.kind = FL_MAX_POOL, .kernel = 2, .stride = 1},
    {.kind = FL_DROPOUT, .p = 0.2},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .out = 9, .no_bias = true},
    {.kind = FL_SIGMOID},
    {.kind = FL_DROPOUT, .p = 0.3},
    {.kind = FL_DENSE},
};

/* Relu and dropout over the same buffer after a max pool, as cnn_dropout has them. */
static const fl_layer pool_first[] = {
    {.kind = FL_CONV, .out = 3, .kernel = 3},
    {.kind = FL_MAX_POOL},
    {.kind = FL_RELU},
    {.kind = FL_DROPOUT, .p = 0.25},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .out = 7},
    {.kind = FL_RELU},
    {.kind = FL_DROPOUT, .p = 0.5},
    {.kind = FL_DENSE},
};

/* Values read three times, a layer added to itself, the model's input read late, and activations
 * stacked on one another: all that decides which buffers may be shared. */
static const fl_layer tangled[] = {
    {.kind = FL_SIGMOID},
    {.kind = FL_CONV, .out = 2, .kernel = 3, .pad = 1},
    {.kind = FL_TANH},
    {.kind = FL_RELU},
    {.kind = FL_ADD, .skip = -1},
    {.kind = FL_ADD, .skip = -2},
    {.kind = FL_CONV, .out = 2, .kernel = 1, .from = -4},
    {.kind = FL_RELU},
    {.kind = FL_SIGMOID},
    {.kind = FL_ADD, .skip = -4},
    {.kind = FL_CONV, .out = 2, .kernel = 1, .from = -11},
    {.kind = FL_ADD, .skip = -2},
    {.kind = FL_DROPOUT, .p = 0.5},
    {.kind = FL_TANH},
    {.kind = FL_AVG_POOL},
    {.kind = FL_GELU},
    {.kind = FL_DENSE},
    {.kind = FL_TANH},
};

static const struct net {
  const char *name;
  const fl_layer *layer;
  int n_layer;
  fl_image input;
} nets[] = {
    {"every_kind", every_kind, FL_COUNT(every_kind), {3, 8, 8}},
    {"pool_first", pool_first, FL_COUNT(pool_first), {2, 8, 8}},
    {"tangled", tangled, FL_COUNT(tangled), {2, 4, 4}},
};

enum { CLASSES = 4, EXAMPLES = 64 };

/* Examples that any net here can read: values of no meaning and labels that go round. */
static float pixels[EXAMPLES * 3 * 8 * 8];
static int32_t labels[EXAMPLES];

static void aim(rig *r) {
  static const float zero[3], one[3] = {1, 1, 1};
  for (int i = 0; i < FL_COUNT(pixels); i++) pixels[i] = sinf(1.7f * (float)i * (float)i);
  for (int i = 0; i < EXAMPLES; i++) labels[i] = i * 7 % CLASSES;
  r->source = (fl_source){
      .image = r->about->input, .x = pixels, .label = labels, .shift = zero, .scale = one};
}

static rig open_net(const fl_ops *ops, const struct net *n, int C, int B) {
  fl_model *model = NULL;
  fl_status status =
      fl_model_build(n->name, n->n_layer, n->layer, FL_INIT_TORCH, n->input, CLASSES, &model);
  if (status != FEDLANE_OK) printf("%s\n", fedlane_error());
  CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
  rig r = rig_open(ops, model, C, B);
  aim(&r);
  return r;
}

static fl_status build_named(const char *name, fl_image input, int n_output, fl_model **out) {
  const fl_model_spec *s = (const fl_model_spec *)fl_catalogue_find(&fl_models, name);
  CU_ASSERT_PTR_NOT_NULL_FATAL(s);
  return fl_model_build(name, s->n_layer, s->layer, s->init, input, n_output, out);
}

static void counts(void) {
  const struct {
    const char *name;
    fl_image input;
    int n_output;
    int64_t parameters;
  } known[] = {
      {"logistic", {1, 28, 28}, 10, 7850},         {"mlp", {1, 28, 28}, 10, 199210},
      {"cnn_fedavg", {1, 28, 28}, 10, 1663370},    {"cnn_dropout", {3, 32, 32}, 10, 1626442},
      {"cnn_dropout", {1, 28, 28}, 10, 1199882},   {"lenet", {3, 32, 32}, 10, 62006},
      {"cnn_feddyn", {3, 32, 32}, 10, 797962},     {"resnet18_gn", {3, 32, 32}, 10, 11173962},
      {"resnet18_gn", {3, 24, 24}, 100, 11220132}, {"logistic", {784, 1, 1}, 62, 48670},
  };
  for (int k = 0; k < FL_COUNT(known); k++) {
    fl_model *m = NULL;
    CU_ASSERT_EQUAL_FATAL(build_named(known[k].name, known[k].input, known[k].n_output, &m),
                          FEDLANE_OK);
    CU_ASSERT_EQUAL(fl_model_about(m)->parameters, known[k].parameters);
    fl_model_close(&m);
    CU_ASSERT_PTR_NULL(m);
  }
  fl_model_close(NULL);
}

/* Workload A1's figures: 33.67 and 99.46 million per example. */
static void work(void) {
  fl_model *m = NULL;
  CU_ASSERT_EQUAL_FATAL(build_named("cnn_dropout", (fl_image){3, 32, 32}, 10, &m), FEDLANE_OK);
  CU_ASSERT_DOUBLE_EQUAL(fl_model_about(m)->flop, 33.67e6, 0.005e6);
  CU_ASSERT_DOUBLE_EQUAL(fl_model_about(m)->flop_train, 99.46e6, 0.005e6);
  fl_model_close(&m);
}

/* Tensors follow one another at multiples of 16, gaps are zero, names are PyTorch's. */
static void tensors(void) {
  fl_model *m = NULL;
  CU_ASSERT_EQUAL_FATAL(build_named("resnet18_gn", (fl_image){3, 8, 8}, 10, &m), FEDLANE_OK);
  const fl_model_info *about = fl_model_about(m);
  float *w = rig_floats(about->P);
  int64_t end = 0, gaps = 0;
  fl_model_init(m, 3, w);
  for (int i = 0; i < about->n_tensor; i++) {
    const fl_tensor *t = fl_model_tensor(m, i);
    CU_ASSERT_EQUAL(t->at % 16, 0);
    CU_ASSERT(t->at >= end);
    for (; end < t->at; end++, gaps++) CU_ASSERT_EQUAL(w[end], 0);
    end = t->at + t->count;
  }
  for (; end < about->P; end++, gaps++) CU_ASSERT_EQUAL(w[end], 0);
  CU_ASSERT_EQUAL(gaps, about->P - about->parameters);
  CU_ASSERT_STRING_EQUAL(fl_model_tensor(m, 0)->name, "conv1.weight");
  CU_ASSERT_STRING_EQUAL(fl_model_tensor(m, 2)->name, "bn1.bias");
  CU_ASSERT_STRING_EQUAL(fl_model_tensor(m, 60)->name, "fc.weight");
  free(w);
  fl_model_close(&m);
  rig r = open_net(&fl_ref_ops, &nets[0], 1, 1);
  CU_ASSERT_STRING_EQUAL(fl_model_tensor(r.model, 4)->name, "3.weight");
  rig_close(&r);
}

/* Bounds, spread and constants of both ways to start; the seed and the tensor decide the values. */
static void start(void) {
  const char *const name[2] = {"lenet", "cnn_dropout"};
  for (int k = 0; k < 2; k++) {
    fl_model *m = NULL;
    CU_ASSERT_EQUAL_FATAL(build_named(name[k], (fl_image){3, 32, 32}, 10, &m), FEDLANE_OK);
    int64_t P = fl_model_about(m)->P;
    float *w = rig_floats(P), *again = rig_floats(P), *other = rig_floats(P);
    fl_model_init(m, 1, w);
    fl_model_init(m, 1, again);
    fl_model_init(m, 2, other);
    CU_ASSERT_EQUAL(memcmp(w, again, (size_t)P * sizeof *w), 0);
    for (int i = 0; i < fl_model_about(m)->n_tensor; i++) {
      const fl_tensor *t = fl_model_tensor(m, i);
      bool constant = k == 1 && t->role == FL_ROLE_BIAS;
      double fan = (double)t->fan_in, limit = 1 / sqrt(fan), peak = 0, sum = 0;
      if (k == 1) limit = constant ? 0 : sqrt(6 / (fan + (double)t->fan_out));
      for (int64_t j = t->at; j < t->at + t->count; j++) {
        peak = fmax(peak, fabs(w[j]));
        sum += w[j];
      }
      CU_ASSERT(peak <= limit * 1.000001 && peak >= limit * 0.5);
      CU_ASSERT(fabs(sum / (double)t->count) <= 2.5 * limit / sqrt((double)t->count));
      CU_ASSERT_EQUAL(w[t->at] == other[t->at], constant);
    }
    free(w);
    free(again);
    free(other);
    fl_model_close(&m);
  }
}

static void refused(int n, const fl_layer *layer, fl_image input, int n_output, const char *why) {
  fl_model *m = NULL;
  CU_ASSERT_EQUAL(fl_model_build("mine", n, layer, FL_INIT_TORCH, input, n_output, &m),
                  FEDLANE_USAGE);
  CU_ASSERT_PTR_NULL(m);
  if (!strstr(fedlane_error(), why)) printf("'%s' is not in '%s'\n", why, fedlane_error());
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), why));
}

#define REFUSED(input, n_output, why, ...)                 \
  do {                                                     \
    const fl_layer table[] = {__VA_ARGS__};                \
    refused(FL_COUNT(table), table, input, n_output, why); \
  } while (0)
static const fl_image image = {3, 8, 8}, flat = {6, 1, 1}, oblong = {3, 8, 6};
static const fl_image nothing = {0, 1, 1}, wide = {1 << 20, 1, 1}, huge = {1, 1 << 15, 1 << 14};

static void misfits(void) {
  static const fl_layer many[FL_LAYERS_MAX + 1];
  REFUSED(image, 4, "layer 3 (conv, out 16, kernel 5, stride 1) does not fit its input 4 x 3 x 3",
          {.kind = FL_CONV, .out = 4, .kernel = 3}, {.kind = FL_MAX_POOL},
          {.kind = FL_CONV, .out = 16, .kernel = 5});
  REFUSED(image, 4,
          "layer 1 (dense, out 4) does not fit its input 3 x 8 x 8: it takes features, "
          "so put `flatten` before it",
          {.kind = FL_DENSE});
  REFUSED(image, 4, "does not fit its input 4 x 6 x 6 and 3 x 8 x 8: both must have one shape",
          {.kind = FL_CONV, .out = 4, .kernel = 3}, {.kind = FL_ADD, .skip = -2});
  REFUSED(image, 4, "ends with 3 x 4 x 4, but the data need 4 outputs", {.kind = FL_MAX_POOL});
  REFUSED(flat, 4, "ends with 5 x 1 x 1, but the data need 4", {.kind = FL_DENSE, .out = 5});
  REFUSED(flat, 6, "has no weights to train", {.kind = FL_RELU});
  REFUSED(image, 4, "its groups must divide the channels", {.kind = FL_GROUP_NORM, .groups = 2});
  REFUSED(oblong, 4, "only a square image", {.kind = FL_AVG_POOL});
  REFUSED(image, 4, "its padding must be less than its kernel",
          {.kind = FL_CONV, .out = 1, .kernel = 2, .pad = 2});
  REFUSED(image, 4, "its padding must be at most half its window",
          {.kind = FL_MAX_POOL, .kernel = 3, .pad = 2});
  refused(0, many, flat, 4, "has 0 layers; 1 to 250 are allowed");
  refused(FL_COUNT(many), many, flat, 4, "has 251 layers");
  REFUSED(nothing, 4, "its input is 0 x 1 x 1", {.kind = FL_DENSE});
  REFUSED(flat, 0, "0 outputs are wanted", {.kind = FL_DENSE});
}

static void misspelt(void) {
  REFUSED(image, 4, "layer 1 (conv): kernel is 0; it must lie in [1, 1024]",
          {.kind = FL_CONV, .out = 4});
  REFUSED(image, 4, "layer 1 (conv): out is -2", {.kind = FL_CONV, .out = -2, .kernel = 3});
  REFUSED(image, 4, "layer 1 (conv): stride is -1",
          {.kind = FL_CONV, .out = 2, .kernel = 3, .stride = -1});
  REFUSED(flat, 4, "layer 1 (dropout): p is 1; it must lie in [0, 1)", {.kind = FL_DROPOUT, .p = 1},
          {.kind = FL_DENSE});
  REFUSED(flat, 4, "layer 1 (dropout): p is nan", {.kind = FL_DROPOUT, .p = NAN},
          {.kind = FL_DENSE});
  REFUSED(flat, 4, "layer 2 (relu): from is 1", {.kind = FL_DENSE}, {.kind = FL_RELU, .from = 1});
  REFUSED(flat, 4, "from reaches 3 layers back, but the model's input is 2 back",
          {.kind = FL_DENSE}, {.kind = FL_RELU, .from = -3});
  REFUSED(flat, 4, "layer 1 (add): skip is 0", {.kind = FL_ADD}, {.kind = FL_DENSE});
  REFUSED(flat, 4, "layer 1 is of kind 99", {.kind = (fl_kind)99});
  REFUSED(flat, 4, "no layer uses the output of layer 1 (dense, out 4)", {.kind = FL_DENSE},
          {.kind = FL_DENSE, .from = -2});
  REFUSED(flat, 4, "layers 1 and 2 are both called 'a'", {.kind = FL_DENSE, .name = "a"},
          {.kind = FL_DENSE, .name = "a"});
  REFUSED(flat, 4, "is longer than 48 characters",
          {.kind = FL_DENSE, .name = "a_name_that_no_module_of_any_network_has_ever_been_given"});
  REFUSED(wide, 4, "brings it past", {.kind = FL_DENSE, .out = 1 << 20});
  REFUSED(huge, 4, "its output is too large", {.kind = FL_CONV, .out = 4, .kernel = 1});
}

/* The layer kinds are described in the order of fl_kind, and a zeroed layer means the defaults. */
static void kinds(void) {
  CU_ASSERT_EQUAL(fl_layer_kinds.n, FL_KIND_COUNT);
  CU_ASSERT_STRING_EQUAL(fl_layer_kinds.entry[FL_CONV]->name, "conv");
  CU_ASSERT_STRING_EQUAL(fl_layer_kinds.entry[FL_CONV]->param[0].name, "out");
  CU_ASSERT_STRING_EQUAL(fl_layer_kinds.entry[FL_ADD]->name, "add");
  for (int k = 0; k < fl_layer_kinds.n; k++) {
    const fl_record *r = fl_layer_kinds.entry[k];
    CU_ASSERT_EQUAL(r->args_size, sizeof(fl_layer));
    CU_ASSERT_PTR_NOT_NULL(r->help);
    CU_ASSERT(r->n_param >= 2);
  }
}

static double mean_loss(rig *r) {
  rig_forward(r, true);
  rig_loss(r);
  return r->loss[0] / r->rows[0];
}

/* Every weight of every net by central differences on the reference backend. */
static void gradient(void) {
  for (int k = 0; k < FL_COUNT(nets); k++) {
    rig r = open_net(&fl_ref_ops, &nets[k], 1, 5);
    const float step = 1.0f / 4096;
    int wrong = 0;
    rig_train(&r);
    for (int i = 0; i < r.about->n_tensor; i++) {
      const fl_tensor *t = fl_model_tensor(r.model, i);
      for (int64_t j = t->at; j < t->at + t->count; j++) {
        float held = r.w[j];
        r.w[j] = held + step;
        double up = mean_loss(&r);
        r.w[j] = held - step;
        double down = mean_loss(&r);
        r.w[j] = held;
        double measured = (up - down) / (2 * (double)step), error = fabs(measured - r.g[j]);
        if (error <= 2e-4 + 5e-3 * fabs(measured)) continue;
        printf("%s %s[%lld]: %g, measured %g\n", nets[k].name, t->name, (long long)(j - t->at),
               r.g[j], measured);
        wrong++;
      }
    }
    CU_ASSERT_EQUAL(wrong, 0);
    rig_close(&r);
  }
}

/* A step straight into the weights is the gradient, then the step. */
static void fused_on(const fl_ops *ops) {
  for (int k = 0; k < 2 * FL_COUNT(nets); k++) {
    rig r = open_net(ops, &nets[k / 2], 2, 4);
    int64_t P = r.about->P;
    float *w0 = rig_floats(2 * P), *expected = rig_floats(2 * P), lr[2] = {0.1f, 0.3f};
    float minus[2] = {-lr[0], -lr[1]};
    int n_term = k % 2 ? 2 : 0;
    memcpy(w0, r.w, (size_t)(2 * P) * sizeof *w0);
    for (int64_t j = 0; j < 2 * P; j++) w0[j] *= 0.5f;
    fl_term term[2] = {{0.2f, fl_const(rig_w(&r))}, {-0.3f, {w0, P}}};
    fl_sink sink = {.at = rig_w(&r),
                    .scale = {0, minus},
                    .fused = true,
                    .lr = {0, lr},
                    .n_term = n_term,
                    .term = term};
    rig_train(&r);
    memcpy(expected, r.w, (size_t)(2 * P) * sizeof *w0);
    term[0].x = (fl_cspan){expected, P};
    CU_ASSERT_EQUAL(
        ops->step(r.dev, 2, P, fl_const(rig_g(&r)), sink.lr, n_term, term, (fl_span){expected, P}),
        FEDLANE_OK);
    term[0].x = fl_const(rig_w(&r));
    rig_forward(&r, true);
    rig_loss(&r);
    rig_backward(&r, &sink);
    for (int64_t j = 0; j < 2 * P; j++) CU_ASSERT_DOUBLE_EQUAL(r.w[j], expected[j], 2e-6);
    free(w0);
    free(expected);
    rig_close(&r);
  }
}

static void fused(void) { rig_on_each(fused_on); }

/* Outputs and gradients of lane c of `many` and lane 0 of `one` are the same bits. */
static void same_lane(rig *many, int c, rig *one) {
  int64_t out = fl_model_output_at(many->model, many->B), P = many->about->P;
  size_t live = (size_t)(many->rows[c] * many->about->n_output) * sizeof(float);
  CU_ASSERT_EQUAL(memcmp(many->act + c * many->act_stride + out, one->act + out, live), 0);
  CU_ASSERT_EQUAL(memcmp(many->g + c * P, one->g, (size_t)P * sizeof(float)), 0);
  CU_ASSERT_EQUAL(many->loss[c], one->loss[0]);
  CU_ASSERT_EQUAL(many->hit[c], one->hit[0]);
}

/* Three lanes at once, with differing weights, data and rows, are three times one lane. */
static void batching_on(const fl_ops *ops) {
  for (int k = 0; k < FL_COUNT(nets); k++) {
    rig many = open_net(ops, &nets[k], 3, 5);
    many.rows[1] = 3;
    many.rows[2] = 1;
    rig_train(&many);
    for (int c = 0; c < 3; c++) {
      rig one = open_net(ops, &nets[k], 1, 5);
      one.rows[0] = many.rows[c];
      one.client[0] = many.client[c];
      memcpy(one.index, many.index + (ptrdiff_t)c * 5, 5 * sizeof *one.index);
      memcpy(one.w, many.w + c * many.about->P, (size_t)many.about->P * sizeof(float));
      rig_train(&one);
      same_lane(&many, c, &one);
      rig_close(&one);
    }
    rig_close(&many);
  }
}

static void batching(void) { rig_on_each(batching_on); }

/* Weights read by all lanes at stride 0 are the same as a copy each. */
static void sharing_on(const fl_ops *ops) {
  for (int k = 0; k < FL_COUNT(nets); k++) {
    rig copies = open_net(ops, &nets[k], 3, 4), shared = open_net(ops, &nets[k], 3, 4);
    size_t P = (size_t)copies.about->P;
    for (size_t c = 1; c < 3; c++) memcpy(copies.w + c * P, copies.w, P * sizeof(float));
    shared.shared = true;
    for (size_t j = P; j < 3 * P; j++) shared.w[j] = NAN;
    rig_train(&copies);
    rig_train(&shared);
    CU_ASSERT_EQUAL(memcmp(copies.g, shared.g, 3 * P * sizeof(float)), 0);
    CU_ASSERT_EQUAL(memcmp(copies.loss, shared.loss, 3 * sizeof(double)), 0);
    rig_close(&copies);
    rig_close(&shared);
  }
}

static void sharing(void) { rig_on_each(sharing_on); }

/* Three rows in a buffer for five are a batch of three, and an evaluation's smaller buffers give
 * what training's give without dropout. */
static void rows_on(const fl_ops *ops) {
  for (int k = 0; k < FL_COUNT(nets); k++) {
    rig part = open_net(ops, &nets[k], 1, 5), full = open_net(ops, &nets[k], 1, 3);
    int64_t to = fl_model_output_at(part.model, 5), from = fl_model_output_at(full.model, 3);
    part.rows[0] = 3;
    part.drop = full.drop = false;
    rig_train(&part);
    rig_train(&full);
    for (int64_t j = 0; j < part.about->P; j++) {
      CU_ASSERT(isfinite(part.g[j]));
      CU_ASSERT_DOUBLE_EQUAL(part.g[j], full.g[j], 1e-5);
    }
    for (int j = 0; j < 3 * CLASSES; j++)
      CU_ASSERT_DOUBLE_EQUAL(part.act[to + j], full.act[from + j], 1e-5);
    full.act_stride = fl_model_act(full.model, 3, false);
    rig_forward(&full, false);
    for (int j = 0; j < 3 * CLASSES; j++)
      CU_ASSERT_DOUBLE_EQUAL(part.act[to + j], full.act[from + j], 1e-5);
    rig_close(&part);
    rig_close(&full);
  }
}

static void rows(void) { rig_on_each(rows_on); }

/* Buffers start at multiples of 16 floats, and sharing them keeps a lane small. */
static void memory(void) {
  fl_model *m = NULL;
  CU_ASSERT_EQUAL_FATAL(build_named("cnn_dropout", (fl_image){3, 32, 32}, 10, &m), FEDLANE_OK);
  for (int B = 1; B < 20; B += 6) {
    CU_ASSERT_EQUAL(fl_model_input_at(m, B) % 16, 0);
    CU_ASSERT_EQUAL(fl_model_output_at(m, B) % 16, 0);
    CU_ASSERT_EQUAL(fl_model_dout_at(m, B) % 16, 0);
    CU_ASSERT_EQUAL(fl_model_act(m, B, true) % 16, 0);
    /* What the two convolutions must keep for their gradients, and little more than once again. */
    CU_ASSERT(fl_model_act(m, B, true) < 2 * B * (3072 + 28800 + 50176));
    CU_ASSERT(fl_model_act(m, B, false) < B * (3072 + 16 + 28800 + 50176 + 16));
  }
  fl_model_close(&m);
}

static const fl_test tests[] = {
    {"parameter counts", counts},
    {"work", work},
    {"tensors", tensors},
    {"start", start},
    {"layers that do not fit", misfits},
    {"values out of range", misspelt},
    {"kinds", kinds},
    {"gradient", gradient},
    {"fused", fused},
    {"batching is invisible", batching},
    {"sharing is invisible", sharing},
    {"rows", rows},
    {"memory", memory},
};
FL_SUITE_MAIN("model", tests)
