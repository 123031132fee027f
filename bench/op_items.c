#include "op_items.h"

/* Workload a1: parameters of a lane; floats of a row at conv1's input and the three places after;
 * features of the hidden layer. */
enum { P = 1626448, X1 = 3072, Y1 = 28800, Y2 = 50176, I = 12544, O = 128, K = 10 };
enum { W1 = 32 * 27, W2 = 64 * 288, WIDE = 12544 * 128 }; /* weights of the three large layers */
/* What a1 lacks: 20 steps of 96 features with 8 heads and 10,004 words, as in transformer_lm;
 * recurrence of 256 units; depthwise filters and norms over the images that conv2 makes; ten
 * outputs of images of one channel. */
enum { T = FL_BENCH_STEPS, V = FL_BENCH_WORDS, F = 96, HEADS = 8, H = 256, W3 = 64 * 9 };
static const fl_window conv1 = {FL_BENCH_IMAGE, {32, 30, 30}, 3, 1, 0};
static const fl_window conv2 = {{32, 30, 30}, {64, 28, 28}, 3, 1, 0};
static const fl_window pool = {{64, 28, 28}, {64, 14, 14}, 2, 2, 0};
static const fl_window depth = {{64, 28, 28}, {64, 28, 28}, 3, 1, 1};
static const fl_span none;
static const fl_cspan absent;

#define RUN(name, call) \
  static fl_status name(fl_op_rig *r) { return r->ops->call; }
#define X fl_const(r->x)
#define Y fl_const(r->y)
#define DY fl_const(r->dy)
#define W fl_const(r->w)
#define MASK fl_const(r->mask)
#define KEEP fl_const(r->keep)
#define BEHIND ((fl_span){r->w.at + 64, r->w.stride})
#define TOKEN fl_const(r->token)
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
RUN(pick_fwd, dense_pick_fwd(r->dev, r->b, K, &r->pick, W, absent, r->y))
RUN(pick_weights, dense_pick_bwd_weights(r->dev, r->b, K, &r->pick, DY, fl_all(1e-9), r->w, none))
RUN(shared_fwd, dense_fwd(r->dev, r->b, I, O, X, SHARED, absent, r->y))
RUN(shared_data, dense_bwd_data(r->dev, r->b, I, O, DY, SHARED, r->dx))
RUN(product_measure, product_measure(r->dev, r->b, I, O, X, DY, true, r->measure))
RUN(average_fwd, pool_fwd(r->dev, r->b, &pool, FL_POOL_AVERAGE, X, r->y))
RUN(average_bwd, pool_bwd(r->dev, r->b, &pool, FL_POOL_AVERAGE, X, Y, DY, r->dx))
RUN(square_fwd, act_fwd(r->dev, r->b, FL_ACT_SQUARE, Y1, X, r->y))
RUN(square_bwd, act_bwd(r->dev, r->b, FL_ACT_SQUARE, Y1, X, DY, r->dx))
RUN(gelu_fwd, act_fwd(r->dev, r->b, FL_ACT_GELU, Y1, X, r->y))
RUN(gelu_bwd, act_bwd(r->dev, r->b, FL_ACT_GELU, Y1, X, DY, r->dx))
RUN(gnorm_fwd, gnorm_fwd(r->dev, r->b, conv2.out, 2, X, W, SHARED, r->y, r->keep))
RUN(gnorm_data, gnorm_bwd_data(r->dev, r->b, conv2.out, 2, X, W, KEEP, DY, r->dx))
RUN(gnorm_weights,
    gnorm_bwd_weights(r->dev, r->b, conv2.out, 2, X, KEEP, DY, fl_all(1e-9), r->w, BEHIND))
RUN(depth_fwd, depthwise_fwd(r->dev, r->b, &depth, X, W, absent, r->y))
RUN(depth_data, depthwise_bwd_data(r->dev, r->b, &depth, DY, W, r->dx))
RUN(depth_weights, depthwise_bwd_weights(r->dev, r->b, &depth, X, DY, fl_all(1e-9), r->w, none))
RUN(columns, columns(r->dev, r->b, conv2.out, false, X, r->y))
RUN(embed_fwd, embed_fwd(r->dev, r->steps, V, F, TOKEN, W, r->y))
RUN(embed_weights, embed_bwd_weights(r->dev, r->steps, V, F, TOKEN, DY, fl_all(1e-9), r->w))
RUN(lstm_fwd, lstm_fwd(r->dev, r->b, T, H, W, r->y, r->keep))
RUN(lstm_bwd, lstm_bwd(r->dev, r->b, T, H, W, DY, r->keep))
RUN(gru_fwd, gru_fwd(r->dev, r->b, T, H, W, SHARED, r->y, r->keep))
RUN(gru_bwd, gru_bwd(r->dev, r->b, T, H, W, DY, r->keep))
RUN(last, last(r->dev, r->b, T, H, false, X, r->y))
RUN(shift_fwd, shift_fwd(r->dev, r->b, T *F, X, W, r->y))
RUN(shift_weights, shift_bwd_weights(r->dev, r->b, T *F, DY, fl_all(1e-9), r->w))
RUN(waves, waves(r->dev, r->b, T, F, X, r->y))
RUN(attend_fwd, attend_fwd(r->dev, r->b, T, F, HEADS, true, X, r->y, r->keep))
RUN(attend_bwd, attend_bwd(r->dev, r->b, T, F, HEADS, true, X, KEEP, DY, r->dx))
RUN(xent, xent(r->dev, r->b, K, fl_all(0.1), r->label, Y, r->dy, r->loss, r->hit))
RUN(regress, regress(r->dev, r->b, K, FL_LOSS_MSE, 1, fl_all(0.1), X, Y, r->dy, r->loss))
RUN(normal, normal(r->dev, r->b.C, P, &r->draw, fl_all(1e-9), r->w))
RUN(uniform, uniform(r->dev, r->b.C, P, &r->draw, 0.009f, 0.011f, r->w))
RUN(fill, fill(r->dev, r->b.C, P, 0.01f, r->w))
RUN(clip, clip(r->dev, r->b.C, P, 1e9f, r->w))
RUN(adaptive,
    adaptive(r->dev, P, FL_ADAM, 1e-9f, 0.9f, 0.99f, 1e-3f, r->mean, r->two, r->two + P, r->w.at))
RUN(add64, add64(r->dev, P, r->acc, (int64_t *)(void *)r->two))
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

static fl_status unmix(fl_op_rig *r) {
  const int64_t *acc = r->acc;
  double unit = 1e-9;
  return r->ops->unmix(r->dev, P, 1, &acc, &unit, r->two);
}

#define HAS(slot) \
  static bool has_##slot(const fl_ops *ops) { return ops->slot; }
HAS(conv_relu_fwd)
HAS(pool_relu_bwd)
HAS(conv_bwd_data_relu)
HAS(dense_bwd)
HAS(dense_pick_fwd)
HAS(dense_pick_bwd_weights)
HAS(product_measure)
HAS(product_mix)

bool fl_ops_have_blocks(const fl_ops *ops) {
  return ops->conv_relu_fwd && ops->pool_relu_bwd && ops->conv_bwd_data_relu;
}

#define CONV1 (2.0 * W1 * 900)
#define CONV2 (2.0 * W2 * 784)
#define DENSE (2.0 * WIDE)
#define PICK (2.0 * K * X1)
#define DEPTH (2.0 * 9 * Y2)
#define LSTM (8.0 * T * H * H)
#define GRU (6.0 * T * H * H)
#define SEEN (4.0 * T * T * F) /* as ops.h has it: what causal attention leaves out counts too */
#define SEEN_BYTES (4 * HEADS * T * T)
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
    {"bytes, dense forward", pick_fwd, PICK, 0, X1 + 4 * K, 4 * K *X1, 0, 0, 0, has_dense_pick_fwd},
    {"bytes, dense weights", pick_weights, PICK, 0, X1 + 4 * K, 8 * K *X1, 0, 0, 0,
     has_dense_pick_bwd_weights},
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
    {"average pool forward", average_fwd, 0, 0, 4 * (Y2 + I), 0, 0, 0, 0, NULL},
    {"average pool backward", average_bwd, 0, 0, 4 * (Y2 + I), 0, 0, 0, 0, NULL},
    {"square forward", square_fwd, 0, 0, 8 * Y1, 0, 0, 0, 0, NULL},
    {"square backward", square_bwd, 0, 0, 12 * Y1, 0, 0, 0, 0, NULL},
    {"gelu forward", gelu_fwd, 0, 0, 8 * Y1, 0, 0, 0, 0, NULL},
    {"gelu backward", gelu_bwd, 0, 0, 12 * Y1, 0, 0, 0, 0, NULL},
    {"group norm forward", gnorm_fwd, 0, 0, 8 * Y2, 0, 0, 0, 0, NULL},
    {"group norm data", gnorm_data, 0, 0, 12 * Y2, 0, 0, 0, 0, NULL},
    {"group norm weights", gnorm_weights, 0, 0, 8 * Y2, 0, 0, 0, 0, NULL},
    {"depthwise forward", depth_fwd, DEPTH, 0, 8 * Y2, 4 * W3, 0, 0, 0, NULL},
    {"depthwise data", depth_data, DEPTH, 0, 8 * Y2, 4 * W3, 0, 0, 0, NULL},
    {"depthwise weights", depth_weights, DEPTH, 0, 8 * Y2, 8 * W3, 0, 0, 0, NULL},
    {"columns", columns, 0, 0, 8 * Y2, 0, 0, 0, 0, NULL},
    {"embedding forward", embed_fwd, 0, 0, T *(4 + 8 * F), 0, 0, 0, 0, NULL},
    {"embedding weights", embed_weights, 0, 0, T *(4 + 12 * F), 0, 0, 0, 0, NULL},
    {"lstm forward", lstm_fwd, LSTM, 0, T * 44 * H, 16 * H *H, 0, 0, 0, NULL},
    {"lstm backward", lstm_bwd, LSTM, 0, T * 40 * H, 16 * H *H, 0, 0, 0, NULL},
    {"gru forward", gru_fwd, GRU, 0, T * 36 * H, 12 * H *H, 0, 0, 0, NULL},
    {"gru backward", gru_bwd, GRU, 0, T * 48 * H, 12 * H *H, 0, 0, 0, NULL},
    {"last step", last, 0, 0, 8 * H, 0, 0, 0, 0, NULL},
    {"shift forward", shift_fwd, 0, 0, 8 * T *F, 4 * T *F, 0, 0, 0, NULL},
    {"shift weights", shift_weights, 0, 0, 4 * T *F, 8 * T *F, 0, 0, 0, NULL},
    {"waves", waves, 0, 0, 8 * T *F, 0, 0, 0, 0, NULL},
    {"attention forward", attend_fwd, SEEN, 0, 16 * T *F + SEEN_BYTES, 0, 0, 0, 0, NULL},
    {"attention backward", attend_bwd, 2 * SEEN, 0, 28 * T *F + SEEN_BYTES, 0, 0, 0, 0, NULL},
    {"squared error", regress, 0, 0, 12 * K, 0, 0, 0, 0, NULL},
    {"normal noise", normal, 0, 0, 0, 8 * P, 0, 0, 0, NULL},
    {"uniform", uniform, 0, 0, 0, 4 * P, 0, 0, 0, NULL},
    {"fill", fill, 0, 0, 0, 4 * P, 0, 0, 0, NULL},
    {"clip", clip, 0, 0, 0, 8 * P, 0, 0, 0, NULL},
    {"adaptive", adaptive, 0, 0, 0, 0, 28 * P, 0, 0, NULL},
    {"add64", add64, 0, 0, 0, 0, 24 * P, 0, 0, NULL},
    {"unmix", unmix, 0, 0, 0, 0, 12 * P, 0, 0, NULL},
};
const int fl_n_op_item = FL_COUNT(fl_op_items);

fl_op_count fl_op_count_of(const fl_op_item *k, const fl_op_rig *r) {
  double C = r->b.C, B = r->b.B;
  fl_op_count n = {C * B * (k->flop_row + (B + 1) * k->flop_pair),
                   C * (B * k->bytes_row + k->bytes_lane) + k->bytes_once};
  return n;
}
