/* More lanes than one launch takes, more rows than one tile and more elements than one block: a
 * lane has the same bits as when it is alone, and the oracle's values, on every backend. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "op_cases.h"
#include "suite.h"

enum { LANES = 70, ROOM = 24 * 1024 }; /* ROOM: floats that a run keeps of a lane */

static float number(int lane, int64_t i) {
  fl_key key = {3, FL_FOR_DATA, 0, (uint32_t)lane, 0, 0, 0};
  return fl_unit_float(fl_rng_block(&key, (uint32_t)(i / 4)).v[i % 4]) - 0.5f;
}

/* What a run knows: lanes first .. first+C-1 of the LANES there are. */
typedef struct wide {
  fl_rig rig;
  int first, C, n; /* n: floats kept of each lane */
  int32_t rows[LANES];
  uint32_t client[LANES], nth[LANES];
  float factor[LANES];
  float *out; /* [C, ROOM] */
} wide;

static void *must_have(void *at) {
  if (!at) abort();
  return at;
}

/* C lanes of n numbers, different in each lane and for each salt. */
static fl_span numbers(wide *w, int salt, int64_t n) {
  float *host = must_have(malloc((size_t)(w->C * n) * sizeof *host));
  for (int c = 0; c < w->C; c++)
    for (int64_t i = 0; i < n; i++) host[c * n + i] = number(w->first + c, salt * 100000 + i);
  fl_span s = {fl_rig_hold(&w->rig, host, w->C * n * (int64_t)sizeof *host), n};
  free(host);
  return s;
}

/* Rows of n numbers, and zeros in the dead ones, as gradients are. */
static fl_span gradients(wide *w, int salt, fl_batch b, int64_t n) {
  fl_span s = numbers(w, salt, b.B * n);
  for (int c = 0; c < w->C; c++) {
    fl_span dead = {s.at + c * s.stride + b.rows[c] * n, 0};
    CU_ASSERT_EQUAL(w->rig.ops->fill(w->rig.dev, 1, (b.B - b.rows[c]) * n, 0, dead), FEDLANE_OK);
  }
  return s;
}

static void keep(wide *w, fl_span s, int c, int64_t n) {
  CU_ASSERT_FATAL(w->n + n <= ROOM);
  fl_rig_fetch(&w->rig, w->out + c * ROOM + w->n, s.at + c * s.stride, n * (int64_t)sizeof(float));
}

/* The first rows[c] rows of n floats, and zeros in place of the dead ones. */
static void keep_rows(wide *w, fl_batch b, fl_span s, int64_t n) {
  for (int c = 0; c < w->C; c++) keep(w, s, c, b.rows[c] * n);
  w->n += (int)(b.B * n);
}

static void keep_all(wide *w, fl_span s, int64_t n) {
  for (int c = 0; c < w->C; c++) keep(w, s, c, n);
  w->n += (int)n;
}

static void keep_doubles(wide *w, const double *at, int n) {
  double host[2 * LANES];
  fl_rig_fetch(&w->rig, host, at, w->C * n * (int64_t)sizeof *host);
  for (int c = 0; c < w->C; c++)
    for (int i = 0; i < n; i++) w->out[c * ROOM + w->n + i] = (float)host[c * n + i];
  w->n += n;
}

static fl_batch batch_of(wide *w, int B) {
  for (int c = 0; c < w->C; c++) w->rows[c] = B - (w->first + c) % 5;
  return (fl_batch){w->C, B, w->rows};
}

static fl_draw draw_of(const wide *w) {
  return (fl_draw){7, FL_FOR_NOISE, 2, 1, 0, w->client, w->nth};
}

static void run_dense(wide *w) {
  enum { B = 67, I = 36, O = 70 };
  const fl_ops *ops = w->rig.ops;
  fl_batch b = batch_of(w, B);
  fl_cspan x = fl_const(numbers(w, 1, B * I)), weight = fl_const(numbers(w, 2, I * O));
  fl_cspan bias = fl_const(numbers(w, 3, O)), dy = fl_const(gradients(w, 4, b, O));
  fl_span y = numbers(w, 5, B * O), dx = numbers(w, 6, B * I);
  fl_span gw = numbers(w, 7, I * O), gbias = numbers(w, 8, O);
  fl_dev *dev = w->rig.dev;
  fl_coef factor = {0, w->factor};
  CU_ASSERT_EQUAL(ops->dense_fwd(dev, b, I, O, x, weight, bias, y), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->dense_bwd_data(dev, b, I, O, dy, weight, dx), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->dense_bwd_weights(dev, b, I, O, x, dy, factor, gw, gbias), FEDLANE_OK);
  keep_rows(w, b, y, O);
  keep_rows(w, b, dx, I);
  keep_all(w, gw, I * O);
  keep_all(w, gbias, O);
}

/* One copy of the weights and biases for all lanes. */
static void run_shared_dense(wide *w) {
  enum { B = 10, I = 804, O = 70 };
  static float value[I * O];
  const fl_ops *ops = w->rig.ops;
  fl_batch b = batch_of(w, B);
  fl_cspan x = fl_const(numbers(w, 1, B * I)), dy = fl_const(gradients(w, 2, b, O));
  fl_span y = numbers(w, 3, B * O), dx = numbers(w, 4, B * I);
  for (int i = 0; i < I * O; i++) value[i] = number(0, i);
  fl_cspan weight = {fl_rig_hold(&w->rig, value, sizeof value), 0}, bias = weight;
  CU_ASSERT_EQUAL(ops->dense_fwd(w->rig.dev, b, I, O, x, weight, bias, y), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->dense_bwd_data(w->rig.dev, b, I, O, dy, weight, dx), FEDLANE_OK);
  keep_rows(w, b, y, O);
  keep_rows(w, b, dx, I);
}

static void run_losses(wide *w) {
  enum { B = 130, K = 5 };
  int32_t label[LANES * B];
  double zero[LANES] = {0};
  int64_t none[LANES] = {0}, hit[LANES];
  fl_batch b = batch_of(w, B);
  fl_coef factor = {0, w->factor};
  fl_cspan z = fl_const(numbers(w, 1, B * K)), target = fl_const(numbers(w, 2, B * K));
  fl_span dz = numbers(w, 3, B * K), slope = numbers(w, 4, B * K);
  for (int i = 0; i < w->C * B; i++)
    label[i] = i % B < b.rows[i / B] ? (w->first + i / B + i % B) % K : -1;
  int32_t *labels = fl_rig_hold(&w->rig, label, w->C * B * (int64_t)sizeof *label);
  double *loss = fl_rig_hold(&w->rig, zero, sizeof zero);
  double *error = fl_rig_hold(&w->rig, zero, sizeof zero);
  int64_t *hits = fl_rig_hold(&w->rig, none, sizeof none);
  CU_ASSERT_EQUAL(w->rig.ops->xent(w->rig.dev, b, K, factor, labels, z, dz, loss, hits),
                  FEDLANE_OK);
  CU_ASSERT_EQUAL(
      w->rig.ops->regress(w->rig.dev, b, K, FL_LOSS_HUBER, 0.25f, factor, target, z, slope, error),
      FEDLANE_OK);
  keep_all(w, dz, B * K);
  keep_all(w, slope, B * K);
  keep_doubles(w, loss, 1);
  keep_doubles(w, error, 1);
  fl_rig_fetch(&w->rig, hit, hits, w->C * (int64_t)sizeof *hit);
  for (int c = 0; c < w->C; c++) w->out[c * ROOM + w->n] = (float)hit[c];
  w->n++;
}

static void run_vectors(wide *w) {
  enum { N = 4099 };
  const fl_ops *ops = w->rig.ops;
  fl_dev *dev = w->rig.dev;
  fl_draw draw = draw_of(w);
  fl_coef factor = {0, w->factor};
  fl_span x = numbers(w, 1, N), y = numbers(w, 2, N), z = numbers(w, 3, N), u = numbers(w, 4, N);
  fl_term term = {0.5f, fl_const(z)};
  fl_measure *size = fl_rig_hold(&w->rig, NULL, LANES * sizeof *size);
  CU_ASSERT_EQUAL(ops->step(dev, w->C, N, fl_const(x), factor, 1, &term, y), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->axpby(dev, w->C, N, factor, fl_const(y), fl_all(2), z), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->clip(dev, w->C, N, 9, z), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->normal(dev, w->C, N, &draw, factor, y), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->uniform(dev, w->C, N, &draw, -1, 1, u), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->measure(dev, w->C, N, fl_const(y), size), FEDLANE_OK);
  keep_all(w, y, N);
  keep_all(w, z, N);
  keep_all(w, u, N);
  keep_doubles(w, (const double *)(const void *)size, 2);
}

static void run_gather(wide *w) {
  enum { CHANNELS = 150, PIXELS = 6, SIZE = CHANNELS * PIXELS, EXAMPLES = 4, B = 3 };
  float shift[CHANNELS], scale[CHANNELS], pixel[EXAMPLES * SIZE];
  int32_t index[LANES * B];
  fl_image image = {CHANNELS, 2, 3};
  fl_batch b = {w->C, B, w->rows};
  fl_draw draw = draw_of(w);
  for (int k = 0; k < CHANNELS; k++) shift[k] = number(0, k), scale[k] = 1 + number(1, k);
  for (int i = 0; i < EXAMPLES * SIZE; i++) pixel[i] = number(2, i);
  for (int i = 0; i < w->C * B; i++) index[i] = (w->first + i / B + i % B) % EXAMPLES;
  for (int c = 0; c < w->C; c++) w->rows[c] = B - (w->first + c) % B;
  fl_source source = {.image = image, .shift = shift, .scale = scale, .crop = 1, .flip = true};
  source.x = fl_rig_hold(&w->rig, pixel, sizeof pixel);
  source.target = fl_rig_hold(&w->rig, pixel, sizeof pixel);
  source.n_target = 2;
  int32_t *order = fl_rig_hold(&w->rig, index, w->C * B * (int64_t)sizeof *index);
  fl_span x = numbers(w, 1, B * SIZE), flat = numbers(w, 2, B * SIZE), t = numbers(w, 3, B * 2);
  CU_ASSERT_EQUAL(w->rig.ops->gather(w->rig.dev, b, &source, order, B, &draw, x, NULL, t),
                  FEDLANE_OK);
  CU_ASSERT_EQUAL(w->rig.ops->flatten(w->rig.dev, b, image, false, fl_const(x), flat), FEDLANE_OK);
  keep_rows(w, b, flat, SIZE);
  keep_all(w, t, B * 2);
}

/* Runs lanes first .. first+C-1 on a device; the caller frees what comes back. */
static float *run_lanes(const fl_ops *ops, fl_dev *dev, void (*run)(wide *w), int first, int C) {
  wide *w = must_have(calloc(1, sizeof *w));
  float *out = must_have(calloc((size_t)C * ROOM, sizeof *out));
  w->rig = (fl_rig){.ops = ops, .dev = dev};
  w->first = first;
  w->C = C;
  w->out = out;
  for (int c = 0; c < C; c++) {
    w->client[c] = (uint32_t)(500 + first + c);
    w->nth[c] = (uint32_t)(first + c) % 3;
    w->factor[c] = 0.1f + 0.01f * (float)(first + c);
  }
  run(w);
  CU_ASSERT(w->n > 0);
  fl_rig_close(&w->rig);
  free(w);
  return out;
}

static void check_lane(fl_rig *r, void (*run)(wide *w), int lane, const float *got) {
  fl_dev_options options = {0, FL_MATH_FP32};
  fl_dev *oracle = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_ref_ops.open(&options, &oracle), FEDLANE_OK);
  float *alone = run_lanes(r->ops, r->dev, run, lane, 1), worst = 0, largest = 0;
  float *want = run_lanes(&fl_ref_ops, oracle, run, lane, 1);
  CU_ASSERT_EQUAL(memcmp(alone, got, ROOM * sizeof *got), 0);
  for (int i = 0; i < ROOM; i++) {
    worst = fmaxf(worst, fabsf(got[i] - want[i]));
    largest = fmaxf(largest, fabsf(want[i]));
  }
  CU_ASSERT(worst <= 1e-5f * largest);
  CU_ASSERT(largest > 0);
  free(alone);
  free(want);
  fl_ref_ops.close(&oracle);
}

static void check_run(fl_rig *r, void (*run)(wide *w)) {
  const int lane[] = {0, 1, 63, 64, LANES - 1};
  float *together = run_lanes(r->ops, r->dev, run, 0, LANES);
  for (int i = 0; i < FL_COUNT(lane); i++) check_lane(r, run, lane[i], together + lane[i] * ROOM);
  free(together);
}

static void check_dense(fl_rig *r) { check_run(r, run_dense); }
static void check_shared_dense(fl_rig *r) { check_run(r, run_shared_dense); }
static void check_losses(fl_rig *r) { check_run(r, run_losses); }
static void check_vectors(fl_rig *r) { check_run(r, run_vectors); }
static void check_gather(fl_rig *r) { check_run(r, run_gather); }

/* Lanes that take turns between three accumulators, every fifth of them left out. */
static void check_mix(fl_rig *r) {
  enum { N = 1029, ACCUMULATORS = 3 };
  static int64_t want[ACCUMULATORS][N], got[N];
  static float x[LANES][N];
  int64_t *acc[LANES], *level[ACCUMULATORS];
  double factor[LANES];
  memset(want, 0, sizeof want);
  for (int k = 0; k < ACCUMULATORS; k++) level[k] = fl_rig_hold(r, want[k], sizeof want[k]);
  for (int c = 0; c < LANES; c++) {
    acc[c] = level[c % ACCUMULATORS];
    factor[c] = c % 5 ? ldexp(c, 20) : 0;
    for (int i = 0; i < N; i++) {
      x[c][i] = number(c, i);
      if (factor[c] != 0) want[c % ACCUMULATORS][i] += llrint(x[c][i] * factor[c]);
    }
  }
  fl_cspan lanes = {fl_rig_hold(r, x, sizeof x), N};
  CU_ASSERT_EQUAL(r->ops->mix(r->dev, LANES, N, lanes, factor, acc), FEDLANE_OK);
  for (int k = 0; k < ACCUMULATORS; k++) {
    fl_rig_fetch(r, got, level[k], sizeof got);
    CU_ASSERT_EQUAL(memcmp(got, want[k], sizeof got), 0);
  }
}

static void test_dense(void) { fl_each_backend(check_dense); }
static void test_shared_dense(void) { fl_each_backend(check_shared_dense); }
static void test_losses(void) { fl_each_backend(check_losses); }
static void test_vectors(void) { fl_each_backend(check_vectors); }
static void test_gather(void) { fl_each_backend(check_gather); }
static void test_mix(void) { fl_each_backend(check_mix); }

static const fl_test tests[] = {
    {"dense", test_dense},   {"shared dense", test_shared_dense},
    {"losses", test_losses}, {"vectors", test_vectors},
    {"gather", test_gather}, {"mix", test_mix},
};

FL_SUITE_MAIN("op_wide", tests)
