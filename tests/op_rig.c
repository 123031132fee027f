#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op_cases.h"

static void must(fl_status status) {
  if (status == FEDLANE_OK) return;
  fprintf(stderr, "%s\n", fedlane_error());
  abort();
}

static void *must_have(void *at) {
  if (!at) abort();
  return at;
}

fl_shape fl_shape_vector(int64_t n) { return (fl_shape){FL_VECTOR, n, {0, 0, 0}}; }
fl_shape fl_shape_rows(int64_t n) { return (fl_shape){FL_ROWS, n, {0, 0, 0}}; }
fl_shape fl_shape_images(fl_image image) {
  return (fl_shape){FL_IMAGES, fl_image_size(image), image};
}

static int64_t lane_size(const fl_rig *rig, fl_shape shape) {
  return shape.form == FL_VECTOR ? shape.n : rig->k->B * shape.n;
}

static int64_t live_size(const fl_rig *rig, fl_shape shape, int c) {
  return shape.form == FL_VECTOR ? shape.n : rig->rows[c] * shape.n;
}

/* Lanes lie apart, with a gap of NaN between them that no op may read. */
static int64_t stride_of(const fl_rig *rig, fl_shape shape) {
  return (lane_size(rig, shape) + 15) / 16 * 16 + 16;
}

void *fl_rig_hold(fl_rig *rig, const void *data, int64_t bytes) {
  void *at = NULL;
  if (rig->n_held == FL_RIG_HELD) abort();
  must(rig->ops->alloc(rig->dev, bytes, &at));
  rig->held[rig->n_held++] = at;
  if (data) {
    must(rig->ops->upload(rig->dev, at, data, bytes));
  } else {
    void *nan = must_have(malloc((size_t)bytes));
    memset(nan, 0xFF, (size_t)bytes);
    must(rig->ops->upload(rig->dev, at, nan, bytes));
    free(nan);
  }
  return at;
}

void fl_rig_fetch(fl_rig *rig, void *host, const void *at, int64_t bytes) {
  must(rig->ops->download(rig->dev, host, at, bytes));
}

void fl_case_values(const fl_op_case *k, fl_input input, int lane, int64_t n, float *out) {
  fl_key key = {(uint32_t)(k - fl_op_case_list), FL_FOR_DATA, 0, (uint32_t)lane, 0, input, 0};
  fl_rng rng = fl_rng_open(key);
  fl_spread spread = input == FL_IN_X || k->spread == FL_EXACT ? k->spread : FL_EVEN;
  int32_t *order = spread == FL_APART ? must_have(malloc((size_t)n * sizeof *order)) : NULL;
  for (int64_t i = 0; order && i < n; i++) order[i] = (int32_t)i;
  if (order) fl_rng_shuffle(&rng, order, n);
  for (int64_t i = 0; i < n; i++) {
    if (spread == FL_APART)
      out[i] = ((float)(2 * order[i] - n) + 0.5f) / 20;
    else if (spread == FL_TIES || spread == FL_EXACT)
      out[i] = (float)fl_rng_below(&rng, 5) / 2 - 1;
    else
      out[i] = 2 * fl_unit_float(fl_rng_u32(&rng)) - 0.9f;
  }
  free(order);
}

/* One lane of an input: values, dead rows, nudge. */
static void make_lane(const fl_rig *rig, fl_input input, fl_shape shape, int c, float *out) {
  int64_t n = lane_size(rig, shape), live = live_size(rig, shape, c);
  int lane = rig->share == FL_OWN ? rig->first + c : 0;
  fl_case_values(rig->k, input, lane, n, out);
  for (int64_t i = live; i < n; i++) out[i] = input == FL_IN_DY ? 0 : rig->dead;
  if (rig->nudged == input && c == 0) out[rig->nudged_at] += rig->nudge;
}

/* Images between plain order and the backend's own, all rows of all lanes. */
static void reorder(fl_rig *rig, int lanes, bool back, fl_shape shape, fl_cspan x, fl_span y) {
  int32_t all[FL_CASE_LANES];
  fl_batch batch = {lanes, rig->k->B, all};
  for (int c = 0; c < FL_CASE_LANES; c++) all[c] = rig->k->B;
  must(rig->ops->flatten(rig->dev, batch, shape.image, back, x, y));
}

static fl_span upload_lanes(fl_rig *rig, fl_input input, fl_shape shape, int lanes) {
  int64_t stride = stride_of(rig, shape), bytes = lanes * stride * (int64_t)sizeof(float);
  float *host = must_have(malloc((size_t)bytes));
  memset(host, 0xFF, (size_t)bytes);
  for (int c = 0; c < lanes; c++) make_lane(rig, input, shape, c, host + c * stride);
  fl_span span = {fl_rig_hold(rig, host, bytes), stride};
  free(host);
  if (shape.form != FL_IMAGES) return span;
  fl_span image = {fl_rig_hold(rig, NULL, bytes), stride};
  reorder(rig, lanes, true, shape, fl_const(span), image);
  return image;
}

fl_cspan fl_rig_input(fl_rig *rig, fl_input input, fl_shape shape) {
  bool shared = rig->share == FL_SHARED;
  fl_span span = upload_lanes(rig, input, shape, shared ? 1 : rig->C);
  if (shared) span.stride = 0;
  return fl_const(span);
}

fl_span fl_rig_output(fl_rig *rig, fl_shape shape) {
  int64_t stride = stride_of(rig, shape);
  fl_span span = {fl_rig_hold(rig, NULL, rig->C * stride * (int64_t)sizeof(float)), stride};
  return span;
}

fl_span fl_rig_before(fl_rig *rig, fl_input input, fl_shape shape) {
  return upload_lanes(rig, input, shape, rig->C);
}

fl_span fl_rig_sum(fl_rig *rig, fl_input input, fl_shape shape) {
  fl_span span = fl_rig_before(rig, input, shape);
  int64_t bytes = shape.n * (int64_t)sizeof(float);
  float *zero = must_have(calloc(1, (size_t)bytes));
  for (int c = 0; rig->plain && c < rig->C; c++)
    must(rig->ops->upload(rig->dev, span.at + c * span.stride, zero, bytes));
  free(zero);
  return span;
}

/* Room for n more values, in a field of their own. */
static double *new_field(fl_rig *rig, const char *name, int lane, fl_input of, int64_t n) {
  if (rig->n_field == FL_RIG_FIELDS) abort();
  fl_field field = {name, lane, of, rig->n_value, n};
  rig->field[rig->n_field++] = field;
  if (rig->n_value + n > rig->room) {
    rig->room = 2 * rig->room + n;
    rig->value = must_have(realloc(rig->value, (size_t)rig->room * sizeof *rig->value));
  }
  rig->n_value += n;
  return rig->value + field.at;
}

static void keep(fl_rig *rig, const char *name, fl_cspan s, fl_shape shape, fl_input of) {
  int64_t stride = s.stride, bytes = rig->C * stride * (int64_t)sizeof(float);
  float *host = must_have(malloc((size_t)bytes));
  if (shape.form == FL_IMAGES) {
    fl_span plain = {fl_rig_hold(rig, NULL, bytes), stride};
    reorder(rig, rig->C, false, shape, s, plain);
    s = fl_const(plain);
  }
  fl_rig_fetch(rig, host, s.at, bytes);
  for (int c = 0; c < rig->C; c++) {
    int64_t n = live_size(rig, shape, c);
    double *out = new_field(rig, name, rig->first + c, of, n);
    for (int64_t i = 0; i < n; i++) out[i] = host[c * stride + i];
  }
  free(host);
}

void fl_rig_keep(fl_rig *rig, const char *name, fl_cspan s, fl_shape shape) {
  keep(rig, name, s, shape, FL_IN_NONE);
}

void fl_rig_keep_gradient(fl_rig *rig, const char *name, fl_cspan s, fl_shape shape, fl_input of) {
  keep(rig, name, s, shape, of);
}

void fl_rig_keep_forward(fl_rig *rig, fl_cspan s, fl_shape shape) {
  int first = rig->n_field;
  float *dy = must_have(malloc((size_t)lane_size(rig, shape) * sizeof *dy));
  keep(rig, "y", s, shape, FL_IN_NONE);
  for (int c = 0; c < rig->C; c++) {
    fl_field field = rig->field[first + c];
    make_lane(rig, FL_IN_DY, shape, c, dy);
    for (int64_t i = 0; i < field.n; i++) rig->score += rig->value[field.at + i] * dy[i];
  }
  free(dy);
}

void fl_rig_keep_doubles(fl_rig *rig, const char *name, const double *at, int n) {
  for (int c = 0; c < rig->C; c++) {
    double *out = new_field(rig, name, rig->first + c, FL_IN_NONE, n);
    fl_rig_fetch(rig, out, at + (int64_t)c * n, n * (int64_t)sizeof *out);
  }
}

/* A double holds 53 bits, so an integer is kept as two halves. */
void fl_rig_keep_integers(fl_rig *rig, const char *name, int lane, const int64_t *at, int64_t n) {
  int64_t *host = must_have(malloc((size_t)n * sizeof *host));
  double *out = new_field(rig, name, rig->first + lane, FL_IN_NONE, 2 * n);
  fl_rig_fetch(rig, host, at, n * (int64_t)sizeof *host);
  for (int64_t i = 0; i < n; i++) {
    out[2 * i] = (double)(host[i] >> 32);
    out[2 * i + 1] = (double)(host[i] & 0xFFFFFFFF);
  }
  free(host);
}

static void release(fl_rig *rig) {
  while (rig->n_held > 0) rig->ops->release(rig->dev, &rig->held[--rig->n_held]);
}

fl_status fl_rig_run(fl_rig *rig) {
  int B = rig->k->B;
  const int32_t rows[FL_CASE_LANES] = {B, B - 1, 0, 1, B, B / 2, B};
  for (int c = 0; c < rig->C; c++) {
    int lane = rig->share == FL_OWN ? rig->first + c : 0;
    rig->rows[c] = rows[lane];
    rig->client[c] = (uint32_t)(1000 + lane);
    rig->nth[c] = (uint32_t)(lane / 2);
    rig->factors[c] = rig->plain ? 1 : 0.5f + 0.25f * (float)lane;
  }
  rig->batch = (fl_batch){rig->C, B, rig->rows};
  rig->factor = (fl_coef){0, rig->factors};
  rig->draw = (fl_draw){7, FL_FOR_AUGMENT, 3, 5, 2, rig->client, rig->nth};
  fl_status status = rig->k->run(rig);
  must(rig->ops->sync(rig->dev));
  release(rig);
  return status;
}

void fl_rig_close(fl_rig *rig) {
  release(rig);
  free(rig->value);
  memset(rig, 0, sizeof *rig);
}

static fl_present present[FL_PRESENT_MAX];
static int n_present;

static void close_present(void) {
  for (int i = 0; i < n_present; i++) present[i].ops->close(&present[i].dev);
}

const fl_present *fl_present_backends(int *n) {
  static bool asked;
  for (int i = 0; !asked && i < fl_backends.n && n_present < FL_PRESENT_MAX; i++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[i];
    const char *why = "";
    if (ops->count(&why) > 0) {
      fl_dev_options options = {0, FL_MATH_FP32};
      must(ops->open(&options, &present[n_present].dev));
      present[n_present++].ops = ops;
    } else {
      printf("absent: backend %s: %s\n", ops->record.name, why);
    }
  }
  if (!asked) atexit(close_present);
  asked = true;
  *n = n_present;
  return present;
}

void fl_each_backend(void (*check)(fl_rig *rig)) {
  int n;
  const fl_present *backend = fl_present_backends(&n);
  for (int i = 0; i < n; i++) {
    fl_rig rig = {.ops = backend[i].ops, .dev = backend[i].dev};
    check(&rig);
    fl_rig_close(&rig);
  }
}
