#include "op_runs.h"

#include <stdlib.h>

static const fl_span none = {NULL, 0};

static void *zeros(int64_t n, size_t size) {
  void *at = calloc((size_t)n, size);
  if (!at) abort();
  return at;
}

/* [C, n] integers below `bound`, drawn by lane so that any grouping draws the same; -1 in dead
 * rows, and in a share of the others. */
static int32_t *integers(fl_rig *r, int64_t n, uint32_t bound, float share) {
  int32_t *host = zeros(r->C * n, sizeof *host);
  for (int c = 0; c < r->C; c++) {
    fl_key key = {1, FL_FOR_DATA, 0, r->client[c], 0, 0, 0};
    fl_rng rng = fl_rng_open(key);
    for (int64_t i = 0; i < n; i++) {
      host[c * n + i] = i < r->rows[c] ? (int32_t)fl_rng_below(&rng, bound) : -1;
      if (share > 0 && fl_rng_unit(&rng) < share) host[c * n + i] = -1;
    }
  }
  int32_t *at = fl_rig_hold(r, host, r->C * n * (int64_t)sizeof *host);
  free(host);
  return at;
}

enum { EXAMPLES = 11, TARGETS = 3, LABELS = 6 };

static fl_source make_source(fl_rig *r, const float *shift, const float *scale) {
  fl_source s = {.image = r->k->window.in,
                 .bytes = r->k->bytes,
                 .n_label = r->k->O > 0 ? r->k->O : 1,
                 .shift = shift,
                 .scale = scale,
                 .crop = r->k->window.pad,
                 .flip = r->k->window.pad > 0};
  int64_t n = EXAMPLES * fl_image_size(s.image);
  int32_t label[EXAMPLES * LABELS];
  float *pixel = zeros(n, sizeof *pixel);
  uint8_t *byte = zeros(n, 1);
  fl_case_values(r->k, FL_IN_X, 0, n, pixel);
  for (int64_t i = 0; i < n; i++) byte[i] = (uint8_t)(100 * (pixel[i] + 1));
  for (int i = 0; i < EXAMPLES * s.n_label; i++) label[i] = i * i % 10;
  s.x = s.bytes ? fl_rig_hold(r, byte, n) : fl_rig_hold(r, pixel, n * (int64_t)sizeof *pixel);
  if (r->k->bytes) s.label = fl_rig_hold(r, label, EXAMPLES * s.n_label * (int64_t)sizeof *label);
  if (!r->k->bytes) {
    s.n_target = TARGETS;
    s.target = fl_rig_hold(r, pixel, EXAMPLES * TARGETS * (int64_t)sizeof(float));
  }
  free(pixel);
  free(byte);
  return s;
}

static void keep_labels(fl_rig *r, int n_label, const int32_t *label) {
  int32_t host[FL_CASE_LANES * 64];
  double twin[FL_CASE_LANES * 64];
  int row = r->k->B * n_label, n = r->C * row;
  fl_rig_fetch(r, host, label, n * (int64_t)sizeof *host);
  for (int i = 0; i < n; i++) twin[i] = host[i];
  fl_rig_keep_doubles(r, "label", fl_rig_hold(r, twin, n * (int64_t)sizeof *twin), row);
}

/* Bytes are classified, with O labels each, floats are regression data. window.pad > 0: random crop
 * and flip. */
fl_status fl_run_gather(fl_rig *r) {
  const float shift[3] = {10, -3, 0.5f}, scale[3] = {0.02f, 0.5f, -1};
  fl_source source = make_source(r, shift, scale);
  fl_shape images = fl_shape_images(source.image), targets = fl_shape_rows(TARGETS);
  if (source.image.steps > 0) images = fl_shape_rows(fl_image_size(source.image));
  int B = r->k->B;
  bool together = r->share == FL_SHARED;
  int32_t *index = integers(r, B, EXAMPLES, 0);
  fl_span x = fl_rig_output(r, images), target = source.target ? fl_rig_output(r, targets) : none;
  int64_t labels = r->C * B * (int64_t)source.n_label;
  int32_t *label = source.label ? fl_rig_hold(r, NULL, labels * (int64_t)sizeof *label) : NULL;
  FL_TRY(r->ops->gather(r->dev, r->batch, &source, index, together ? 0 : B, &r->draw, x, label,
                        target));
  fl_rig_keep(r, "x", fl_const(x), images);
  if (label) keep_labels(r, source.n_label, label);
  if (target.at) fl_rig_keep(r, "target", fl_const(target), targets);
  return FEDLANE_OK;
}

fl_status fl_run_random(fl_rig *r) {
  fl_shape v = fl_shape_vector(r->k->I);
  fl_span noisy = fl_rig_before(r, FL_IN_OLD, v), x = fl_rig_output(r, v);
  FL_TRY(r->ops->normal(r->dev, r->C, r->k->I, &r->draw, r->factor, noisy));
  FL_TRY(r->ops->uniform(r->dev, r->C, r->k->I, &r->draw, -2, 5, x));
  fl_rig_keep(r, "normal", fl_const(noisy), v);
  fl_rig_keep(r, "uniform", fl_const(x), v);
  return FEDLANE_OK;
}

static double *before_losses(fl_rig *r) {
  double host[FL_CASE_LANES];
  for (int c = 0; c < FL_CASE_LANES; c++) host[c] = r->plain ? 0 : 0.75;
  return fl_rig_hold(r, host, r->C * (int64_t)sizeof *host);
}

static void keep_loss(fl_rig *r, const double *loss) {
  fl_field *field = &r->field[r->n_field];
  fl_rig_keep_doubles(r, "loss", loss, 1);
  for (int c = 0; c < r->C; c++) r->score += r->value[field[c].at];
}

/* The gradient with all its rows: dead ones must be zeros. */
static void keep_dz(fl_rig *r, fl_span dz, fl_shape row) {
  fl_rig_keep_gradient(r, "dz", fl_const(dz), row, FL_IN_X);
  fl_rig_keep(r, "dz of dead rows too", fl_const(dz), fl_shape_vector(r->k->B * row.n));
}

fl_status fl_run_xent(fl_rig *r) {
  int K = r->k->O;
  fl_shape row = fl_shape_rows(K);
  fl_cspan z = fl_rig_input(r, FL_IN_X, row);
  fl_span dz = fl_rig_output(r, row);
  int32_t *label = integers(r, r->k->B, (uint32_t)K, r->k->p);
  double *loss = before_losses(r);
  const int64_t before[FL_CASE_LANES] = {1, 1, 1, 1, 1, 1, 1};
  int64_t *hit = fl_rig_hold(r, before, r->C * (int64_t)sizeof *before);
  FL_TRY(r->ops->xent(r->dev, r->batch, K, r->factor, label, z, dz, loss, hit));
  keep_loss(r, loss);
  keep_dz(r, dz, row);
  FL_TRY(r->ops->xent(r->dev, r->batch, K, r->factor, label, z, none, loss, hit));
  fl_rig_keep_doubles(r, "loss counted twice", loss, 1);
  for (int c = 0; c < r->C; c++) fl_rig_keep_integers(r, "hits counted twice", c, hit + c, 1);
  return FEDLANE_OK;
}

fl_status fl_run_regress(fl_rig *r) {
  int T = r->k->O;
  fl_shape row = fl_shape_rows(T);
  fl_cspan z = fl_rig_input(r, FL_IN_X, row), target = fl_rig_input(r, FL_IN_W, row);
  fl_span dz = fl_rig_output(r, row);
  double *loss = before_losses(r);
  FL_TRY(r->ops->regress(r->dev, r->batch, T, (fl_regression)r->k->kind, r->k->p, r->factor, target,
                         z, dz, loss));
  keep_loss(r, loss);
  keep_dz(r, dz, row);
  FL_TRY(r->ops->regress(r->dev, r->batch, T, (fl_regression)r->k->kind, r->k->p, r->factor, target,
                         z, none, loss));
  fl_rig_keep_doubles(r, "loss counted twice", loss, 1);
  return FEDLANE_OK;
}

fl_status fl_run_step(fl_rig *r) {
  fl_shape v = fl_shape_vector(r->k->I);
  fl_span w = fl_rig_before(r, FL_IN_OLD, v), decayed = fl_rig_before(r, FL_IN_OLD, v);
  fl_cspan g = fl_rig_input(r, FL_IN_X, v), x = fl_rig_input(r, FL_IN_TERM, v);
  fl_term terms[2] = {{0.3f, x}, {-0.2f, fl_const(w)}}, decay = {0.1f, fl_const(decayed)};
  FL_TRY(r->ops->step(r->dev, r->C, r->k->I, g, r->factor, 2, terms, w));
  FL_TRY(r->ops->step(r->dev, r->C, r->k->I, fl_const(none), fl_all(0.5), 1, &decay, decayed));
  fl_rig_keep(r, "w", fl_const(w), v);
  fl_rig_keep(r, "decayed", fl_const(decayed), v);
  FL_TRY(r->ops->step(r->dev, r->C, r->k->I, g, fl_all(0.01), 0, NULL, w));
  fl_rig_keep(r, "w after a plain step", fl_const(w), v);
  return FEDLANE_OK;
}

fl_status fl_run_axpby(fl_rig *r) {
  int64_t n = r->k->I;
  fl_shape v = fl_shape_vector(n);
  fl_cspan x = fl_rig_input(r, FL_IN_X, v);
  fl_span sum = fl_rig_before(r, FL_IN_OLD, v), scaled = fl_rig_before(r, FL_IN_OLD, v);
  fl_span copy = fl_rig_output(r, v), same = fl_rig_before(r, FL_IN_OLD, v);
  FL_TRY(r->ops->axpby(r->dev, r->C, n, r->factor, x, fl_all(-2), sum));
  FL_TRY(r->ops->axpby(r->dev, r->C, n, fl_all(1), fl_const(none), r->factor, scaled));
  FL_TRY(r->ops->axpby(r->dev, r->C, n, fl_all(3), x, fl_all(0), copy));
  FL_TRY(r->ops->axpby(r->dev, r->C, n, r->factor, fl_const(same), fl_all(1), same));
  fl_rig_keep(r, "a*x + b*y", fl_const(sum), v);
  fl_rig_keep(r, "b*y", fl_const(scaled), v);
  fl_rig_keep(r, "a*x", fl_const(copy), v);
  fl_rig_keep(r, "a*y + b*y", fl_const(same), v);
  return FEDLANE_OK;
}

fl_status fl_run_fill(fl_rig *r) {
  fl_shape v = fl_shape_vector(r->k->I);
  fl_span y = fl_rig_output(r, v);
  FL_TRY(r->ops->fill(r->dev, r->C, r->k->I, 0.375f, y));
  fl_rig_keep(r, "y", fl_const(y), v);
  return FEDLANE_OK;
}

fl_status fl_run_measure(fl_rig *r) {
  fl_cspan x = fl_rig_input(r, FL_IN_X, fl_shape_vector(r->k->I));
  fl_measure *out = fl_rig_hold(r, NULL, r->C * (int64_t)sizeof *out);
  FL_TRY(r->ops->measure(r->dev, r->C, r->k->I, x, out));
  fl_rig_keep_doubles(r, "sum2 and peak", &out->sum2, 2);
  return FEDLANE_OK;
}

fl_status fl_run_clip(fl_rig *r) {
  fl_shape v = fl_shape_vector(r->k->I);
  fl_span y = fl_rig_before(r, FL_IN_OLD, v);
  FL_TRY(r->ops->clip(r->dev, r->C, r->k->I, r->k->p, y));
  fl_rig_keep(r, "y", fl_const(y), v);
  return FEDLANE_OK;
}

fl_status fl_run_adaptive(fl_rig *r) {
  int64_t n = r->k->I;
  fl_shape v = fl_shape_vector(n);
  fl_cspan u = fl_rig_input(r, FL_IN_X, v);
  fl_span m = fl_rig_before(r, FL_IN_TERM, v), w = fl_rig_before(r, FL_IN_OLD, v);
  fl_span second = fl_rig_output(r, v);
  FL_TRY(r->ops->fill(r->dev, r->C, n, 0.1f, second));
  for (int c = 0; c < r->C; c++)
    FL_TRY(r->ops->adaptive(r->dev, n, (fl_adaptive)r->k->kind, 0.1f, 0.9f, 0.99f, 1e-3f,
                            u.at + c * u.stride, m.at + c * m.stride, second.at + c * second.stride,
                            w.at + c * w.stride));
  fl_rig_keep(r, "m", fl_const(m), v);
  fl_rig_keep(r, "v", fl_const(second), v);
  fl_rig_keep(r, "w", fl_const(w), v);
  return FEDLANE_OK;
}

/* Each lane into an accumulator of its own that holds something already; lane 1 has no weight.
 * Then the double of each accumulator, and a mean of both. */
static fl_status mix_lane(fl_rig *r, int c, const int64_t *acc, int64_t *twice, float *mean) {
  int64_t n = r->k->I;
  const int64_t *both[2] = {acc, twice};
  const double unit[2] = {0x1p-40, 0x1.8p-35};
  FL_TRY(r->ops->add64(r->dev, n, acc, twice));
  FL_TRY(r->ops->add64(r->dev, n, acc, twice));
  FL_TRY(r->ops->unmix(r->dev, n, 2, both, unit, mean));
  fl_rig_keep_integers(r, "acc", c, acc, n);
  fl_rig_keep_integers(r, "twice", c, twice, n);
  return FEDLANE_OK;
}

fl_status fl_run_mix(fl_rig *r) {
  int64_t n = r->k->I, bytes = n * (int64_t)sizeof(int64_t);
  int64_t *acc[FL_CASE_LANES], *twice[FL_CASE_LANES], *before = zeros(n, sizeof *before);
  double factor[FL_CASE_LANES];
  fl_shape v = fl_shape_vector(n);
  fl_cspan x = fl_rig_input(r, FL_IN_X, v);
  fl_span mean = fl_rig_output(r, v);
  for (int c = 0; c < r->C; c++) twice[c] = fl_rig_hold(r, before, bytes);
  for (int64_t i = 0; i < n; i++) before[i] = (i - 5) * 1234567890123;
  for (int c = 0; c < r->C; c++) {
    int lane = r->share == FL_OWN ? r->first + c : 0;
    acc[c] = fl_rig_hold(r, before, bytes);
    factor[c] = lane == 1 ? 0 : 0x1p41 / (lane + 1);
  }
  free(before);
  FL_TRY(r->ops->mix(r->dev, r->C, n, x, factor, acc));
  for (int c = 0; c < r->C; c++)
    FL_TRY(mix_lane(r, c, acc[c], twice[c], mean.at + c * mean.stride));
  fl_rig_keep(r, "mean", fl_const(mean), v);
  return FEDLANE_OK;
}
