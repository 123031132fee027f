/* Ops against values worked out by hand, on every backend. */
#include <math.h>
#include <string.h>

#include "op_cases.h"
#include "suite.h"

static const fl_span none = {NULL, 0};
static const int32_t row_1[] = {1}, row_2[] = {2}, row_3[] = {3};

static fl_span put(fl_rig *r, int n, const float *value) {
  fl_span s = {fl_rig_hold(r, value, n * (int64_t)sizeof *value), n};
  return s;
}

static void expect(fl_rig *r, fl_span s, int n, const float *want, double tolerance) {
  float got[512];
  CU_ASSERT_FATAL(n <= FL_COUNT(got));
  fl_rig_fetch(r, got, s.at, n * (int64_t)sizeof *got);
  for (int i = 0; i < n; i++) CU_ASSERT(fabs(got[i] - want[i]) <= tolerance);
}

static void expect_double(fl_rig *r, const double *at, double want, double tolerance) {
  double got;
  fl_rig_fetch(r, &got, at, sizeof got);
  CU_ASSERT_DOUBLE_EQUAL(got, want, tolerance);
}

enum { HEIGHT = 4, WIDTH = 5, CHANNELS = 2, SIZE = CHANNELS * HEIGHT * WIDTH, CROP = 2, ROWS = 8 };

/* The image with a zero border, cut at the drawn corner and mirrored: two plain copies. */
static void cut_by_hand(const float *image, fl_words drawn, float *out) {
  float padded[HEIGHT + 2 * CROP][WIDTH + 2 * CROP];
  int top = (int)((uint64_t)drawn.v[0] * (2 * CROP + 1) >> 32);
  int left = (int)((uint64_t)drawn.v[1] * (2 * CROP + 1) >> 32);
  for (int k = 0; k < CHANNELS; k++) {
    memset(padded, 0, sizeof padded);
    for (int h = 0; h < HEIGHT; h++)
      memcpy(&padded[h + CROP][CROP], &image[(k * HEIGHT + h) * WIDTH], WIDTH * sizeof(float));
    for (int h = 0; h < HEIGHT; h++)
      for (int w = 0; w < WIDTH; w++) {
        int from = drawn.v[2] & 1 ? WIDTH - 1 - w : w;
        out[(k * HEIGHT + h) * WIDTH + w] = padded[top + h][left + from];
      }
  }
}

static void check_gather(fl_rig *r) {
  uint8_t byte[3 * SIZE];
  float scaled[3][SIZE], want[ROWS * SIZE] = {0};
  const float shift[CHANNELS] = {8, 100}, scale[CHANNELS] = {0.5f, -0.25f};
  const int32_t label[3] = {4, 0, 9}, index[ROWS] = {2, 0, 1, 1, 2, 0, 0, -1}, rows[1] = {ROWS - 1};
  const uint32_t client[1] = {77}, nth[1] = {3};
  fl_draw draw = {5, FL_FOR_AUGMENT, 12, 4, 0, client, nth};
  fl_key key = fl_draw_key(&draw, 0);
  for (int i = 0; i < 3 * SIZE; i++) {
    int channel = i / (HEIGHT * WIDTH) % CHANNELS;
    byte[i] = (uint8_t)(i * 7 % 256);
    scaled[i / SIZE][i % SIZE] = ((float)byte[i] - shift[channel]) * scale[channel];
  }
  for (int row = 0; row < ROWS - 1; row++)
    cut_by_hand(scaled[index[row]], fl_rng_block(&key, (uint32_t)row), want + row * SIZE);
  fl_source source = {.image = {CHANNELS, HEIGHT, WIDTH},
                      .bytes = true,
                      .n_label = 1,
                      .shift = shift,
                      .scale = scale,
                      .crop = CROP,
                      .flip = true};
  source.x = fl_rig_hold(r, byte, sizeof byte);
  source.label = fl_rig_hold(r, label, sizeof label);
  fl_batch b = {1, ROWS, rows}, all = {1, ROWS, (const int32_t[]){ROWS}};
  fl_span x = put(r, ROWS * SIZE, want), plain = put(r, ROWS * SIZE, want);
  int32_t *labels = fl_rig_hold(r, NULL, ROWS * sizeof *labels), got[ROWS];
  CU_ASSERT_EQUAL(r->ops->gather(r->dev, b, &source, fl_rig_hold(r, index, sizeof index), ROWS,
                                 &draw, x, labels, none),
                  FEDLANE_OK);
  CU_ASSERT_EQUAL(r->ops->flatten(r->dev, all, source.image, false, fl_const(x), plain),
                  FEDLANE_OK);
  expect(r, plain, ROWS * SIZE, want, 0);
  fl_rig_fetch(r, got, labels, sizeof got);
  for (int row = 0; row < ROWS - 1; row++) CU_ASSERT_EQUAL(got[row], label[index[row]]);
  CU_ASSERT_EQUAL(got[ROWS - 1], -1);
}

static void test_gather(void) { fl_each_backend(check_gather); }

/* Three equal logits: loss log 3, and only label 0 is a hit, since the first largest wins. */
static void check_xent(fl_rig *r) {
  const int32_t label[3] = {0, 2, -1};
  const double zero = 0;
  const int64_t no_hit = 0;
  const float z[9] = {5, 5, 5, -1, -1, -1, 0, 0, 0}, a = 1.0f / 3;
  const float want[9] = {0.5f * (a - 1), 0.5f * a, 0.5f * a, 0.5f * a, 0.5f * a, 0.5f * (a - 1)};
  fl_batch b = {1, 3, row_2};
  fl_span dz = put(r, 9, z);
  double *loss = fl_rig_hold(r, &zero, sizeof zero);
  int64_t *hit = fl_rig_hold(r, &no_hit, sizeof no_hit), hits;
  CU_ASSERT_EQUAL(r->ops->xent(r->dev, b, 3, fl_all(0.5), fl_rig_hold(r, label, sizeof label),
                               fl_const(put(r, 9, z)), dz, loss, hit),
                  FEDLANE_OK);
  expect(r, dz, 9, want, 1e-7);
  expect_double(r, loss, 2 * log(3), 1e-6);
  fl_rig_fetch(r, &hits, hit, sizeof hits);
  CU_ASSERT_EQUAL(hits, 1);
}

static void test_xent(void) { fl_each_backend(check_xent); }

static void check_regress(fl_rig *r) {
  const double zero = 0;
  /* Gradients are norm / T = 1 times the slope. */
  const float z[4] = {1, 2, 3, 0}, target[4] = {1, 0, 2.5f, 0};
  const float mse[4] = {0, 4, 1, 0}, huber[4] = {0, 1, 0.5f, 0};
  fl_batch b = {1, 2, row_2};
  fl_cspan zs = fl_const(put(r, 4, z)), ts = fl_const(put(r, 4, target));
  fl_span dz = put(r, 4, z);
  double *loss = fl_rig_hold(r, &zero, sizeof zero);
  CU_ASSERT_EQUAL(r->ops->regress(r->dev, b, 2, FL_LOSS_MSE, 0, fl_all(2), ts, zs, dz, loss),
                  FEDLANE_OK);
  expect(r, dz, 4, mse, 1e-6);
  expect_double(r, loss, (4 + 0.25) / 2, 1e-6);
  loss = fl_rig_hold(r, &zero, sizeof zero);
  CU_ASSERT_EQUAL(r->ops->regress(r->dev, b, 2, FL_LOSS_HUBER, 1, fl_all(2), ts, zs, dz, loss),
                  FEDLANE_OK);
  expect(r, dz, 4, huber, 1e-6);
  expect_double(r, loss, (1.5 + 0.125) / 2, 1e-6);
}

/* Far from zero the exponential has no place in a float, and yet both loss and slope do. */
static void check_logistic(fl_rig *r) {
  const double zero = 0;
  const float z[4] = {0, 1000, -1000, logf(3)}, target[4] = {1, 1, 1, 0.5f};
  const float slope[4] = {-0.5f, 0, -1, 0.25f};
  fl_batch b = {1, 2, row_2};
  fl_span dz = put(r, 4, z);
  double *loss = fl_rig_hold(r, &zero, sizeof zero);
  CU_ASSERT_EQUAL(r->ops->regress(r->dev, b, 2, FL_LOSS_LOGISTIC, 0, fl_all(2),
                                  fl_const(put(r, 4, target)), fl_const(put(r, 4, z)), dz, loss),
                  FEDLANE_OK);
  expect(r, dz, 4, slope, 1e-6);
  expect_double(r, loss, (log(2) + 0 + 1000 + log(4) - log(3) / 2) / 2, 1e-6);
}

static void test_logistic(void) { fl_each_backend(check_logistic); }

static void test_regress(void) { fl_each_backend(check_regress); }

static void check_clip(fl_rig *r) {
  const float v[6] = {3, 4, 0.1f, -0.2f, 0, 0}, want[6] = {0.6f, 0.8f, 0.1f, -0.2f, 0, 0};
  fl_span y = put(r, 6, v);
  y.stride = 2;
  CU_ASSERT_EQUAL(r->ops->clip(r->dev, 3, 2, 1, y), FEDLANE_OK);
  expect(r, y, 2, want, 1e-7);
  y.at += 2;
  expect(r, y, 4, want + 2, 0);
}

static void test_clip(void) { fl_each_backend(check_clip); }

static void check_adaptive(fl_rig *r) {
  const float u[2] = {1, -2}, m[2] = {0.5f, 0}, v[2] = {4, 1}, w[2] = {10, 10};
  const fl_adaptive kind[3] = {FL_ADAGRAD, FL_ADAM, FL_YOGI};
  /* u^2 is 1 and 4, so Yogi shrinks the first moment and lets the second grow. */
  const float second[3][2] = {{5, 5}, {3.25f, 1.75f}, {3.75f, 2}};
  const float first[2] = {0.75f, -1};
  for (int k = 0; k < 3; k++) {
    fl_span ms = put(r, 2, m), vs = put(r, 2, v), ws = put(r, 2, w);
    float want[2];
    for (int i = 0; i < 2; i++) want[i] = w[i] + 0.1f * first[i] / (sqrtf(second[k][i]) + 0.5f);
    CU_ASSERT_EQUAL(r->ops->adaptive(r->dev, 2, kind[k], 0.1f, 0.5f, 0.75f, 0.5f, put(r, 2, u).at,
                                     ms.at, vs.at, ws.at),
                    FEDLANE_OK);
    expect(r, ms, 2, first, 1e-7);
    expect(r, vs, 2, second[k], 1e-6);
    expect(r, ws, 2, want, 1e-6);
  }
}

static void test_adaptive(void) { fl_each_backend(check_adaptive); }

static fl_measure measured(fl_rig *r, int n, const float *x) {
  fl_measure got, *out = fl_rig_hold(r, NULL, sizeof *out);
  CU_ASSERT_EQUAL(r->ops->measure(r->dev, 1, n, fl_const(put(r, n, x)), out), FEDLANE_OK);
  fl_rig_fetch(r, &got, out, sizeof got);
  return got;
}

static void check_measure(fl_rig *r) {
  const float bad[3] = {NAN, INFINITY, -INFINITY};
  float x[77] = {0};
  fl_measure m = measured(r, 77, x);
  CU_ASSERT(m.sum2 == 0 && m.peak == 0);
  x[3] = 3, x[70] = -4;
  m = measured(r, 77, x);
  CU_ASSERT(m.sum2 == 25 && m.peak == 4);
  x[3] = 1e-42f, x[70] = -3e38f;
  m = measured(r, 77, x);
  CU_ASSERT(m.peak == (double)x[70] * -1 && fabs(m.sum2 / m.peak / m.peak - 1) < 1e-12);
  for (int i = 0; i < 3; i++)
    for (int at = 0; at < 77; at += 19) {
      float kept = x[at];
      x[at] = bad[i];
      CU_ASSERT(measured(r, 77, x).peak == INFINITY);
      x[at] = kept;
    }
}

static void test_measure(void) { fl_each_backend(check_measure); }

/* A NaN that enters comes out again, so that a lane gone wrong is seen. */
static void check_nan(fl_rig *r) {
  const float x[4] = {1, NAN, 2, -1}, one[4] = {1, 1, 1, 1};
  const fl_window whole = {{1, 2, 2}, {1, 1, 1}, 2, 2, 0};
  const double zero = 0;
  fl_batch b = {1, 1, row_1};
  fl_cspan xs = fl_const(put(r, 4, x)), ws = fl_const(put(r, 4, one));
  fl_span y[5];
  double *loss = fl_rig_hold(r, &zero, sizeof zero), total;
  for (int i = 0; i < 5; i++) y[i] = put(r, 4, one);
  CU_ASSERT_EQUAL(r->ops->dense_fwd(r->dev, b, 4, 1, xs, ws, fl_const(none), y[0]), FEDLANE_OK);
  CU_ASSERT_EQUAL(r->ops->conv_fwd(r->dev, b, &whole, xs, ws, fl_const(none), y[1]), FEDLANE_OK);
  CU_ASSERT_EQUAL(r->ops->pool_fwd(r->dev, b, &whole, FL_POOL_MAX, xs, y[2]), FEDLANE_OK);
  CU_ASSERT_EQUAL(r->ops->act_fwd(r->dev, b, FL_ACT_RELU, 4, xs, y[3]), FEDLANE_OK);
  CU_ASSERT_EQUAL(r->ops->step(r->dev, 1, 4, xs, fl_all(1), 0, NULL, y[4]), FEDLANE_OK);
  CU_ASSERT_EQUAL(r->ops->regress(r->dev, b, 4, FL_LOSS_MSE, 1, fl_all(1), ws, xs, none, loss),
                  FEDLANE_OK);
  for (int i = 0; i < 5; i++) {
    float got[4];
    fl_rig_fetch(r, got, y[i].at, sizeof got);
    CU_ASSERT(isnan(got[i < 3 ? 0 : 1]));
  }
  fl_rig_fetch(r, &total, loss, sizeof total);
  CU_ASSERT(isnan(total));
}

static void test_nan_travels(void) { fl_each_backend(check_nan); }

enum { N = 37 };

/* In place, as the walker calls them, gives the bits of the call with two buffers. */
static void check_in_place(fl_rig *r) {
  const fl_act kind[3] = {FL_ACT_RELU, FL_ACT_TANH, FL_ACT_SIGMOID};
  const uint32_t client[1] = {1}, nth[1] = {0};
  fl_draw draw = {5, FL_FOR_DROPOUT, 1, 1, 1, client, nth};
  fl_batch b = {1, 3, row_3};
  float x[3 * N], y[3 * N];
  for (int i = 0; i < 3 * N; i++) x[i] = 0.1f * (float)(i % 29 - 14);
  fl_cspan in = fl_const(put(r, 3 * N, x));
  fl_span out = put(r, 3 * N, x), same;
  for (int k = 0; k < 3; k++) {
    same = put(r, 3 * N, x);
    CU_ASSERT_EQUAL(r->ops->act_fwd(r->dev, b, kind[k], N, in, out), FEDLANE_OK);
    CU_ASSERT_EQUAL(r->ops->act_fwd(r->dev, b, kind[k], N, fl_const(same), same), FEDLANE_OK);
    fl_rig_fetch(r, y, out.at, sizeof y);
    expect(r, same, 3 * N, y, 0);
    same = put(r, 3 * N, x);
    CU_ASSERT_EQUAL(r->ops->act_bwd(r->dev, b, kind[k], N, in, in, out), FEDLANE_OK);
    CU_ASSERT_EQUAL(r->ops->act_bwd(r->dev, b, kind[k], N, in, fl_const(same), same), FEDLANE_OK);
    fl_rig_fetch(r, y, out.at, sizeof y);
    expect(r, same, 3 * N, y, 0);
  }
  same = put(r, 3 * N, x);
  CU_ASSERT_EQUAL(r->ops->dropout(r->dev, b, N, 0.3f, &draw, in, out), FEDLANE_OK);
  CU_ASSERT_EQUAL(r->ops->dropout(r->dev, b, N, 0.3f, &draw, fl_const(same), same), FEDLANE_OK);
  fl_rig_fetch(r, y, out.at, sizeof y);
  expect(r, same, 3 * N, y, 0);
}

static void test_in_place(void) { fl_each_backend(check_in_place); }

static const fl_test tests[] = {
    {"gather", test_gather},      {"cross-entropy", test_xent},
    {"regression", test_regress}, {"logistic", test_logistic},
    {"clip", test_clip},          {"adaptive", test_adaptive},
    {"measure", test_measure},    {"nan travels", test_nan_travels},
    {"in place", test_in_place},
};

FL_SUITE_MAIN("op_values", tests)
