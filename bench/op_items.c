#include "op_items.h"

#include <stdlib.h>

/* Workload a1: parameters of a lane; floats of a row at conv1's input and the three places after;
 * features of the hidden layer. */
enum { P = 1626448, X1 = 3072, Y1 = 28800, Y2 = 50176, I = 12544, O = 128, K = 10 };
enum { W1 = 32 * 27, W2 = 64 * 288, WIDE = 12544 * 128 }; /* weights of the three large layers */
static const fl_window conv1 = {{3, 32, 32}, {32, 30, 30}, 3, 1, 0};
static const fl_window conv2 = {{32, 30, 30}, {64, 28, 28}, 3, 1, 0};
static const fl_window pool = {{64, 28, 28}, {64, 14, 14}, 2, 2, 0};
static const fl_span none;
static const fl_cspan absent;

#define RUN(name, call) \
  static fl_status name(fl_op_rig *r) { return r->ops->call; }
#define X fl_const(r->x)
#define Y fl_const(r->y)
#define DY fl_const(r->dy)
#define W fl_const(r->w)
#define MASK fl_const(r->mask)
#define SHARED ((fl_cspan){r->mean, 0})
RUN(gather, gather(r->dev, r->b, &r->source, r->index, r->b.B, &r->draw, r->x, r->label, none))
RUN(conv1_fwd, conv_fwd(r->dev, r->b, &conv1, X, W, absent, r->y))
RUN(conv1_relu, conv_relu_fwd(r->dev, r->b, &conv1, NULL, X, W, absent, r->y, none))
RUN(conv1_weights, conv_bwd_weights(r->dev, r->b, &conv1, X, DY, fl_all(1e-9), r->w, none))
RUN(conv2_fwd, conv_fwd(r->dev, r->b, &conv2, X, W, absent, r->y))
RUN(conv2_pool, conv_relu_fwd(r->dev, r->b, &conv2, &pool, X, W, absent, r->y, r->mask))
RUN(conv2_data, conv_bwd_data(r->dev, r->b, &conv2, DY, W, r->dx))
RUN(conv2_relu, conv_bwd_data_relu(r->dev, r->b, &conv2, DY, W, X, r->dx))
RUN(conv2_weights, conv_bwd_weights(r->dev, r->b, &conv2, X, DY, fl_all(1e-9), r->w, none))
RUN(pool_fwd, pool_fwd(r->dev, r->b, &pool, FL_POOL_MAX, X, r->y))
RUN(pool_bwd, pool_bwd(r->dev, r->b, &pool, FL_POOL_MAX, X, Y, DY, r->dx))
RUN(pool_relu, pool_relu_bwd(r->dev, r->b, &pool, MASK, DY, r->dx))
RUN(relu_fwd, act_fwd(r->dev, r->b, FL_ACT_RELU, Y1, X, r->x))
RUN(relu_bwd, act_bwd(r->dev, r->b, FL_ACT_RELU, Y1, X, DY, r->dy))
RUN(dropout, dropout(r->dev, r->b, I, 0.25f, &r->draw, X, r->y))
RUN(flatten, flatten(r->dev, r->b, pool.out, false, X, r->y))
RUN(dense_fwd, dense_fwd(r->dev, r->b, I, O, X, W, absent, r->y))
RUN(dense_data, dense_bwd_data(r->dev, r->b, I, O, DY, W, r->dx))
RUN(dense_weights, dense_bwd_weights(r->dev, r->b, I, O, X, DY, fl_all(1e-9), r->w, none))
RUN(dense_back, dense_bwd(r->dev, r->b, I, O, X, DY, W, r->dx, fl_all(1e-9), r->w, none))
RUN(shared_fwd, dense_fwd(r->dev, r->b, I, O, X, SHARED, absent, r->y))
RUN(shared_data, dense_bwd_data(r->dev, r->b, I, O, DY, SHARED, r->dx))
RUN(product_measure, product_measure(r->dev, r->b, I, O, X, DY, true, r->measure))
RUN(xent, xent(r->dev, r->b, K, fl_all(0.1), r->label, Y, r->dy, r->loss, r->hit))
RUN(seat, axpby(r->dev, r->b.C, P, fl_all(1), SHARED, fl_all(0), r->w))
RUN(update, axpby(r->dev, r->b.C, P, fl_all(-1e-9), SHARED, fl_all(1), r->w))
RUN(measure, measure(r->dev, r->b.C, P, W, r->measure))
RUN(step, step(r->dev, r->b.C, P, SHARED, fl_all(1e-9), 0, NULL, r->w))

/* Calls a slot that adds every lane to the one accumulator. */
static fl_status add_up(fl_op_rig *r, bool product) {
  double factor[FL_BENCH_LANES];
  int64_t *acc[FL_BENCH_LANES];
  for (int c = 0; c < r->b.C; c++) {
    factor[c] = 1e6;
    acc[c] = r->acc;
  }
  if (product) return r->ops->product_mix(r->dev, r->b, I, O, X, DY, factor, acc);
  return r->ops->mix(r->dev, r->b.C, P, W, factor, acc);
}
static fl_status mix(fl_op_rig *r) { return add_up(r, false); }
static fl_status product_mix(fl_op_rig *r) { return add_up(r, true); }

#define HAS(slot) \
  static bool has_##slot(const fl_ops *ops) { return ops->slot; }
HAS(conv_relu_fwd)
HAS(pool_relu_bwd)
HAS(conv_bwd_data_relu)
HAS(dense_bwd)
HAS(product_measure)
HAS(product_mix)

bool fl_ops_have_blocks(const fl_ops *ops) {
  return ops->conv_relu_fwd && ops->pool_relu_bwd && ops->conv_bwd_data_relu;
}

#define CONV1 (2.0 * W1 * 900)
#define CONV2 (2.0 * W2 * 784)
#define DENSE (2.0 * WIDE)
const fl_op_item fl_op_items[] = {
    {"gather", gather, 0, 0, 5 * X1 + 4, 0, 0, 1, 1, NULL},
    {"conv1 forward", conv1_fwd, CONV1, 0, 4 * (X1 + Y1), 4 * W1, 0, 1, 0, NULL},
    {"conv1, relu", conv1_relu, CONV1, 0, 4 * (X1 + Y1), 4 * W1, 0, 0, 1, has_conv_relu_fwd},
    {"conv1 weights", conv1_weights, CONV1, 0, 4 * (X1 + Y1), 8 * W1, 0, 1, 1, NULL},
    {"conv2 forward", conv2_fwd, CONV2, 0, 4 * (Y1 + Y2), 4 * W2, 0, 1, 0, NULL},
    {"conv2, pool, relu", conv2_pool, CONV2, 0, 4 * Y1 + 5 * I, 4 * W2, 0, 0, 1, has_conv_relu_fwd},
    {"conv2 data", conv2_data, CONV2, 0, 4 * (Y2 + Y1), 4 * W2, 0, 1, 0, NULL},
    {"conv2 data, relu", conv2_relu, CONV2, 0, 4 * Y2 + 8 * Y1, 4 * W2, 0, 0, 1,
     has_conv_bwd_data_relu},
    {"conv2 weights", conv2_weights, CONV2, 0, 4 * (Y1 + Y2), 8 * W2, 0, 1, 1, NULL},
    {"max pool forward", pool_fwd, 0, 0, 4 * (Y2 + I), 0, 0, 1, 0, NULL},
    {"max pool backward", pool_bwd, 0, 0, 8 * (Y2 + I), 0, 0, 1, 0, NULL},
    {"pool, relu backward", pool_relu, 0, 0, 5 * I + 4 * Y2, 0, 0, 0, 1, has_pool_relu_bwd},
    {"relu forward", relu_fwd, 0, 0, 8 * Y1, 0, 0, 1, 0, NULL},
    {"relu backward", relu_bwd, 0, 0, 12 * Y1, 0, 0, 1, 0, NULL},
    {"dropout", dropout, 0, 0, 8 * I, 0, 0, 2, 2, NULL},
    {"flatten", flatten, 0, 0, 8 * I, 0, 0, 2, 2, NULL},
    {"dense forward", dense_fwd, DENSE, 0, 4 * (I + O), 4 * WIDE, 0, 1, 1, NULL},
    {"dense data", dense_data, DENSE, 0, 4 * (I + O), 4 * WIDE, 0, 1, 1, NULL},
    {"dense weights", dense_weights, DENSE, 0, 4 * (I + O), 8 * WIDE, 0, 1, 1, NULL},
    {"dense both ways back", dense_back, 2 * DENSE, 0, 4 * (2 * I + O), 8 * WIDE, 0, 0, 0,
     has_dense_bwd},
    {"shared dense forward", shared_fwd, DENSE, 0, 4 * (I + O), 0, 4 * WIDE, 0, 0, NULL},
    {"shared dense data", shared_data, DENSE, 0, 4 * (I + O), 0, 4 * WIDE, 0, 0, NULL},
    {"product measure", product_measure, 0, I + O, 4 * (I + O), 16, 0, 0, 0, has_product_measure},
    {"product mix", product_mix, DENSE, 0, 4 * (I + O), 0, 16.0 * WIDE, 0, 0, has_product_mix},
    {"cross-entropy", xent, 0, 0, 8 * K + 4, 0, 0, 1, 1, NULL},
    {"seat (copy)", seat, 0, 0, 0, 4 * P, 4 * P, 0.2, 0.2, NULL},
    {"update (axpby)", update, 0, 0, 0, 8 * P, 4 * P, 0.2, 0.2, NULL},
    {"measure", measure, 0, 0, 0, 4 * P, 0, 0.2, 0.2, NULL},
    {"mix", mix, 0, 0, 0, 4 * P, 16 * P, 0.2, 0.2, NULL},
    {"step (unfused)", step, 0, 0, 0, 8 * P, 4 * P, 0, 0, NULL},
};
const int fl_n_op_item = FL_COUNT(fl_op_items);

fl_op_count fl_op_count_of(const fl_op_item *k, const fl_op_rig *r) {
  double C = r->b.C, B = r->b.B;
  fl_op_count n = {C * B * (k->flop_row + (B + 1) * k->flop_pair),
                   C * (B * k->bytes_row + k->bytes_lane) + k->bytes_once};
  return n;
}

fl_status fl_op_reserve(const fl_ops *ops, fl_dev *dev, int64_t bytes, void *out) {
  void **at = out;
  FL_TRY(ops->alloc(dev, bytes, at));
  fl_span all = {*at, 0};
  return ops->fill(dev, 1, bytes / 4, 0.01f, all);
}

static fl_status reserve_lanes(fl_op_rig *r, int64_t floats, fl_span *out) {
  out->stride = floats;
  return fl_op_reserve(r->ops, r->dev, 4 * floats * r->b.C, &out->at);
}

/* One image of conv1's shape, which every row is made from. */
static fl_status make_source(fl_op_rig *r) {
  static const float shift[3] = {128, 128, 128}, scale[3] = {0.01f, 0.01f, 0.01f};
  unsigned char pixel[X1];
  void *x = NULL;
  for (int i = 0; i < X1; i++) pixel[i] = (unsigned char)(i * 31);
  fl_status status = fl_op_reserve(r->ops, r->dev, X1, &x);
  r->source = (fl_source){.image = conv1.in,
                          .n_label = 1,
                          .bytes = true,
                          .x = x,
                          .label = r->label,
                          .shift = shift,
                          .scale = scale};
  return status == FEDLANE_OK ? r->ops->upload(r->dev, x, pixel, X1) : status;
}

fl_status fl_op_rig_open(fl_op_rig *r, int C, int B) {
  static const uint32_t client[FL_BENCH_LANES];
  fl_span *activations[] = {&r->x, &r->y, &r->dx, &r->dy};
  int64_t rows = (int64_t)C * B;
  r->b = (fl_batch){C, B, r->rows};
  r->draw = (fl_draw){.purpose = FL_FOR_DROPOUT, .client = client, .nth = client};
  for (int c = 0; c < C; c++) r->rows[c] = B;
  for (int i = 0; i < FL_COUNT(activations); i++)
    FL_TRY(reserve_lanes(r, (int64_t)B * Y2, activations[i]));
  FL_TRY(reserve_lanes(r, (int64_t)B * I / 4, &r->mask));
  FL_TRY(reserve_lanes(r, P, &r->w));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 8 * P, &r->acc));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 4 * P, &r->mean));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 4 * rows, &r->index));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 4 * rows, &r->label));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 8 * C, &r->hit));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 8 * C, &r->loss));
  FL_TRY(fl_op_reserve(r->ops, r->dev, (int64_t)sizeof(fl_measure) * C, &r->measure));
  int32_t *zeros = calloc((size_t)rows, sizeof *zeros);
  if (!zeros) return fl_fail(FEDLANE_MEMORY, "no memory for %lld labels", (long long)rows);
  fl_status status = r->ops->upload(r->dev, r->index, zeros, 4 * rows);
  if (status == FEDLANE_OK) status = r->ops->upload(r->dev, r->label, zeros, 4 * rows);
  if (status == FEDLANE_OK) status = make_source(r);
  if (status == FEDLANE_OK) status = r->ops->fill(r->dev, C, r->mask.stride, 0, r->mask);
  if (status == FEDLANE_OK) status = r->ops->sync(r->dev);
  free(zeros);
  return status;
}

void fl_op_rig_close(fl_op_rig *r) {
  void *held[] = {r->x.at,    r->y.at,
                  r->dx.at,   r->dy.at,
                  r->mask.at, r->w.at,
                  r->acc,     r->mean,
                  r->index,   r->label,
                  r->hit,     r->loss,
                  r->measure, (void *)(uintptr_t)r->source.x};
  for (int i = 0; i < FL_COUNT(held); i++)
    if (held[i]) r->ops->release(r->dev, &held[i]);
}
