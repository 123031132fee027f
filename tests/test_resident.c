/* Lanes that stay on chip for all their local epochs: the same weights as calls one by one give,
 * the same bits for any wave, and what cannot be taken is left to the usual way with a reason. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "suite.h"
#include "tape.h"

/* Ragged clients, several epochs, a last partial batch, augmentation. */
static const char *const setting =
    "seed: 11\nprecision: fp32\ndevice: %s\n"
    "data: {format: synthetic, examples: %d, test: 20, channels: %d, height: %d, width: %d,\n"
    "       classes: 5, crop: %d, flip: %s, partition: {kind: dirichlet, clients: 6, alpha: 1}}\n"
    "model: {%s}\n"
    "train: {rounds: 1, cohort: 3, epochs: 2, batch: %d, lr: 0.05}\neval: {every: 1, batch: "
    "20}\n%s";

typedef struct scene {
  int examples, channels, side, crop, batch;
  const char *model, *rest;
} scene;

static const scene scenes[] = {
    {60, 1, 8, 0, 10, "name: logistic", ""},
    {90, 1, 4, 1, 20, "name: mlp", ""},
    {60, 3, 8, 1, 10,
     "layers: [flatten, {dense: 40}, tanh, {dropout: 0.4}, {dense: 21}, gelu, {dense: 0}]",
     "algorithm: scaffold\n"},
    {60, 2, 9, 1, 10,
     "layers: [{conv: 5, kernel: 3, pad: 1}, relu, {max_pool: 2}, {conv: 7, kernel: 5, pad: 2}, "
     "sigmoid, "
     "flatten, "
     "{dense: 0}]",
     "algorithm: {name: feddyn, alpha: 0.1}\n"},
    {60, 3, 9, 0, 30,
     "layers: [{conv: 6, kernel: 5}, {max_pool: 3, stride: 2, pad: 1}, relu, "
     "{conv: 9, kernel: 3, no_bias: true}, {avg_pool: 0}, flatten, {dense: 0, no_bias: true}]",
     "algorithm: {name: fedprox, mu: 0.1}\n"},
    /* 40 channels of 16 x 16: a few of them at a time in shared memory. */
    {20, 40, 16, 0, 10, "layers: [{conv: 8, kernel: 3}, relu, {max_pool: 2}, flatten, {dense: 0}]",
     ""},
};

/* The backend with resident lanes when one of its devices can be opened; else NULL, and the test
 * says skipped. */
static const fl_ops *gpu(void) {
  const char *why = "this build has none";
  for (int i = 0; i < fl_backends.n; i++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[i];
    if (ops->resident && ops->count(&why) > 0) return ops;
  }
  printf("skipped: no GPU: %s\n", why);
  return NULL;
}

static void write_text(char *out, size_t size, const fl_ops *ops, const scene *s) {
  snprintf(out, size, setting, ops->record.name, s->examples, s->channels, s->side, s->side,
           s->crop, s->crop ? "true" : "false", s->model, s->batch, s->rest);
}

static void compare(const char *text, const char *override, double tolerance) {
  const char *usual[] = {"train.resident=false", override};
  int64_t P = 0, Q = 0;
  fedlane_metrics a, b;
  float *x = fl_fixture_train(text, 1, &override, &P, &a);
  float *y = fl_fixture_train(text, 2, usual, &Q, &b);
  double off = INFINITY, largest = 0;
  if (x && y && P == Q) off = 0;
  for (int64_t i = 0; x && y && i < P; i++) {
    largest = fmax(largest, fabs((double)y[i]));
    off = isfinite(x[i]) ? fmax(off, fabs((double)x[i] - y[i])) : INFINITY;
  }
  if (!(off <= tolerance * largest)) printf("\n    off by %.3g of %.3g: %s", off, largest, text);
  CU_ASSERT(off <= tolerance * largest);
  CU_ASSERT_DOUBLE_EQUAL(a.train_loss, b.train_loss, 1e-5 * b.train_loss);
  CU_ASSERT(a.train_accuracy == b.train_accuracy || isnan(b.train_accuracy));
  free(x);
  free(y);
}

static void test_as_calls_one_by_one(void) {
  const fl_ops *ops = gpu();
  for (int i = 0; ops && i < FL_COUNT(scenes); i++) {
    char text[2048];
    write_text(text, sizeof text, ops, &scenes[i]);
    compare(text, "train.weight_decay=0.01", 1e-5);
  }
}

static void test_losses_of_targets(void) {
  const fl_ops *ops = gpu();
  fl_quadratics q;
  char text[1024];
  static const char *const loss[] = {"train.loss=mse", "train.loss=huber"};
  if (!ops) return;
  fl_quadratics_open(&q, 4, 7, 6, 5);
  snprintf(
      text, sizeof text,
      "seed: 3\nprecision: fp32\ndevice: %s\n"
      "data: {format: safetensors, path: %s, normalise: none, partition: natural}\n"
      "model: {layers: [{dense: 9}, tanh, {dense: 1}]}\n"
      "train: {rounds: 2, cohort: 4, epochs: 2, batch: 3, lr: 0.05}\neval: {every: 0, batch: 20}\n",
      ops->record.name, q.path);
  for (int i = 0; i < FL_COUNT(loss); i++) compare(text, loss[i], 1e-5);
  fl_quadratics_as_classes(&q);
  compare(text, "train.loss=logistic", 1e-5);
  fl_quadratics_close(&q);
}

static void test_widths_are_invisible(void) {
  const fl_ops *ops = gpu();
  char text[2048];
  if (!ops) return;
  write_text(text, sizeof text, ops, &scenes[3]);
  fl_fixture_same(text, "width=1", "width=2");
  fl_fixture_same(text, "", "precision=tf32");
}

/* What a plan says of its steps. */
static void says(const char *text, const char *override, const char *sentence) {
  char plan[4096] = "";
  fedlane_run *run = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 1, &override, FL_OPEN_DRY, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_run_describe(run, plan, sizeof plan), FEDLANE_OK);
  if (!strstr(plan, sentence)) printf("\n    %s\n    not '%s'", plan, sentence);
  CU_ASSERT_PTR_NOT_NULL(strstr(plan, sentence));
  CU_ASSERT_EQUAL(run->plan.resident, strstr(sentence, "in one launch") != NULL);
  fedlane_close(&run);
}

static void test_a_plan_says_which_way(void) {
  const fl_ops *ops = gpu();
  static const struct {
    const char *override, *sentence;
  } plans[] = {
      {"train.epochs=1", "resident: all local epochs in one launch"},
      {"model.name=lenet", "resident: all local epochs in one launch"},
      {"train.resident=false", "a launch for each call: train.resident is false"},
      {"train.momentum=0.9", "need a gradient's buffer"},
      {"train.batch=0", "need a gradient's buffer"},
      {"model.name=cnn_fedavg", "more than one multiprocessor's work"},
      {"model.name=resnet18_gn", "group normalisation"},
      {"model={layers: [{conv: 4, kernel: 3, stride: 2}, flatten, {dense: 0}]}",
       "windows other than"},
      {"model={layers: [{depthwise: 3}, flatten, {dense: 0}]}", "depthwise convolutions"},
      {"model={layers: [as_sequence, as_image, {conv1d: 4, kernel: 3}, flatten, {dense: 0}]}",
       "sequences made of images"},
  };
  static const scene images = {60, 3, 32, 0, 50, "name: mlp", ""};
  char text[2048];
  if (!ops) return;
  write_text(text, sizeof text, ops, &images);
  for (int i = 0; i < FL_COUNT(plans); i++) says(text, plans[i].override, plans[i].sentence);
}

/* Blocks of layers: the same step from the slots that take a block at once. */
enum { LANES = 2, ROWS = 7, BATCH = 5, CLASSES = 3, SIDE = 9, HIDDEN = 6, PLACE = 4096 };

/* Where things lie, in places of PLACE floats: weights, then activations. */
enum {
  W1,
  B1,
  W2,
  B2,
  W3,
  X,
  CONV1,
  POOL1,
  MASK,
  Y1,
  Y2,
  FLAT,
  Z,
  DZ,
  DFLAT,
  DY2,
  DY1,
  DCONV1,
  ALL
};

/* What a step works on; (device) arrays. */
typedef struct bench {
  const fl_ops *ops;
  fl_dev *dev;
  void *floats, *x, *label, *index, *kept, *loss; /* kept: the batch's labels */
} bench;

static fl_span at(const bench *d, int place) {
  fl_span s = {(float *)d->floats + place * PLACE, ALL * PLACE};
  return s;
}

static fl_cspan from(const bench *d, int place) { return fl_const(at(d, place)); }

static const fl_window conv1 = {{2, SIDE, SIDE}, {HIDDEN, SIDE, SIDE}, 3, 1, 1};
static const fl_window pool1 = {{HIDDEN, SIDE, SIDE}, {HIDDEN, SIDE / 2, SIDE / 2}, 2, 2, 0};
static const fl_window conv2 = {{HIDDEN, 4, 4}, {5, 4, 4}, 5, 1, 2};
static const float shift[2] = {0.1f, 0.2f}, scale[2] = {2, 3};

/* Both convolutions forward, with their relus and the first one's pooling. */
static void go_forward(const bench *d, fl_dev *t, fl_batch b, bool blocks) {
  const fl_ops *ops = &fl_tape_ops;
  fl_image y1 = conv2.in, y2 = conv2.out;
  if (blocks) {
    ops->conv_relu_fwd(t, b, &conv1, &pool1, from(d, X), from(d, W1), from(d, B1), at(d, Y1),
                       at(d, MASK));
    ops->conv_relu_fwd(t, b, &conv2, NULL, from(d, Y1), from(d, W2), from(d, B2), at(d, Y2),
                       (fl_span){0});
    return;
  }
  ops->conv_fwd(t, b, &conv1, from(d, X), from(d, W1), from(d, B1), at(d, CONV1));
  ops->pool_fwd(t, b, &pool1, FL_POOL_MAX, from(d, CONV1), at(d, POOL1));
  ops->act_fwd(t, b, FL_ACT_RELU, fl_image_size(y1), from(d, POOL1), at(d, Y1));
  ops->conv_fwd(t, b, &conv2, from(d, Y1), from(d, W2), from(d, B2), at(d, Y2));
  ops->act_fwd(t, b, FL_ACT_RELU, fl_image_size(y2), from(d, Y2), at(d, Y2));
}

/* From the second convolution's gradient to that of the first one's output. */
static void go_back(const bench *d, fl_dev *t, fl_batch b, bool blocks) {
  const fl_ops *ops = &fl_tape_ops;
  if (blocks) {
    ops->conv_bwd_data_relu(t, b, &conv2, from(d, DY2), from(d, W2), from(d, Y1), at(d, DY1));
    ops->pool_relu_bwd(t, b, &pool1, from(d, MASK), from(d, DY1), at(d, DCONV1));
    return;
  }
  ops->conv_bwd_data(t, b, &conv2, from(d, DY2), from(d, W2), at(d, DY1));
  ops->act_bwd(t, b, FL_ACT_RELU, fl_image_size(conv2.in), from(d, Y1), from(d, DY1), at(d, DY1));
  ops->pool_bwd(t, b, &pool1, FL_POOL_MAX, from(d, CONV1), from(d, POOL1), from(d, DY1),
                at(d, DCONV1));
}

static void write_step(const bench *d, fl_tape *tape, bool blocks) {
  const fl_ops *ops = &fl_tape_ops;
  fl_dev *t = fl_tape_begin(tape);
  fl_batch b = {LANES, BATCH, NULL};
  fl_draw draw = {0};
  fl_source source = {.image = conv1.in,
                      .n_label = 1,
                      .x = d->x,
                      .label = d->label,
                      .shift = shift,
                      .scale = scale};
  fl_coef rate = fl_all(-0.1);
  int features = (int)fl_image_size(conv2.out);
  fl_cspan none = {0};
  fl_span nowhere = {0};
  ops->gather(t, b, &source, d->index, 2 * BATCH, &draw, at(d, X), d->kept, nowhere);
  go_forward(d, t, b, blocks);
  ops->flatten(t, b, conv2.out, false, from(d, Y2), at(d, FLAT));
  ops->dense_fwd(t, b, features, CLASSES, from(d, FLAT), from(d, W3), none, at(d, Z));
  ops->xent(t, b, CLASSES, fl_all(1), d->kept, from(d, Z), at(d, DZ), d->loss,
            (int64_t *)d->loss + LANES);
  ops->dense_bwd_data(t, b, features, CLASSES, from(d, DZ), from(d, W3), at(d, DFLAT));
  ops->dense_bwd_weights(t, b, features, CLASSES, from(d, FLAT), from(d, DZ), rate, at(d, W3),
                         nowhere);
  ops->flatten(t, b, conv2.out, true, from(d, DFLAT), at(d, DY2));
  ops->act_bwd(t, b, FL_ACT_RELU, features, from(d, Y2), from(d, DY2), at(d, DY2));
  go_back(d, t, b, blocks);
  ops->conv_bwd_weights(t, b, &conv2, from(d, Y1), from(d, DY2), rate, at(d, W2), at(d, B2));
  ops->conv_bwd_weights(t, b, &conv1, from(d, X), from(d, DCONV1), rate, at(d, W1), at(d, B1));
}

static void put(const bench *d, void **to, const void *data, int64_t bytes) {
  CU_ASSERT_EQUAL_FATAL(d->ops->alloc(d->dev, bytes, to), FEDLANE_OK);
  CU_ASSERT_EQUAL(d->ops->upload(d->dev, *to, data, bytes), FEDLANE_OK);
}

/* Two pieces of two lanes, the second with one row less; what all places hold then. */
static void train_blocks(bench *d, bool blocks, float *floats) {
  enum { IMAGE = 2 * SIDE * SIDE };
  static float x[ROWS * IMAGE];
  static fl_tape tape;
  int32_t label[ROWS], index[LANES * 2 * BATCH] = {0}, n_piece[] = {2, 2},
                                         n_row[] = {ROWS, ROWS - 1};
  uint32_t zero[LANES] = {0};
  int64_t loss[2 * LANES] = {0};
  fl_rng rng = fl_rng_open((fl_key){.seed = 5, .purpose = FL_FOR_DATA});
  for (int i = 0; i < ROWS * IMAGE; i++) x[i] = (float)fl_rng_normal(&rng);
  for (int i = 0; i < LANES * ALL * PLACE; i++) floats[i] = 0.2f * (float)fl_rng_normal(&rng);
  for (int i = 0; i < ROWS; i++) label[i] = i % CLASSES;
  for (int i = 0; i < ROWS; i++) index[i] = index[2 * BATCH + i] = i;
  put(d, &d->floats, floats, 4 * LANES * ALL * PLACE);
  put(d, &d->x, x, sizeof x);
  put(d, &d->label, label, sizeof label);
  put(d, &d->index, index, sizeof index);
  put(d, &d->kept, index, sizeof index);
  put(d, &d->loss, loss, sizeof loss);
  fl_pieces pieces = {LANES, 1, n_piece, n_row, zero, zero};
  write_step(d, &tape, blocks);
  CU_ASSERT_EQUAL(tape.n, blocks ? 14 : 18);
  CU_ASSERT_EQUAL(d->ops->resident(d->dev, &tape, &pieces), FEDLANE_OK);
  CU_ASSERT_EQUAL(d->ops->download(d->dev, floats, d->floats, 4 * LANES * ALL * PLACE), FEDLANE_OK);
  void **held[] = {&d->floats, &d->x, &d->label, &d->index, &d->kept, &d->loss};
  for (int i = 0; i < FL_COUNT(held); i++) d->ops->release(d->dev, held[i]);
}

static void test_blocks_give_the_same_bits(void) {
  static float plain[LANES * ALL * PLACE], block[LANES * ALL * PLACE];
  const fl_ops *ops = gpu();
  fl_devices devices;
  if (!ops) return;
  CU_ASSERT_EQUAL_FATAL(fl_devices_open(ops->record.name, FL_MATH_FP32, 0, &devices), FEDLANE_OK);
  bench d = {.ops = ops, .dev = devices.dev[0]};
  train_blocks(&d, false, plain);
  train_blocks(&d, true, block);
  for (int lane = 0; lane < LANES; lane++) {
    const float *a = plain + lane * ALL * PLACE, *b = block + lane * ALL * PLACE;
    CU_ASSERT_EQUAL(memcmp(a, b, 5 * PLACE * sizeof *a), 0);
    CU_ASSERT_EQUAL(memcmp(a + Y1 * PLACE, b + Y1 * PLACE, BATCH * PLACE / 10 * sizeof *a), 0);
    CU_ASSERT_EQUAL(memcmp(a + DCONV1 * PLACE, b + DCONV1 * PLACE, PLACE / 2 * sizeof *a), 0);
    CU_ASSERT(isfinite(a[Z * PLACE]) && isfinite(a[0]));
  }
  fl_devices_close(&devices);
}

static void test_a_tape_refuses(void) {
  static fl_tape tape;
  static const float factors[] = {1, 2};
  const fl_ops *ops = &fl_tape_ops;
  fl_batch b = {2, 4, NULL};
  fl_image s = {4, 2, 2};
  fl_coef by_lane = {0, factors};
  fl_cspan x = {0};
  fl_span y = {0};
  fl_dev *t = fl_tape_begin(&tape);
  CU_ASSERT_EQUAL(ops->step(t, 2, 8, x, by_lane, 0, NULL, y), FEDLANE_UNSUPPORTED);
  CU_ASSERT_EQUAL(ops->dense_bwd_weights(t, b, 2, 2, x, x, by_lane, y, y), FEDLANE_UNSUPPORTED);
  CU_ASSERT_EQUAL(ops->gnorm_fwd(t, b, s, 2, x, x, x, y, y), FEDLANE_UNSUPPORTED);
  CU_ASSERT_EQUAL(ops->lstm_fwd(t, b, 3, 2, x, y, y), FEDLANE_UNSUPPORTED);
  CU_ASSERT_EQUAL(ops->gru_fwd(t, b, 3, 2, x, x, y, y), FEDLANE_UNSUPPORTED);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "the model has recurrent layers"));
  CU_ASSERT_EQUAL(ops->embed_fwd(t, b, 3, 2, x, x, y), FEDLANE_UNSUPPORTED);
  CU_ASSERT_EQUAL(ops->last(t, b, 3, 2, false, x, y), FEDLANE_UNSUPPORTED);
  fl_source sequences = {.image = {1, 1, 1, 3}, .n_label = 1};
  fl_draw draw = {0};
  CU_ASSERT_EQUAL(ops->gather(t, b, &sequences, NULL, 0, &draw, y, NULL, y), FEDLANE_UNSUPPORTED);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "the data are sequences"));
  CU_ASSERT_EQUAL(tape.n, 0);
  for (int i = 0; i < FL_CALLS_MAX; i++)
    CU_ASSERT_EQUAL(ops->flatten(t, b, s, false, x, y), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->flatten(t, b, s, false, x, y), FEDLANE_UNSUPPORTED);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "more than 64 calls"));
  fl_tape_begin(&tape);
  CU_ASSERT_EQUAL(tape.n, 0);
}

static const fl_test tests[] = {
    {"a tape refuses what it cannot hold", test_a_tape_refuses},
    {"as calls one by one", test_as_calls_one_by_one},
    {"losses of targets", test_losses_of_targets},
    {"widths are invisible", test_widths_are_invisible},
    {"a plan says which way", test_a_plan_says_which_way},
    {"blocks give the same bits", test_blocks_give_the_same_bits},
};

FL_SUITE_MAIN("resident", tests)
