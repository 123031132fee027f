/* Models: sizes, names, initial weights, and tables that are refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_rig.h"

static const fl_image image = {3, 8, 8}, flat = {6, 1, 1}, oblong = {3, 8, 6};
static const fl_image sequence = {6, 1, 1, 7};
static const fl_image nothing = {0, 1, 1}, wide = {1 << 20, 1, 1}, huge = {1, 1 << 15, 1 << 14};

static fl_status build_named(const char *name, fl_image input, int n_output, fl_model **out) {
  const fl_model_spec *s = (const fl_model_spec *)fl_catalogue_find(&fl_models, name);
  CU_ASSERT_PTR_NOT_NULL_FATAL(s);
  return fl_model_build(name, s->n_layer, s->layer, s->init,
                        &(fl_ends){.input = input, .n_output = n_output}, out);
}

static void counts(void) {
  const struct {
    const char *name;
    fl_image input;
    int n_output;
    int64_t parameters;
  } known[] = {
      {"logistic", {1, 28, 28}, 10, 7850},          {"mlp", {1, 28, 28}, 10, 199210},
      {"cnn_fedavg", {1, 28, 28}, 10, 1663370},     {"cnn_dropout", {3, 32, 32}, 10, 1626442},
      {"cnn_dropout", {1, 28, 28}, 10, 1199882},    {"lenet", {3, 32, 32}, 10, 62006},
      {"cnn_feddyn", {3, 32, 32}, 10, 797962},      {"resnet18_gn", {3, 32, 32}, 10, 11173962},
      {"resnet18_gn", {3, 24, 24}, 100, 11220132},  {"logistic", {784, 1, 1}, 62, 48670},
      {"pilotnet", {3, 66, 200}, 1, 252219},        {"resnet20_gn", {3, 32, 32}, 10, 272474},
      {"mobilenet_small", {3, 48, 48}, 43, 291179}, {"mlp_tabular", {13, 1, 1}, 1, 3009},
      {"cnn_rul", {14, 1, 1, 30}, 1, 108777},
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

/* Networks over sequences, with the widths of their papers. */
static void sequence_counts(void) {
  const struct {
    const char *name;
    fl_ends ends;
    int64_t parameters;
  } known[] = {
      {"lstm_char", {{1, 1, 1, 80}, 90, 90, 80}, 820522},
      {"lstm_char", {{1, 1, 1, 80}, 90, 90, 0}, 820522},
      {"lstm_word", {{1, 1, 1, 20}, 10004, 10004, 20}, 4050748},
      {"gru_series", {{1, 1, 1, 12}, 0, 12, 0}, 13644},
      {"gru_series", {{14, 1, 1, 30}, 0, 1, 0}, 15425},
  };
  for (int k = 0; k < FL_COUNT(known); k++) {
    const fl_model_spec *s = (const fl_model_spec *)fl_catalogue_find(&fl_models, known[k].name);
    fl_model *m = NULL;
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    CU_ASSERT_EQUAL_FATAL(
        fl_model_build(known[k].name, s->n_layer, s->layer, s->init, &known[k].ends, &m),
        FEDLANE_OK);
    CU_ASSERT_EQUAL(fl_model_about(m)->parameters, known[k].parameters);
    fl_model_close(&m);
  }
}

/* A recurrent layer's tensors have PyTorch's names and start within its bound. */
static void recurrent_tensors(void) {
  static const char *const names[] = {"gru.weight_ih_l0", "gru.bias_ih_l0", "gru.weight_hh_l0",
                                      "gru.bias_hh_l0"};
  const fl_layer layer[] = {
      {.kind = FL_GRU, .name = "gru", .out = 9}, {.kind = FL_LAST}, {.kind = FL_DENSE}};
  const fl_ends ends = {.input = {2, 1, 1, 3}, .n_output = 1};
  fl_model *m = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_model_build("m", 3, layer, FL_INIT_TORCH, &ends, &m), FEDLANE_OK);
  float *w = rig_floats(fl_model_about(m)->P);
  fl_model_init(m, 1, w);
  for (int i = 0; i < FL_COUNT(names); i++) {
    const fl_tensor *t = fl_model_tensor(m, i);
    float peak = 0;
    CU_ASSERT_STRING_EQUAL(t->name, names[i]);
    for (int64_t k = 0; k < t->count; k++) peak = fmaxf(peak, fabsf(w[t->at + k]));
    CU_ASSERT(peak > 0.25f && peak <= 1 / 3.0f);
  }
  free(w);
  fl_model_close(&m);
}

/* Workload A1's figures: 33.67 and 99.46 million per example. */
static void work(void) {
  fl_model *m = NULL;
  CU_ASSERT_EQUAL_FATAL(build_named("cnn_dropout", (fl_image){3, 32, 32}, 10, &m), FEDLANE_OK);
  CU_ASSERT_DOUBLE_EQUAL(fl_model_about(m)->flop, 33.67e6, 0.005e6);
  CU_ASSERT_DOUBLE_EQUAL(fl_model_about(m)->flop_train, 99.46e6, 0.005e6);
  fl_model_close(&m);
}

/* Input 2 x 4 x 4, convolution 3 x 2 x 2, the same flattened, 5 outputs: 32 floats are written and
 * read, and 12 + 12 + 5 with their gradients; relu and dropout work in place. */
static void bytes(void) {
  const fl_layer layer[] = {{.kind = FL_CONV, .out = 3, .kernel = 3},
                            {.kind = FL_RELU},
                            {.kind = FL_FLATTEN},
                            {.kind = FL_DROPOUT, .p = 0.5},
                            {.kind = FL_DENSE}};
  fl_model *m = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_model_build("m", 5, layer, FL_INIT_TORCH,
                                       &(fl_ends){.input = {2, 4, 4}, .n_output = 5}, &m),
                        FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_model_about(m)->bytes_train, 8 * 32 + 16 * (12 + 12 + 5));
  CU_ASSERT_EQUAL(fl_model_about(m)->bytes_step, 12 * (3 * 18 + 3 + 5 * 12 + 5));
  CU_ASSERT_TRUE(fl_model_about(m)->draws);
  fl_model_close(&m);
  CU_ASSERT_EQUAL_FATAL(fl_model_build("m", 3, layer, FL_INIT_TORCH,
                                       &(fl_ends){.input = {2, 4, 4}, .n_output = 12}, &m),
                        FEDLANE_OK);
  CU_ASSERT_FALSE(fl_model_about(m)->draws);
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
  CU_ASSERT_EQUAL_FATAL(build_named("cnn_rul", (fl_image){14, 1, 1, 30}, 1, &m), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_model_tensor(m, 0)->n_dim, 3);
  CU_ASSERT_EQUAL(fl_model_tensor(m, 0)->dim[2], 5);
  CU_ASSERT_EQUAL(fl_model_tensor(m, 0)->fan_in, 14 * 5);
  fl_model_close(&m);
  const fl_layer nameless[] = {{.kind = FL_RELU}, {.kind = FL_DENSE}};
  CU_ASSERT_EQUAL_FATAL(fl_model_build("mine", 2, nameless, FL_INIT_TORCH,
                                       &(fl_ends){.input = flat, .n_output = 4}, &m),
                        FEDLANE_OK);
  CU_ASSERT_STRING_EQUAL(fl_model_tensor(m, 1)->name, "1.bias");
  fl_model_close(&m);
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
    double before = 0;
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
      if (constant) continue;
      CU_ASSERT(fabs(w[t->at] / limit - before) > 1e-5);
      before = w[t->at] / limit;
    }
    free(w);
    free(again);
    free(other);
    fl_model_close(&m);
  }
}

static void refused(int n, const fl_layer *layer, fl_image input, int n_output, const char *why) {
  fl_model *m = NULL;
  CU_ASSERT_EQUAL(fl_model_build("mine", n, layer, FL_INIT_TORCH,
                                 &(fl_ends){.input = input, .n_output = n_output}, &m),
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
  REFUSED(image, 4, "it takes images of height 1", {.kind = FL_CONV1D, .out = 1, .kernel = 3});
  REFUSED(sequence, 4, "put `as_image` before it", {.kind = FL_MAX_POOL1D});
  REFUSED(image, 4, "it takes a sequence", {.kind = FL_AS_IMAGE});
  REFUSED(sequence, 4, "this is a sequence", {.kind = FL_AS_SEQUENCE});
  REFUSED(sequence, 4, "ends with a sequence of 7 steps", {.kind = FL_DENSE});
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
    /* A block's end lives while its beginning is read. */
    CU_ASSERT(fl_model_act(m, B, false) < B * (3072 + 16 + 28800 + 50176 + 12544 + 3136 + 16));
  }
  fl_model_close(&m);
}

static const fl_test tests[] = {
    {"parameter counts", counts},
    {"parameter counts of sequences", sequence_counts},
    {"recurrent tensors", recurrent_tensors},
    {"work", work},
    {"bytes", bytes},
    {"tensors", tensors},
    {"start", start},
    {"layers that do not fit", misfits},
    {"values out of range", misspelt},
    {"kinds", kinds},
    {"memory", memory},
};
FL_SUITE_MAIN("model", tests)
