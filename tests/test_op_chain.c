/* A local step through a small network, on memory that holds NaN before: what a walker does, with
 * lanes that have fewer rows than there is room for. */
#include <math.h>

#include "op_cases.h"
#include "suite.h"

enum { LANES = 3, B = 8, K = 4, CHANNELS = 16, FLAT = CHANNELS * 3 * 3, HIDDEN = 20 };
static const fl_window conv = {{2, 8, 8}, {CHANNELS, 6, 6}, 3, 1, 0};
static const fl_window pool = {{CHANNELS, 6, 6}, {CHANNELS, 3, 3}, 2, 2, 0};
enum { W_CONV = 0, N_CONV = 2 * CHANNELS * 9, W_DENSE = N_CONV, N_DENSE = FLAT * HIDDEN };
enum { W_OUT = W_DENSE + N_DENSE, N_OUT = HIDDEN * K, P = (W_OUT + N_OUT + 15) / 16 * 16 };

/* The lanes' activations, all NaN at first, and gradients of the weights, zero at first. */
typedef struct net {
  fl_span x, y1, y2, flat, y3, z, d3, dflat, d2, d1;
  fl_span g;
  fl_cspan w; /* shared */
  int32_t *label;
  double *loss;
  int64_t *hit;
} net;

static fl_span nans(fl_rig *r, int64_t n) {
  int64_t stride = (n + 15) / 16 * 16;
  fl_span s = {fl_rig_hold(r, NULL, LANES * stride * (int64_t)sizeof(float)), stride};
  return s;
}

static fl_span slice(fl_span s, int64_t at) {
  s.at += at;
  return s;
}

static fl_cspan read(fl_cspan s, int64_t at) {
  s.at += at;
  return s;
}

static net new_net(fl_rig *r) {
  const double no_loss[LANES] = {0};
  const int64_t no_hit[LANES] = {0};
  static float w[P], zero[LANES * P];
  fl_key key = {1, FL_FOR_INIT, 0, 0, 0, 0, 0};
  fl_rng rng = fl_rng_open(key);
  for (int i = 0; i < P; i++) w[i] = 0.4f * fl_unit_float(fl_rng_u32(&rng)) - 0.2f;
  net n = {.x = nans(r, B * fl_image_size(conv.in)),
           .y1 = nans(r, B * fl_image_size(conv.out)),
           .y2 = nans(r, B * FLAT),
           .flat = nans(r, B * FLAT),
           .y3 = nans(r, B * HIDDEN),
           .z = nans(r, B * K),
           .d3 = nans(r, B * HIDDEN),
           .dflat = nans(r, B * FLAT),
           .d2 = nans(r, B * FLAT),
           .d1 = nans(r, B * fl_image_size(conv.out)),
           .g = {fl_rig_hold(r, zero, sizeof zero), P},
           .w = {fl_rig_hold(r, w, sizeof w), 0},
           .label = fl_rig_hold(r, NULL, LANES * B * sizeof(int32_t)),
           .loss = fl_rig_hold(r, no_loss, sizeof no_loss),
           .hit = fl_rig_hold(r, no_hit, sizeof no_hit)};
  return n;
}

/* Lane c sees the examples 5c, 5c+1 ...; 20 of them are made up here. */
static fl_status load(fl_rig *r, fl_batch b, net *n) {
  enum { EXAMPLES = 20, SIZE = 2 * 8 * 8 };
  static float x[EXAMPLES * SIZE];
  const float shift[2] = {0, 0}, scale[2] = {1, 1};
  int32_t label[EXAMPLES], index[LANES * B];
  for (int i = 0; i < EXAMPLES * SIZE; i++) x[i] = (float)(i * 37 % 101) / 50 - 1;
  for (int i = 0; i < EXAMPLES; i++) label[i] = i % K;
  for (int i = 0; i < LANES * B; i++) index[i] = (5 * (i / B) + i % B) % EXAMPLES;
  fl_source source = {.image = conv.in,
                      .n_label = 1,
                      .shift = shift,
                      .scale = scale,
                      .x = fl_rig_hold(r, x, sizeof x),
                      .label = fl_rig_hold(r, label, sizeof label)};
  const uint32_t client[LANES] = {0, 1, 2}, nth[LANES] = {0};
  fl_draw draw = {1, FL_FOR_AUGMENT, 1, 1, 0, client, nth};
  int32_t *at = fl_rig_hold(r, index, sizeof index);
  return r->ops->gather(r->dev, b, &source, at, B, &draw, n->x, n->label, (fl_span){NULL, 0});
}

static fl_status forward(fl_rig *r, fl_batch b, net *n) {
  const fl_ops *ops = r->ops;
  const fl_cspan none = {NULL, 0};
  FL_TRY(ops->conv_fwd(r->dev, b, &conv, fl_const(n->x), n->w, none, n->y1));
  FL_TRY(ops->act_fwd(r->dev, b, FL_ACT_RELU, fl_image_size(conv.out), fl_const(n->y1), n->y1));
  FL_TRY(ops->pool_fwd(r->dev, b, &pool, FL_POOL_MAX, fl_const(n->y1), n->y2));
  FL_TRY(ops->flatten(r->dev, b, pool.out, false, fl_const(n->y2), n->flat));
  FL_TRY(
      ops->dense_fwd(r->dev, b, FLAT, HIDDEN, fl_const(n->flat), read(n->w, W_DENSE), none, n->y3));
  FL_TRY(ops->act_fwd(r->dev, b, FL_ACT_TANH, HIDDEN, fl_const(n->y3), n->y3));
  return ops->dense_fwd(r->dev, b, HIDDEN, K, fl_const(n->y3), read(n->w, W_OUT), none, n->z);
}

static fl_status backward(fl_rig *r, fl_batch b, net *n) {
  const fl_ops *ops = r->ops;
  const fl_span none = {NULL, 0};
  fl_cspan dz = fl_const(n->z);
  FL_TRY(ops->dense_bwd_weights(r->dev, b, HIDDEN, K, fl_const(n->y3), dz, fl_all(1),
                                slice(n->g, W_OUT), none));
  FL_TRY(ops->dense_bwd_data(r->dev, b, HIDDEN, K, dz, read(n->w, W_OUT), n->d3));
  FL_TRY(ops->act_bwd(r->dev, b, FL_ACT_TANH, HIDDEN, fl_const(n->y3), fl_const(n->d3), n->d3));
  FL_TRY(ops->dense_bwd_weights(r->dev, b, FLAT, HIDDEN, fl_const(n->flat), fl_const(n->d3),
                                fl_all(1), slice(n->g, W_DENSE), none));
  FL_TRY(
      ops->dense_bwd_data(r->dev, b, FLAT, HIDDEN, fl_const(n->d3), read(n->w, W_DENSE), n->dflat));
  FL_TRY(ops->flatten(r->dev, b, pool.out, true, fl_const(n->dflat), n->d2));
  FL_TRY(ops->pool_bwd(r->dev, b, &pool, FL_POOL_MAX, fl_const(n->y1), fl_const(n->y2),
                       fl_const(n->d2), n->d1));
  FL_TRY(ops->act_bwd(r->dev, b, FL_ACT_RELU, fl_image_size(conv.out), fl_const(n->y1),
                      fl_const(n->d1), n->d1));
  return ops->conv_bwd_weights(r->dev, b, &conv, fl_const(n->x), fl_const(n->d1), fl_all(1),
                               slice(n->g, W_CONV), none);
}

/* One step of rows[c] rows in room for `room`; the lanes' gradients into g and losses into loss. */
static void step(fl_rig *r, int room, const int32_t *rows, float *g, double *loss) {
  fl_rig fresh = {.ops = r->ops, .dev = r->dev};
  fl_batch b = {LANES, room, rows};
  net n = new_net(&fresh);
  /* The logits' own memory becomes their gradient's. */
  fl_span dz = nans(&fresh, B * K);
  CU_ASSERT_EQUAL_FATAL(load(&fresh, b, &n), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(forward(&fresh, b, &n), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(
      r->ops->xent(r->dev, b, K, fl_all(0.125), n.label, fl_const(n.z), dz, n.loss, n.hit),
      FEDLANE_OK);
  n.z = dz;
  CU_ASSERT_EQUAL_FATAL(backward(&fresh, b, &n), FEDLANE_OK);
  fl_rig_fetch(r, g, n.g.at, LANES * P * (int64_t)sizeof *g);
  fl_rig_fetch(r, loss, n.loss, LANES * (int64_t)sizeof *loss);
  fl_rig_close(&fresh);
}

/* The largest difference, infinite when any is NaN, relative to the largest magnitude of `want`. */
static double apart(int n, const float *got, const float *want) {
  double off = 0, largest = 0;
  for (int i = 0; i < n; i++) {
    double error = fabs(got[i] - want[i]);
    off = fmax(off, isnan(error) ? INFINITY : error);
    largest = fmax(largest, fabs(want[i]));
  }
  return off / largest;
}

/* Rows are independent, so 5 rows in room for 8 give the gradient of 5 rows in room for 5, and
 * an empty lane gives none. */
static void check_partial(fl_rig *r) {
  static float partial[LANES * P], exact[LANES * P];
  double loss[LANES], exact_loss[LANES];
  const int32_t some[LANES] = {B, 5, 0}, five[LANES] = {5, 5, 5};
  int moved = 0;
  step(r, B, some, partial, loss);
  step(r, 5, five, exact, exact_loss);
  CU_ASSERT(apart(P, partial + P, exact + P) < 1e-5);
  for (int i = 0; i < P; i++) moved += partial[2 * P + i] != 0;
  CU_ASSERT_EQUAL(moved, 0);
  CU_ASSERT(loss[2] == 0 && fabs(loss[1] - exact_loss[1]) < 1e-5 * loss[1]);
}

static void test_partial_batches(void) { fl_each_backend(check_partial); }

/* All backends take the same step. */
static void test_same_step(void) {
  static float want[LANES * P], got[LANES * P];
  double want_loss[LANES], loss[LANES];
  const int32_t rows[LANES] = {B, 5, 1};
  int n;
  const fl_present *present = fl_present_backends(&n);
  fl_rig first = {.ops = present[0].ops, .dev = present[0].dev};
  step(&first, B, rows, want, want_loss);
  for (int k = 1; k < n; k++) {
    fl_rig other = {.ops = present[k].ops, .dev = present[k].dev};
    step(&other, B, rows, got, loss);
    CU_ASSERT(apart(LANES * P, got, want) < 1e-4);
    for (int c = 0; c < LANES; c++) CU_ASSERT(fabs(loss[c] - want_loss[c]) < 1e-5 * loss[c]);
  }
}

static const fl_test tests[] = {
    {"partial batches", test_partial_batches},
    {"same step on all backends", test_same_step},
};

FL_SUITE_MAIN("op_chain", tests)
