/* What only the cpu backend promises: which oneDNN kernels it gets, one thread whatever the caller
 * does, few batch sizes, and its own loops against oneDNN and against plain ones. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "cpu/cpu.h"
#include "suite.h"

static float *noise(int64_t n, uint32_t seed) {
  fl_rng rng = fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_DATA});
  float *x = aligned_alloc(64, (size_t)(n + 16) / 16 * 64);
  for (int64_t i = 0; x && i < n; i++) x[i] = (float)(fl_rng_unit(&rng) - 0.5);
  return x;
}

static fl_dev *device(void) {
  fl_dev_options options = {0, FL_MATH_FP32};
  fl_dev *d = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_cpu_ops.open(&options, &d), FEDLANE_OK);
  return d;
}

static fl_window window(int in, int size, int out, int kernel, int stride, int pad) {
  int to = (size + 2 * pad - kernel) / stride + 1;
  return (fl_window){{in, size, size}, {out, to, to}, kernel, stride, pad};
}

static fl_window flat_window(int in, int width, int out, int kernel, int pad) {
  return (fl_window){{in, 1, width}, {out, 1, width + 2 * pad - kernel + 1}, kernel, 1, pad, true};
}

/* The convolutions of cnn_dropout, cnn_fedavg, lenet, cnn_feddyn and resnet18_gn, and those of
 * other kinds in pilotnet, mobilenet_small and cnn_rul. */
static void no_model_gets_a_slow_kernel(void) {
  const fl_window shape[] = {
      window(3, 32, 32, 3, 1, 0),    window(32, 30, 64, 3, 1, 0),   window(1, 28, 32, 3, 1, 0),
      window(32, 26, 64, 3, 1, 0),   window(1, 28, 32, 5, 1, 2),    window(32, 14, 64, 5, 1, 2),
      window(3, 32, 6, 5, 1, 0),     window(1, 28, 6, 5, 1, 2),     window(6, 14, 16, 5, 1, 0),
      window(3, 32, 64, 5, 1, 0),    window(64, 14, 64, 5, 1, 0),   window(3, 32, 64, 3, 1, 1),
      window(64, 32, 64, 3, 1, 1),   window(64, 32, 128, 3, 2, 1),  window(64, 32, 128, 1, 2, 0),
      window(128, 16, 128, 3, 1, 1), window(256, 8, 256, 3, 1, 1),  window(256, 8, 512, 3, 2, 1),
      window(512, 4, 512, 3, 1, 1),  window(24, 31, 36, 5, 2, 0),   window(36, 14, 48, 5, 2, 0),
      window(32, 32, 64, 1, 1, 0),   flat_window(14, 30, 32, 5, 2), flat_window(32, 30, 32, 5, 2)};
  fl_dev *d = device();
  for (int i = 0; i < FL_COUNT(shape); i++)
    for (int pass = FL_PASS_FWD; pass <= FL_PASS_BWD_WEIGHTS; pass++) {
      fl_nn_conv *conv = NULL;
      bool bias = pass != FL_PASS_BWD_DATA;
      CU_ASSERT_EQUAL_FATAL(fl_nn_conv_get(d->nn, (fl_pass)pass, 3, bias, &shape[i], &conv),
                            FEDLANE_OK);
      CU_ASSERT_NOT_EQUAL(strncmp(fl_nn_conv_name(conv), "ref", 3), 0);
    }
  fl_cpu_ops.close(&d);
}

static void primitives_are_made_once(void) {
  fl_window s = window(3, 9, 16, 3, 1, 1);
  fl_dev *d = device();
  fl_nn_conv *first = NULL, *again = NULL, *other = NULL;
  fl_window unlike; /* in what lies behind its last field */
  memset(&unlike, 255, sizeof unlike);
  unlike.in = s.in, unlike.out = s.out;
  unlike.kernel = s.kernel, unlike.stride = s.stride, unlike.pad = s.pad, unlike.flat = s.flat;
  CU_ASSERT_EQUAL(fl_nn_conv_get(d->nn, FL_PASS_FWD, 4, true, &s, &first), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_nn_conv_get(d->nn, FL_PASS_FWD, 4, true, &unlike, &again), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_nn_conv_get(d->nn, FL_PASS_FWD, 5, true, &s, &other), FEDLANE_OK);
  CU_ASSERT_PTR_EQUAL(first, again);
  CU_ASSERT_PTR_NOT_EQUAL(first, other);
  fl_cpu_ops.close(&d);
}

/* Everything that oneDNN computes, from a device opened by the caller's thread. */
enum { OUT = 4 * 32 * 8 * 8 + 4 * 5 * 8 * 8 + 5 * 32 * 25 + 32 + 9 * 40 + 9 * 300 + 40 * 300 };
static void compute(float *out) {
  fl_dev *d = device();
  fl_window s = window(5, 8, 32, 5, 1, 2);
  fl_batch b = {1, 4, &(int32_t){4}};
  float *x = noise(4 * 5 * 64, 1), *y = noise(4 * 32 * 64, 2), *w = noise(5 * 32 * 25, 3);
  float *a = noise(9 * 300, 4), *e = noise(9 * 40, 5), *v = noise(40 * 300, 6), *at = out;
  memset(out, 0, OUT * sizeof *out);
  fl_cpu_conv_fwd(d, b, &s, (fl_cspan){x, 0}, (fl_cspan){w, 0}, (fl_cspan){w, 0}, (fl_span){at, 0});
  at += 4 * 32 * 64;
  fl_cpu_conv_bwd_data(d, b, &s, (fl_cspan){y, 0}, (fl_cspan){w, 0}, (fl_span){at, 0});
  at += 4 * 5 * 64;
  fl_cpu_conv_bwd_weights(d, b, &s, (fl_cspan){x, 0}, (fl_cspan){y, 0}, fl_all(1), (fl_span){at, 0},
                          (fl_span){at + 5 * 32 * 25, 0});
  at += 5 * 32 * 25 + 32;
  fl_nn_gemm(9, 40, 300, 1, (fl_matrix){a, 300, false}, (fl_matrix){v, 300, true}, 0, at, 40);
  at += 9 * 40;
  fl_nn_gemm(9, 300, 40, 1, (fl_matrix){e, 40, false}, (fl_matrix){v, 300, false}, 0, at, 300);
  at += 9 * 300;
  fl_nn_gemm(40, 300, 9, 1, (fl_matrix){e, 40, true}, (fl_matrix){a, 300, false}, 0, at, 300);
  free(x), free(y), free(w), free(a), free(e), free(v);
  fl_cpu_ops.close(&d);
}

static void threads_do_not_change_bits(void) {
  float *outside = noise(OUT, 7), *alone = noise(OUT, 8), *team[3];
  for (int i = 0; i < 3; i++) team[i] = noise(OUT, 9);
  int before = omp_get_max_threads();
  omp_set_num_threads(3);
  compute(outside);
  CU_ASSERT_EQUAL(omp_get_max_threads(), 3);
#pragma omp parallel num_threads(1)
  compute(alone);
#pragma omp parallel num_threads(3)
  compute(team[omp_get_thread_num()]);
  omp_set_num_threads(before);
  CU_ASSERT_EQUAL(memcmp(outside, alone, OUT * sizeof(float)), 0);
  for (int i = 0; i < 3; i++) {
    CU_ASSERT_EQUAL(memcmp(outside, team[i], OUT * sizeof(float)), 0);
    free(team[i]);
  }
  CU_ASSERT(isnormal(outside[0]));
  free(outside), free(alone);
}

static void four_batch_sizes_are_enough(void) {
  for (int B = 1; B <= 50; B++) {
    int sizes = 0, last = 0;
    for (int32_t rows = 0; rows <= B; rows++) {
      int used = fl_rows_used((fl_batch){1, B, &rows}, 0);
      CU_ASSERT(used >= rows && used <= B);
      CU_ASSERT(rows > 0 || used == 0);
      sizes += used != last;
      last = used;
    }
    CU_ASSERT_EQUAL(last, B);
    CU_ASSERT(sizes <= 4);
  }
}

static double distance(int64_t n, const float *a, const float *b) {
  double most = 0, size = 0;
  for (int64_t i = 0; i < n; i++) {
    most = fmax(most, fabs((double)a[i] - b[i]));
    size = fmax(size, fabs((double)b[i]));
  }
  return most / size;
}

/* Blocks that end inside an image, patches over every edge, more blocks than one. */
static void winograd_agrees_with_onednn(void) {
  const fl_window shape[] = {window(16, 9, 16, 3, 1, 0), window(32, 13, 48, 3, 1, 1),
                             window(48, 8, 16, 3, 1, 2), window(32, 30, 64, 3, 1, 0)};
  enum { IMAGES = 3 };
  fl_dev *d = device();
  for (int i = 0; i < FL_COUNT(shape); i++) {
    const fl_window *s = &shape[i];
    int64_t nx = IMAGES * fl_image_size(s->in), ny = IMAGES * fl_image_size(s->out);
    int64_t nw = (int64_t)s->in.channels * s->out.channels * 9;
    float *x = noise(nx, 1), *y = noise(ny, 2), *w = noise(nw, 3), *bias = noise(64, 4);
    float *a = noise(nx + ny + nw, 5), *b = noise(nx + ny + nw, 6), *ga = calloc(64, sizeof *ga);
    float *gb = calloc(64, sizeof *gb);
    fl_nn_conv *conv = NULL;
    CU_ASSERT_TRUE(fl_wino_fits(s));
    fl_wino_fwd(d, IMAGES, s, x, w, bias, &(fl_after){0}, a);
    fl_nn_conv_get(d->nn, FL_PASS_FWD, IMAGES, true, s, &conv);
    fl_nn_conv_run(d->nn, conv, x, w, bias, b);
    CU_ASSERT(distance(ny, a, b) < 1e-5);
    fl_wino_bwd_data(d, IMAGES, s, y, w, &(fl_after){0}, a);
    fl_nn_conv_get(d->nn, FL_PASS_BWD_DATA, IMAGES, false, s, &conv);
    fl_nn_conv_run(d->nn, conv, b, w, NULL, y);
    CU_ASSERT(distance(nx, a, b) < 1e-5);
    memset(a, 0, (size_t)nw * sizeof *a);
    fl_wino_bwd_weights(d, IMAGES, s, x, y, 1, a, ga);
    fl_nn_conv_get(d->nn, FL_PASS_BWD_WEIGHTS, IMAGES, true, s, &conv);
    fl_nn_conv_run(d->nn, conv, x, b, gb, y);
    CU_ASSERT(distance(nw, a, b) < 1e-5);
    CU_ASSERT(distance(s->out.channels, ga, gb) < 1e-5);
    free(x), free(y), free(w), free(bias), free(a), free(b), free(ga), free(gb);
  }
  fl_cpu_ops.close(&d);
}

/* In every place of a window, of vectors of channels and of planes. */
static void a_nan_travels_through_a_block(void) {
  const int channels[] = {16, 3};
  for (int i = 0; i < FL_COUNT(channels); i++)
    for (int place = 0; place < 4; place++) {
      fl_image in = {channels[i], 2, 2}, out = {channels[i], 1, 1};
      fl_window s = {in, out, 2, 2, 0};
      float x[16 * 4], y[16];
      uint8_t mask[16];
      for (int k = 0; k < 16 * 4; k++) x[k] = 1;
      for (int k = 0; k < channels[i]; k++)
        x[fl_beside(channels[i]) == 16 ? place * 16 + k : k * 4 + place] = NAN;
      fl_cpu_pool_relu(1, &s, x, y, mask);
      for (int k = 0; k < channels[i]; k++) {
        CU_ASSERT(isnan(y[k]));
        CU_ASSERT_EQUAL(mask[k], 4);
      }
    }
}

/* Rows, columns and outputs that fill no tile, and more rows than a chunk. */
static void dense_has_no_edges(void) {
  const int shape[][3] = {{1, 1, 1}, {4, 17, 3}, {5, 513, 4}, {41, 1030, 9}};
  fl_dev *d = device();
  for (int i = 0; i < FL_COUNT(shape); i++) {
    int B = shape[i][0], I = shape[i][1], O = shape[i][2];
    float *x = noise(B * I, 1), *w = noise(I * O, 2), *bias = noise(O, 3), *y = noise(B * O, 4);
    float *want = noise(B * O, 5);
    fl_batch b = {1, B, &(int32_t){B}};
    CU_ASSERT_EQUAL(fl_cpu_dense_fwd(d, b, I, O, (fl_cspan){x, 0}, (fl_cspan){w, 0},
                                     (fl_cspan){bias, 0}, (fl_span){y, 0}),
                    FEDLANE_OK);
    for (int k = 0; k < B * O; k++) {
      double sum = bias[k % O];
      for (int j = 0; j < I; j++) sum += (double)x[k / O * I + j] * w[k % O * I + j];
      want[k] = (float)sum;
    }
    CU_ASSERT(distance(B * O, y, want) < 1e-6);
    free(x), free(w), free(bias), free(y), free(want);
  }
  fl_cpu_ops.close(&d);
}

static void words_are_the_stream(void) {
  fl_key key = {1, FL_FOR_NOISE, 3, 4, 5, 6, 7};
  const uint32_t first[] = {0, 16, 0xFFFFFFF8u};
  for (int i = 0; i < FL_COUNT(first); i++) {
    uint32_t words[FL_WORDS];
    fl_cpu_words(&key, first[i], words);
    for (uint32_t k = 0; k < FL_WORDS; k++)
      CU_ASSERT_EQUAL(words[k], fl_rng_block(&key, first[i] + k / 4).v[k % 4]);
  }
}

static void memory_is_aligned_and_bounded(void) {
  const int64_t size[] = {0, 1, 100, 1 << 20, 5 << 20};
  fl_dev *d = device();
  void *at = NULL;
  int64_t room = 0;
  for (int i = 0; i < FL_COUNT(size); i++) {
    CU_ASSERT_EQUAL_FATAL(fl_cpu_ops.alloc(d, size[i], &at), FEDLANE_OK);
    CU_ASSERT_EQUAL((uintptr_t)at % 64, 0);
    memset(at, 1, (size_t)size[i]);
    fl_cpu_ops.release(d, &at);
    CU_ASSERT_PTR_NULL(at);
  }
  CU_ASSERT_EQUAL(fl_cpu_ops.alloc(d, INT64_MAX, &at), FEDLANE_MEMORY);
  CU_ASSERT_EQUAL(fl_cpu_ops.room(d, &room), FEDLANE_OK);
  CU_ASSERT(room > 1 << 20);
  fl_cpu_ops.close(&d);
  CU_ASSERT_PTR_NULL(d);
}

static void only_fp32(void) {
  fl_dev_options options = {0, FL_MATH_BF16};
  fl_dev *d = NULL;
  CU_ASSERT_EQUAL(fl_cpu_ops.open(&options, &d), FEDLANE_UNSUPPORTED);
  CU_ASSERT_PTR_NULL(d);
}

/* One pass over weights that change under it gives the bits of the two passes, whatever the groups
 * of rows that dead ones are in. */
static void go_back(fl_dev *d, int B, int live, bool biased) {
  enum { I = 2500, O = 7 };
  fl_batch b = {1, B, &live};
  float *x = noise(B * I, 1), *dy = noise(B * O, 2), *w = noise(O * I, 3), *once = noise(O * I, 3);
  float *dx[2] = {noise(B * I, 4), noise(B * I, 4)}, bias[2][O] = {{0}};
  fl_cspan xs = {x, 0}, dys = {dy, 0};
  fl_span gbias[2] = {{biased ? bias[0] : NULL, 0}, {biased ? bias[1] : NULL, 0}};
  memset(dy + live * O, 0, (size_t)((B - live) * O) * sizeof *dy);
  fl_cpu_dense_bwd_data(d, b, I, O, dys, (fl_cspan){w, 0}, (fl_span){dx[0], 0});
  fl_cpu_dense_bwd_weights(d, b, I, O, xs, dys, fl_all(-0.1), (fl_span){w, 0}, gbias[0]);
  fl_cpu_dense_bwd(d, b, I, O, xs, dys, (fl_cspan){once, 0}, (fl_span){dx[1], 0}, fl_all(-0.1),
                   (fl_span){once, 0}, gbias[1]);
  CU_ASSERT_EQUAL(memcmp(w, once, O * I * sizeof *w), 0);
  CU_ASSERT_EQUAL(memcmp(dx[0], dx[1], (size_t)(live * I) * sizeof *w), 0);
  CU_ASSERT_EQUAL(memcmp(bias[0], bias[1], sizeof bias[0]), 0);
  CU_ASSERT_EQUAL(bias[0][0] != 0, biased);
  free(x), free(dy), free(w), free(once), free(dx[0]), free(dx[1]);
}

static void dense_goes_back_at_once(void) {
  const int rows[][2] = {{10, 7}, {10, 10}, {20, 7}, {100, 60}}; /* B, live */
  fl_dev *d = device();
  for (int i = 0; i < FL_COUNT(rows); i++)
    for (int biased = 0; biased < 2; biased++) go_back(d, rows[i][0], rows[i][1], biased);
  fl_cpu_ops.close(&d);
}

/* Slopes of which most are zero take lines of weights, those of a narrower layer go all the way:
 * w -= 0.1 dy' x and dx = dy w by columns of a wide layer and by the same columns as layers of
 * their own. Groups of rows of each size, more outputs than a panel, more columns than a block. */
static void skipped_slopes_change_no_bit(void) {
  enum { I = 1108, O = 150, ROWS = 27, PARTS = 4, PART = I / PARTS };
  float *x = noise(ROWS * I, 1), *dy = noise(ROWS * O, 2), *dx = noise(ROWS * I, 3);
  float *w = noise(O * I, 4), *part = noise((2 * ROWS + O) * PART, 5), *gone = noise(O * I, 4);
  float *xs = part, *dxs = part + ROWS * PART, *ws = part + 2 * ROWS * PART;
  for (int r = 0; r < ROWS; r++)
    for (int o = 0; o < O; o++)
      if (o % 7 == 0 || (3 * r + o) % 12 > o % 11) dy[r * O + o] = 0;
  CU_ASSERT_FATAL(fl_cpu_dense_lines_fit(ROWS, I, O, dy));
  CU_ASSERT_FATAL(!fl_cpu_dense_lines_fit(ROWS, PART, O, dy));
  fl_cpu_dense_back(ROWS, ROWS, I, O, x, dy, gone, dx, -0.1f, gone);
  for (int p = 0; p < PARTS; p++) {
    for (int r = 0; r < ROWS; r++) memcpy(xs + r * PART, x + r * I + p * PART, 4 * PART);
    for (int o = 0; o < O; o++) memcpy(ws + o * PART, w + o * I + p * PART, 4 * PART);
    fl_cpu_dense_back(ROWS, ROWS, PART, O, xs, dy, ws, dxs, -0.1f, ws);
    for (int o = 0; o < O; o++)
      CU_ASSERT_EQUAL(memcmp(ws + o * PART, gone + o * I + p * PART, 4 * PART), 0);
    for (int r = 0; r < ROWS; r++)
      CU_ASSERT_EQUAL(memcmp(dxs + r * PART, dx + r * I + p * PART, 4 * PART), 0);
  }
  CU_ASSERT_NOT_EQUAL(memcmp(w, gone, 4 * O * I), 0);
  free(x), free(dy), free(dx), free(w), free(part), free(gone);
}

/* A layer that picks its examples does what gathering them and the layer do, in two lanes, whatever
 * the ends of rows and columns, and asks for no memory beyond its indices. */
static void pick(fl_dev *d, int I, int O, int B, int live) {
  enum { EXAMPLES = 30, NEXT = 3, C = 2 };
  const float shift = 100.5f, scale = -0.02f;
  const uint32_t none[C] = {0};
  const int32_t rows[C] = {live, live / 2};
  uint8_t *bytes = malloc((size_t)(EXAMPLES * I));
  int32_t *index = malloc((size_t)(C * (B + NEXT)) * sizeof *index);
  float *x = noise(C * B * I, 1), *dy = noise(C * B * O, 2), *added = noise(O, 6);
  float *w = noise(C * O * I, 3), *again = noise(C * O * I, 3);
  float *y[2] = {noise(C * B * O, 4), noise(C * B * O, 5)}, bias[2][C * FL_PICK_OUT] = {{0}};
  fl_batch b = {C, B, rows};
  fl_source source = {.image = {1, I, 1}, .bytes = true, .shift = &shift, .scale = &scale};
  fl_pick picked = {.source = &source, .index = index, .index_stride = B + NEXT, .yet = NEXT};
  fl_draw draw = {.client = none, .nth = none};
  fl_span nowhere = {NULL, 0}, xs = {x, (int64_t)B * I}, ws = {w, (int64_t)O * I};
  fl_span others = {again, (int64_t)O * I};
  fl_cspan dys = {dy, (int64_t)B * O}, starts = {added, 0};
  for (int i = 0; i < EXAMPLES * I; i++) bytes[i] = (uint8_t)(i * 167 % 251);
  for (int i = 0; i < C * (B + NEXT); i++) index[i] = i * 7 % EXAMPLES;
  source.x = bytes;
  fl_cpu_fetch(d, &source, live, index);
  fl_cpu_gather(d, b, &source, index, B + NEXT, &draw, xs, NULL, nowhere);
  fl_cpu_dense_fwd(d, b, I, O, fl_const(xs), fl_const(ws), starts, (fl_span){y[0], B * O});
  fl_cpu_dense_pick_fwd(d, b, O, &picked, fl_const(ws), starts, (fl_span){y[1], B * O});
  fl_cpu_dense_bwd_weights(d, b, I, O, fl_const(xs), dys, fl_all(-0.1), ws,
                           (fl_span){bias[0], FL_PICK_OUT});
  fl_cpu_dense_pick_bwd_weights(d, b, O, &picked, dys, fl_all(-0.1), others,
                                (fl_span){bias[1], FL_PICK_OUT});
  bool good = true;
  for (int i = 0; i < C * B * O; i++) {
    bool dead = i % (B * O) >= rows[i / (B * O)] * O;
    good = good && fabsf(dead ? y[1][i] : y[0][i] - y[1][i]) <= 2e-6f * (4 + sqrtf((float)I));
  }
  for (int i = 0; i < C * O * I; i++) good = good && fabsf(w[i] - again[i]) <= 2e-6f;
  CU_ASSERT(good);
  CU_ASSERT_EQUAL(memcmp(bias[0], bias[1], sizeof bias[0]), 0);
  free(bytes), free(index), free(x), free(dy), free(w), free(again), free(added);
  free(y[0]), free(y[1]);
}

static void dense_picks_examples(void) {
  const int columns[] = {1, 15, 16, 17, 40, 63, 784},
            rows[][2] = {{1, 1}, {4, 3}, {10, 10}, {17, 16}};
  fl_dev *d = device();
  for (int i = 0; i < FL_COUNT(columns); i++)
    for (int k = 0; k < FL_COUNT(rows); k++)
      for (int O = 1; O <= FL_PICK_OUT; O++) pick(d, columns[i], O, rows[k][0], rows[k][1]);
  fl_cpu_ops.close(&d);
}

static const fl_test tests[] = {
    {"no model gets a slow kernel", no_model_gets_a_slow_kernel},
    {"primitives are made once", primitives_are_made_once},
    {"threads do not change bits", threads_do_not_change_bits},
    {"four batch sizes are enough", four_batch_sizes_are_enough},
    {"winograd agrees with onednn", winograd_agrees_with_onednn},
    {"a NaN travels through a block", a_nan_travels_through_a_block},
    {"dense has no edges", dense_has_no_edges},
    {"dense goes back at once", dense_goes_back_at_once},
    {"skipped slopes change no bit", skipped_slopes_change_no_bit},
    {"dense picks examples", dense_picks_examples},
    {"words are the stream", words_are_the_stream},
    {"memory is aligned and bounded", memory_is_aligned_and_bounded},
    {"only fp32", only_fp32},
};

FL_SUITE_MAIN("cpu", tests)
