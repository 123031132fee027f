/* Walks: gradients by differences, and that batching, sharing, fusing and short batches change
 * nothing. */
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

/* Energies of filters, as a square after a convolution makes them, and a square that is read later.
 */
static const fl_layer energy[] = {
    {.kind = FL_CONV, .out = 4, .kernel = 3, .pad = 1},
    {.kind = FL_SQUARE},
    {.kind = FL_AVG_POOL, .kernel = 2},
    {.kind = FL_GROUP_NORM, .groups = 1},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .out = 5},
    {.kind = FL_SQUARE},
    {.kind = FL_TANH},
    {.kind = FL_ADD, .skip = -2},
    {.kind = FL_DENSE},
};

/* Relu and dropout over the same buffer after a max pool, as cnn_dropout has them, and a sigmoid
 * that must not write over what relu still needs. */
static const fl_layer pool_first[] = {
    {.kind = FL_CONV, .out = 3, .kernel = 3},
    {.kind = FL_MAX_POOL},
    {.kind = FL_RELU},
    {.kind = FL_DROPOUT, .p = 0.25},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .out = 7},
    {.kind = FL_RELU},
    {.kind = FL_DROPOUT, .p = 0.5},
    {.kind = FL_SIGMOID},
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

/* Flattening images of one channel moves nothing: the model's input, and what a gradient passes. */
static const fl_layer flat_input[] = {
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .out = 6},
    {.kind = FL_TANH},
    {.kind = FL_DENSE},
};
static const fl_layer flat_inside[] = {
    {.kind = FL_CONV, .out = 1, .kernel = 3},
    {.kind = FL_TANH},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE},
};

/* Sequences: tokens first, a value of a recurrent layer that is read twice, and the last step or
 * all of them. */
static const fl_layer of_tokens[] = {
    {.kind = FL_EMBED, .out = 3},
    {.kind = FL_LSTM, .out = 5},
    {.kind = FL_GRU, .out = 5},
    {.kind = FL_ADD, .skip = -2},
    {.kind = FL_DENSE, .out = 6},
    {.kind = FL_TANH},
    {.kind = FL_LAST},
    {.kind = FL_DENSE},
};

/* A recurrent layer that comes first has no data gradient. */
static const fl_layer of_values[] = {
    {.kind = FL_LSTM, .out = 4}, {.kind = FL_TANH},  {.kind = FL_DROPOUT, .p = 0.2},
    {.kind = FL_LAST},           {.kind = FL_DENSE},
};

static const fl_layer of_series[] = {
    {.kind = FL_GRU, .out = 4}, {.kind = FL_LAST}, {.kind = FL_DENSE}};

/* A sequence of features through attention that looks both ways, learnt positions and norms, with
 * an answer at each step. */
static const fl_layer both_ways[] = {
    {.kind = FL_DENSE, .out = 6},
    {.kind = FL_POSITION},
    {.kind = FL_LAYER_NORM},
    {.kind = FL_DENSE, .name = "in_proj_", .out = 18},
    {.kind = FL_ATTENTION, .heads = 2},
    {.kind = FL_DROPOUT, .p = 0.2},
    {.kind = FL_ADD, .skip = -4},
    {.kind = FL_LAYER_NORM},
    {.kind = FL_DENSE},
};

/* A transformer of tokens whose output is tied to its embedding, with an answer at each step and
 * one. */
static const fl_layer tied[] = {
    {.kind = FL_EMBED, .out = 4},
    {.kind = FL_SCALE},
    {.kind = FL_WAVES},
    {.kind = FL_DENSE, .out = 12},
    {.kind = FL_ATTENTION, .heads = 2, .causal = true},
    {.kind = FL_DENSE, .out = 4},
    {.kind = FL_ADD, .skip = -4},
    {.kind = FL_LAYER_NORM},
    {.kind = FL_SCALE, .factor = -0.5},
    {.kind = FL_DENSE, .tie = -9},
};

static const fl_layer one_answer[] = {
    {.kind = FL_EMBED, .out = 4},
    {.kind = FL_DENSE, .out = 12},
    {.kind = FL_ATTENTION, .heads = 1},
    {.kind = FL_LAST},
    {.kind = FL_LAYER_NORM},
    {.kind = FL_DENSE, .tie = -5},
};

enum { CLASSES = 4, EXAMPLES = 64, ANSWERS = 6 };

static const struct net {
  const char *name;
  const fl_layer *layer;
  int n_layer;
  fl_image input;
  int tokens, steps;
} nets[] = {
    {"every_kind", every_kind, FL_COUNT(every_kind), {3, 8, 8}},
    {"energy", energy, FL_COUNT(energy), {2, 6, 6}},
    {"pool_first", pool_first, FL_COUNT(pool_first), {2, 8, 8}},
    {"tangled", tangled, FL_COUNT(tangled), {2, 4, 4}},
    {"flat_input", flat_input, FL_COUNT(flat_input), {1, 5, 5}},
    {"flat_inside", flat_inside, FL_COUNT(flat_inside), {1, 5, 5}},
    {"answers", of_tokens, FL_COUNT(of_tokens), {1, 1, 1, 5}, 7, 5},
    {"one answer", of_tokens, FL_COUNT(of_tokens), {1, 1, 1, 5}, 7, 0},
    {"of_values", of_values, FL_COUNT(of_values), {3, 1, 1, 4}, 0, 0},
    {"of_series", of_series, FL_COUNT(of_series), {2, 1, 1, 6}, 0, 0},
    {"both_ways", both_ways, FL_COUNT(both_ways), {3, 1, 1, 5}, 0, 5},
    {"tied", tied, FL_COUNT(tied), {1, 1, 1, 6}, CLASSES, 6},
    {"tied, one answer", one_answer, FL_COUNT(one_answer), {1, 1, 1, 3}, CLASSES, 0},
};

/* Examples that any net here can read: values or tokens of no meaning and labels that go round,
 * some of which do not count where there are several. */
static float pixels[EXAMPLES * 3 * 8 * 8];
static int32_t labels[EXAMPLES * ANSWERS];

static void aim(rig *r) {
  static const float zero[3], one[3] = {1, 1, 1};
  int tokens = r->about->tokens, n_label = r->about->answer_steps > 0 ? r->about->answer_steps : 1;
  for (int i = 0; i < FL_COUNT(pixels); i++)
    pixels[i] = tokens > 0 ? (float)(i * i % 31 % tokens) : sinf(1.7f * (float)i * (float)i);
  for (int i = 0; i < EXAMPLES * n_label; i++)
    labels[i] = n_label > 1 && i % 3 == 1 ? -1 : i * 7 % CLASSES;
  r->source = (fl_source){.image = r->about->input,
                          .n_label = n_label,
                          .x = pixels,
                          .label = labels,
                          .shift = zero,
                          .scale = one};
}

static rig open_net(const fl_ops *ops, const struct net *n, int C, int B) {
  fl_model *model = NULL;
  const fl_ends ends = {
      .input = n->input, .tokens = n->tokens, .n_output = CLASSES, .steps = n->steps};
  fl_status status = fl_model_build(n->name, n->n_layer, n->layer, FL_INIT_TORCH, &ends, &model);
  if (status != FEDLANE_OK) printf("%s\n", fedlane_error());
  CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
  rig r = rig_open(ops, model, C, B);
  aim(&r);
  return r;
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
  int answers = many->about->answer_steps > 0 ? many->about->answer_steps : 1;
  size_t live = (size_t)(many->rows[c] * answers * many->about->n_output) * sizeof(float);
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

/* Each dropout layer draws a mask of its own, scales what it keeps, and rests in evaluation. */
static void dropout_on(const fl_ops *ops) {
  enum { N = 400 };
  static const fl_layer layers[] = {
      {.kind = FL_DROPOUT, .p = 0.5}, {.kind = FL_DROPOUT, .p = 0.5}, {.kind = FL_DENSE}};
  static float zero[N], one[N];
  fl_model *model = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_model_build("drops", FL_COUNT(layers), layers, FL_INIT_GLOROT,
                                       &(fl_ends){.input = {N, 1, 1}, .n_output = 1}, &model),
                        FEDLANE_OK);
  rig r = rig_open(ops, model, 1, 1);
  const float *z = r.act + fl_model_output_at(model, 1);
  for (int i = 0; i < N; i++) one[i] = r.w[i] = 1;
  r.source = (fl_source){
      .image = {N, 1, 1}, .n_label = 1, .x = one, .label = labels, .shift = zero, .scale = one};
  rig_forward(&r, true);
  CU_ASSERT(*z > 250 && *z < 550);
  rig_forward(&r, false);
  CU_ASSERT_EQUAL(*z, N);
  rig_close(&r);
}

static void dropout(void) { rig_on_each(dropout_on); }

static const fl_test tests[] = {
    {"gradient", gradient},
    {"fused", fused},
    {"batching is invisible", batching},
    {"sharing is invisible", sharing},
    {"rows", rows},
    {"dropout", dropout},
};
FL_SUITE_MAIN("walk", tests)
