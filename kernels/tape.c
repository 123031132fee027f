#include "tape.h"

#include <string.h>

struct fl_dev {
  fl_tape tape;
};

fl_dev *fl_tape_begin(fl_tape *tape) {
  tape->n = 0;
  return (fl_dev *)tape;
}

static fl_status keep(fl_dev *d, const fl_call *call) {
  fl_tape *t = &d->tape;
  if (t->n == FL_CALLS_MAX)
    return fl_fail(FEDLANE_UNSUPPORTED, "a local step takes more than %d calls", FL_CALLS_MAX);
  t->call[t->n++] = *call;
  return FEDLANE_OK;
}

/* Keeps a call whose factors must be one for all lanes. */
static fl_status keep_scaled(fl_dev *d, fl_call *call, fl_coef a, fl_coef b) {
  if (a.lane || b.lane)
    return fl_fail(FEDLANE_UNSUPPORTED, "a local step has factors that differ by lane");
  call->a = a.all;
  call->b = b.all;
  return keep(d, call);
}

static fl_status gather(fl_dev *d, fl_batch b, const fl_source *source, const int32_t *index,
                        int64_t index_stride, const fl_draw *draw, fl_span x, int32_t *label,
                        fl_span target) {
  fl_tape *t = &d->tape;
  if (source->image.steps > 0 || source->n_label > 1)
    return fl_fail(FEDLANE_UNSUPPORTED, "the data are sequences");
  t->B = b.B;
  t->seed = draw->seed;
  t->round = draw->round;
  t->source = *source;
  t->index = index;
  t->index_stride = index_stride;
  t->label = label;
  fl_call c = {.op = FL_CALL_GATHER, .out = {x, target}};
  return keep(d, &c);
}

static fl_status dense_fwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y) {
  (void)b;
  fl_call c = {.op = FL_CALL_DENSE_FWD, .I = I, .O = O, .in = {x, w, bias}, .out = {y}};
  return keep(d, &c);
}

static fl_status dense_bwd_data(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                                fl_span dx) {
  (void)b;
  fl_call c = {.op = FL_CALL_DENSE_BWD_DATA, .I = I, .O = O, .in = {dy, w}, .out = {dx}};
  return keep(d, &c);
}

static fl_status dense_bwd_weights(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw, fl_span gbias) {
  (void)b;
  fl_call c = {.op = FL_CALL_DENSE_BWD_WEIGHTS, .I = I, .O = O, .in = {x, dy}, .out = {gw, gbias}};
  return keep_scaled(d, &c, scale, fl_all(0));
}

static fl_status conv_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                          fl_cspan bias, fl_span y) {
  (void)b;
  fl_call c = {.op = FL_CALL_CONV_FWD, .window = *s, .in = {x, w, bias}, .out = {y}};
  return keep(d, &c);
}

static fl_status conv_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy, fl_cspan w,
                               fl_span dx) {
  (void)b;
  fl_call c = {.op = FL_CALL_CONV_BWD_DATA, .window = *s, .in = {dy, w}, .out = {dx}};
  return keep(d, &c);
}

static fl_status conv_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                  fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias) {
  (void)b;
  fl_call c = {.op = FL_CALL_CONV_BWD_WEIGHTS, .window = *s, .in = {x, dy}, .out = {gw, gbias}};
  return keep_scaled(d, &c, scale, fl_all(0));
}

static fl_status conv_relu_fwd(fl_dev *d, fl_batch b, const fl_window *s, const fl_window *pool,
                               fl_cspan x, fl_cspan w, fl_cspan bias, fl_span y, fl_span mask) {
  (void)b;
  fl_call c = {.op = FL_CALL_CONV_FWD,
               .window = *s,
               .relu = true,
               .pooled = pool != NULL,
               .in = {x, w, bias},
               .out = {y, mask}};
  return keep(d, &c);
}

static fl_status conv_bwd_data_relu(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                    fl_cspan w, fl_cspan x, fl_span dx) {
  (void)b;
  fl_call c = {
      .op = FL_CALL_CONV_BWD_DATA, .window = *s, .relu = true, .in = {dy, w, x}, .out = {dx}};
  return keep(d, &c);
}

static fl_status pool_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_span y) {
  (void)b;
  fl_call c = {.op = FL_CALL_POOL_FWD, .kind = kind, .window = *s, .in = {x}, .out = {y}};
  return keep(d, &c);
}

static fl_status pool_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_cspan y, fl_cspan dy, fl_span dx) {
  (void)b;
  fl_call c = {.op = FL_CALL_POOL_BWD, .kind = kind, .window = *s, .in = {x, y, dy}, .out = {dx}};
  return keep(d, &c);
}

static fl_status pool_relu_bwd(fl_dev *d, fl_batch b, const fl_window *pool, fl_cspan mask,
                               fl_cspan dy, fl_span dx) {
  (void)b;
  fl_call c = {.op = FL_CALL_POOL_RELU_BWD, .window = *pool, .in = {mask, dy}, .out = {dx}};
  return keep(d, &c);
}

/* What the layers answer that no backend keeps resident. Their ways back are never asked. */
static fl_status refuse(const char *layer) {
  return fl_fail(FEDLANE_UNSUPPORTED, "the model has %s", layer);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

static fl_status gnorm_fwd(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y, fl_span stat) {
  return refuse("group normalisation");
}

static fl_status depthwise_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                               fl_cspan bias, fl_span y) {
  return refuse("depthwise convolutions");
}

static fl_status columns(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y) {
  return refuse("sequences made of images");
}

static fl_status embed_fwd(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan w, fl_span y) {
  return refuse("an embedding");
}

static fl_status lstm_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_span y,
                          fl_span keep) {
  return refuse("recurrent layers");
}

static fl_status gru_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan bias, fl_span y,
                         fl_span keep) {
  return refuse("recurrent layers");
}

static fl_status last(fl_dev *d, fl_batch b, int T, int F, bool back, fl_cspan x, fl_span y) {
  return refuse("sequences");
}

static fl_status shift_fwd(fl_dev *d, fl_batch b, int64_t n, fl_cspan x, fl_cspan w, fl_span y) {
  return refuse("learnt positions");
}

static fl_status attend_fwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                            fl_span y, fl_span keep) {
  return refuse("attention");
}

#pragma GCC diagnostic pop

static fl_status act_fwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan x, fl_span y) {
  (void)b;
  fl_call c = {.op = FL_CALL_ACT_FWD, .kind = kind, .n = n, .in = {x}, .out = {y}};
  return keep(d, &c);
}

static fl_status act_bwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan saved, fl_cspan dy,
                         fl_span dx) {
  (void)b;
  fl_call c = {.op = FL_CALL_ACT_BWD, .kind = kind, .n = n, .in = {saved, dy}, .out = {dx}};
  return keep(d, &c);
}

static fl_status dropout(fl_dev *d, fl_batch b, int64_t n, float p, const fl_draw *draw, fl_cspan x,
                         fl_span y) {
  (void)b;
  fl_call c = {.op = FL_CALL_DROPOUT, .n = n, .layer = draw->layer, .a = p, .in = {x}, .out = {y}};
  return keep(d, &c);
}

static fl_status flatten(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y) {
  (void)b;
  fl_call c = {.op = FL_CALL_FLATTEN, .kind = back, .n = fl_image_size(s), .in = {x}, .out = {y}};
  return keep(d, &c);
}

static fl_status xent(fl_dev *d, fl_batch b, int K, fl_coef norm, const int32_t *label, fl_cspan z,
                      fl_span dz, double *loss, int64_t *hit) {
  (void)b, (void)norm, (void)label;
  d->tape.loss = loss;
  d->tape.hit = hit;
  fl_call c = {.op = FL_CALL_XENT, .O = K, .in = {z}, .out = {dz}};
  return keep(d, &c);
}

static fl_status regress(fl_dev *d, fl_batch b, int T, fl_regression kind, float delta,
                         fl_coef norm, fl_cspan target, fl_cspan z, fl_span dz, double *loss) {
  (void)b, (void)norm;
  d->tape.loss = loss;
  fl_call c = {
      .op = FL_CALL_REGRESS, .kind = kind, .O = T, .a = delta, .in = {target, z}, .out = {dz}};
  return keep(d, &c);
}

static fl_status step(fl_dev *d, int C, int64_t n, fl_cspan g, fl_coef lr, int n_term,
                      const fl_term *term, fl_span w) {
  (void)C;
  fl_call c = {.op = FL_CALL_STEP, .n = n, .in = {g}, .out = {w}, .n_term = n_term};
  if (n_term > 0) memcpy(c.term, term, (size_t)n_term * sizeof *term);
  return keep_scaled(d, &c, lr, fl_all(0));
}

static fl_status axpby(fl_dev *d, int C, int64_t n, fl_coef a, fl_cspan x, fl_coef b, fl_span y) {
  (void)C;
  fl_call c = {.op = FL_CALL_AXPBY, .n = n, .in = {x}, .out = {y}};
  return keep_scaled(d, &c, a, b);
}

const fl_ops fl_tape_ops = {
    .record = {.name = "tape", .help = "writes a local step down"},
    .gather = gather,
    .dense_fwd = dense_fwd,
    .dense_bwd_data = dense_bwd_data,
    .dense_bwd_weights = dense_bwd_weights,
    .conv_fwd = conv_fwd,
    .conv_bwd_data = conv_bwd_data,
    .conv_bwd_weights = conv_bwd_weights,
    .pool_fwd = pool_fwd,
    .pool_bwd = pool_bwd,
    .gnorm_fwd = gnorm_fwd,
    .depthwise_fwd = depthwise_fwd,
    .columns = columns,
    .embed_fwd = embed_fwd,
    .lstm_fwd = lstm_fwd,
    .gru_fwd = gru_fwd,
    .last = last,
    .shift_fwd = shift_fwd,
    .attend_fwd = attend_fwd,
    .act_fwd = act_fwd,
    .act_bwd = act_bwd,
    .dropout = dropout,
    .flatten = flatten,
    .xent = xent,
    .regress = regress,
    .step = step,
    .axpby = axpby,
    .conv_relu_fwd = conv_relu_fwd,
    .pool_relu_bwd = pool_relu_bwd,
    .conv_bwd_data_relu = conv_bwd_data_relu,
};
