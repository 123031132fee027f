/* Each op alone, on the shapes of workload a1 at batch 10: what a local step is made of. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "bench.h"

enum { B = 10, WIDTH = 8, REPEAT = 20, I = 12544, O = 128 };
static const int64_t P = 1626448;
static const fl_window conv1 = {{3, 32, 32}, {32, 30, 30}, 3, 1, 0};
static const fl_window conv2 = {{32, 30, 30}, {64, 28, 28}, 3, 1, 0};
static const fl_window pool = {{64, 28, 28}, {64, 14, 14}, 2, 2, 0};

typedef struct rig {
  const fl_ops *ops;
  fl_dev *dev;
  fl_batch b;
  fl_source source;
  fl_draw draw;
  fl_span x, y, dx, dy, stat, w; /* activations; w: WIDTH lanes of P floats */
  int32_t *index, *label;
  int64_t *acc, *hit;
  double *loss;
  fl_measure *measure;
  float *mean;
} rig;

#define RUN(name, call) \
  static fl_status name(rig *r) { return r->ops->call; }
static const fl_cspan none;
RUN(gather, gather(r->dev, r->b, &r->source, r->index, B, &r->draw, r->x, r->label, r->stat))
RUN(conv1_fwd, conv_fwd(r->dev, r->b, &conv1, fl_const(r->x), fl_const(r->w), none, r->y))
RUN(conv1_weights, conv_bwd_weights(r->dev, r->b, &conv1, fl_const(r->x), fl_const(r->dy),
                                    fl_all(1e-9), r->w, (fl_span){0}))
RUN(conv2_fwd, conv_fwd(r->dev, r->b, &conv2, fl_const(r->x), fl_const(r->w), none, r->y))
RUN(conv2_data, conv_bwd_data(r->dev, r->b, &conv2, fl_const(r->dy), fl_const(r->w), r->dx))
RUN(conv2_weights, conv_bwd_weights(r->dev, r->b, &conv2, fl_const(r->x), fl_const(r->dy),
                                    fl_all(1e-9), r->w, (fl_span){0}))
RUN(pool_fwd, pool_fwd(r->dev, r->b, &pool, FL_POOL_MAX, fl_const(r->x), r->y))
RUN(pool_bwd, pool_bwd(r->dev, r->b, &pool, FL_POOL_MAX, fl_const(r->x), fl_const(r->y),
                       fl_const(r->dy), r->dx))
RUN(relu_fwd, act_fwd(r->dev, r->b, FL_ACT_RELU, 28800, fl_const(r->x), r->x))
RUN(relu_bwd, act_bwd(r->dev, r->b, FL_ACT_RELU, 28800, fl_const(r->x), fl_const(r->dy), r->dy))
RUN(dropout, dropout(r->dev, r->b, I, 0.25f, &r->draw, fl_const(r->x), r->y))
RUN(flatten, flatten(r->dev, r->b, pool.out, false, fl_const(r->x), r->y))
RUN(dense_fwd, dense_fwd(r->dev, r->b, I, O, fl_const(r->x), fl_const(r->w), none, r->y))
RUN(dense_data, dense_bwd_data(r->dev, r->b, I, O, fl_const(r->dy), fl_const(r->w), r->dx))
RUN(dense_weights, dense_bwd_weights(r->dev, r->b, I, O, fl_const(r->x), fl_const(r->dy),
                                     fl_all(1e-9), r->w, (fl_span){0}))
RUN(xent, xent(r->dev, r->b, 10, fl_all(0.1), r->label, fl_const(r->y), r->dy, r->loss, r->hit))
RUN(seat, axpby(r->dev, 1, P, fl_all(1), (fl_cspan){r->mean, 0}, fl_all(0), r->w))
RUN(update, axpby(r->dev, 1, P, fl_all(-1e-9), (fl_cspan){r->mean, 0}, fl_all(1), r->w))
RUN(measure, measure(r->dev, 1, P, fl_const(r->w), r->measure))
RUN(step, step(r->dev, 1, P, (fl_cspan){r->mean, 0}, fl_all(1e-9), 0, NULL, r->w))
static fl_status mix(rig *r) {
  double factor[WIDTH];
  int64_t *acc[WIDTH];
  for (int c = 0; c < WIDTH; c++) {
    factor[c] = 1e6;
    acc[c] = r->acc;
  }
  return r->ops->mix(r->dev, WIDTH, P, fl_const(r->w), factor, acc);
}

typedef struct item {
  const char *name;
  fl_status (*run)(rig *r);
  double flop, bytes; /* of one call; bytes: each operand read or written once */
  double a_step;      /* calls in a local step of a1 (five steps a client) */
} item;

#define CONV1 (2.0 * B * 32 * 900 * 27)
#define CONV2 (2.0 * B * 64 * 784 * 288)
#define DENSE (2.0 * B * I * O)
static const item items[] = {
    {"gather", gather, 0, B * 3072 * 5.0, 1},
    {"conv1 forward", conv1_fwd, CONV1, 4.0 * B *(3072 + 28800), 1},
    {"conv1 weights", conv1_weights, CONV1, 4.0 * B *(3072 + 28800), 1},
    {"conv2 forward", conv2_fwd, CONV2, 4.0 * B *(28800 + 50176), 1},
    {"conv2 data", conv2_data, CONV2, 4.0 * B *(28800 + 50176), 1},
    {"conv2 weights", conv2_weights, CONV2, 4.0 * B *(28800 + 50176), 1},
    {"max pool forward", pool_fwd, 0, 4.0 * B *(50176 + 12544), 1},
    {"max pool backward", pool_bwd, 0, 4.0 * B * 2 * (50176 + 12544), 1},
    {"relu forward", relu_fwd, 0, 8.0 * B * 28800, 1},
    {"relu backward", relu_bwd, 0, 12.0 * B * 28800, 1},
    {"dropout", dropout, 0, 8.0 * B *I, 2},
    {"flatten", flatten, 0, 8.0 * B *I, 2},
    {"dense forward", dense_fwd, DENSE, 4.0 * (I * O + B * (I + O)), 1},
    {"dense data", dense_data, DENSE, 4.0 * (I * O + B * (I + O)), 1},
    {"dense weights", dense_weights, DENSE, 4.0 * (2.0 * I * O + B * (I + O)), 1},
    {"cross-entropy", xent, 0, 8.0 * B * 10, 1},
    {"seat (copy)", seat, 0, 8.0 * 1626448, 0.2},
    {"update (axpby)", update, 0, 12.0 * 1626448, 0.2},
    {"measure", measure, 0, 4.0 * 1626448, 0.2},
    {"mix, 8 lanes", mix, 0, (4.0 * WIDTH + 16) * 1626448, 0.2 / WIDTH},
    {"step (unfused)", step, 0, 12.0 * 1626448, 0},
};

static fl_status reserve(rig *r, int64_t bytes, void *out) {
  void **at = out;
  FL_TRY(r->ops->alloc(r->dev, bytes, at));
  fl_span all = {*at, 0};
  return r->ops->fill(r->dev, 1, bytes / 4, 0.01f, all);
}

static fl_status prepare(rig *r, unsigned char *pixels) {
  static const float shift[3] = {128, 128, 128}, scale[3] = {0.01f, 0.01f, 0.01f};
  static const uint32_t client;
  static const int32_t rows = B, zeros[B];
  int64_t act = 64 * 28 * 28 * B;
  r->b = (fl_batch){1, B, &rows};
  r->draw = (fl_draw){.purpose = FL_FOR_DROPOUT, .client = &client, .nth = &client};
  fl_span *buffers[] = {&r->x, &r->y, &r->dx, &r->dy, &r->stat};
  for (int i = 0; i < FL_COUNT(buffers); i++) FL_TRY(reserve(r, 4 * act, &buffers[i]->at));
  FL_TRY(reserve(r, 4 * WIDTH * P, &r->w.at));
  r->w.stride = P;
  FL_TRY(reserve(r, 8 * P, &r->acc));
  FL_TRY(reserve(r, 4 * P, &r->mean));
  FL_TRY(reserve(r, 4 * B, &r->index));
  FL_TRY(reserve(r, 4 * B, &r->label));
  FL_TRY(reserve(r, 64, &r->hit));
  FL_TRY(reserve(r, 64, &r->loss));
  FL_TRY(reserve(r, 64, &r->measure));
  FL_TRY(r->ops->upload(r->dev, r->index, zeros, sizeof zeros));
  FL_TRY(r->ops->upload(r->dev, r->label, zeros, sizeof zeros));
  void *x = NULL;
  FL_TRY(reserve(r, 3072, &x));
  FL_TRY(r->ops->upload(r->dev, x, pixels, 3072));
  r->source = (fl_source){
      .image = conv1.in, .bytes = true, .x = x, .label = r->label, .shift = shift, .scale = scale};
  return r->ops->sync(r->dev);
}

static void give_back(rig *r) {
  void *held[] = {r->x.at,    r->y.at,
                  r->dx.at,   r->dy.at,
                  r->stat.at, r->w.at,
                  r->acc,     r->mean,
                  r->index,   r->label,
                  r->hit,     r->loss,
                  r->measure, (void *)(uintptr_t)r->source.x};
  for (int i = 0; i < FL_COUNT(held); i++)
    if (held[i]) r->ops->release(r->dev, &held[i]);
}

/* The median of REPEAT timings. */
static int ascending(const void *a, const void *b) {
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

static fl_status time_item(rig *r, const item *it, double *seconds) {
  double each[REPEAT];
  for (int i = -2; i < REPEAT; i++) {
    double start = fl_seconds();
    FL_TRY(it->run(r));
    FL_TRY(r->ops->sync(r->dev));
    if (i >= 0) each[i] = fl_seconds() - start;
  }
  qsort(each, REPEAT, sizeof *each, ascending);
  *seconds = each[REPEAT / 2];
  return FEDLANE_OK;
}

static fl_status time_all(rig *r, json_t *out) {
  double step = 0, seconds;
  printf("%-20s %9s %10s %8s %11s\n", "op", "ms", "GFLOP/s", "GB/s", "ms a step");
  for (int i = 0; i < FL_COUNT(items); i++) {
    const item *it = &items[i];
    FL_TRY(time_item(r, it, &seconds));
    step += seconds * it->a_step;
    printf("%-20s %9.4f ", it->name, 1e3 * seconds);
    if (it->flop > 0)
      printf("%10.1f ", 1e-9 * it->flop / seconds);
    else
      printf("%10s ", "");
    printf("%8.1f %11.4f\n", 1e-9 * it->bytes / seconds, 1e3 * seconds * it->a_step);
    json_array_append_new(
        out, json_pack("{s:s, s:f, s:f, s:f, s:f}", "op", it->name, "seconds", seconds, "gflops",
                       1e-9 * it->flop / seconds, "gigabytes_per_second",
                       1e-9 * it->bytes / seconds, "calls_a_step", it->a_step));
  }
  printf("%-20s %9s %10s %8s %11.4f   = %.0f images/s\n", "a local step", "", "", "", 1e3 * step,
         B / step);
  return FEDLANE_OK;
}

fl_status fl_bench_ops(const fl_bench_options *o) {
  fl_devices devices = {0};
  rig r = {0};
  unsigned char pixels[3072];
  json_t *out = json_array();
  fl_status status;
  for (int i = 0; i < FL_COUNT(pixels); i++) pixels[i] = (unsigned char)(i * 31);
  FL_GO(fl_devices_open(o->device, FL_MATH_FP32, 1, &devices));
  r.ops = devices.ops;
  r.dev = devices.dev[0];
  FL_GO(prepare(&r, pixels));
  printf("%s, one device, shapes of workload a1, batch %d, median of %d\n", r.ops->record.name, B,
         REPEAT);
  FL_GO(time_all(&r, out));
  if (o->json && json_dump_file(out, o->json, JSON_INDENT(2)) != 0)
    status = fl_fail(FEDLANE_IO, "%s: the figures cannot be written", o->json);
done:
  if (r.ops) give_back(&r);
  fl_devices_close(&devices);
  json_decref(out);
  return status;
}
