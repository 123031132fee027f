#include "op_runs.h"

/* What a block reads and writes. conv, small: of the layers alone, where the block is not whole. */
typedef struct block {
  fl_window s, pool;
  const fl_window *pooling; /* &pool, or NULL */
  fl_cspan x, w, bias, dy;
  fl_span y, mask, conv, small; /* small: pooled before the relu */
  fl_span dconv, dx;
} block;

/* Whether the block's own slots are to be called. */
static bool whole(const fl_rig *r) {
  return r->block == FL_BLOCK_WHOLE && r->ops->conv_relu_fwd && r->ops->pool_relu_bwd &&
         r->ops->conv_bwd_data_relu;
}

static fl_status forward(fl_rig *r, block *b) {
  const fl_ops *ops = r->ops;
  int64_t n = fl_image_size(b->s.out), n_small = fl_image_size(b->pool.out);
  if (whole(r))
    return ops->conv_relu_fwd(r->dev, r->batch, &b->s, b->pooling, b->x, b->w, b->bias, b->y,
                              b->mask);
  FL_TRY(ops->conv_fwd(r->dev, r->batch, &b->s, b->x, b->w, b->bias, b->conv));
  fl_cspan conv = fl_const(b->conv), small = fl_const(b->small);
  if (!b->pooling) return ops->act_fwd(r->dev, r->batch, FL_ACT_RELU, n, conv, b->y);
  if (r->block == FL_BLOCK_POOL_FIRST) {
    FL_TRY(ops->pool_fwd(r->dev, r->batch, &b->pool, FL_POOL_MAX, conv, b->small));
    return ops->act_fwd(r->dev, r->batch, FL_ACT_RELU, n_small, small, b->y);
  }
  FL_TRY(ops->act_fwd(r->dev, r->batch, FL_ACT_RELU, n, conv, b->conv));
  return ops->pool_fwd(r->dev, r->batch, &b->pool, FL_POOL_MAX, conv, b->y);
}

static fl_status back_to_conv(fl_rig *r, block *b) {
  const fl_ops *ops = r->ops;
  int64_t n = fl_image_size(b->s.out), n_small = fl_image_size(b->pool.out);
  fl_cspan y = fl_const(b->y), conv = fl_const(b->conv), small = fl_const(b->small);
  if (!b->pooling) return ops->act_bwd(r->dev, r->batch, FL_ACT_RELU, n, y, b->dy, b->dconv);
  if (whole(r))
    return ops->pool_relu_bwd(r->dev, r->batch, &b->pool, fl_const(b->mask), b->dy, b->dconv);
  if (r->block == FL_BLOCK_POOL_FIRST) {
    fl_span dsmall = fl_rig_output(r, fl_shape_images(b->pool.out));
    FL_TRY(ops->act_bwd(r->dev, r->batch, FL_ACT_RELU, n_small, y, b->dy, dsmall));
    return ops->pool_bwd(r->dev, r->batch, &b->pool, FL_POOL_MAX, conv, small, fl_const(dsmall),
                         b->dconv);
  }
  FL_TRY(ops->pool_bwd(r->dev, r->batch, &b->pool, FL_POOL_MAX, conv, y, b->dy, b->dconv));
  return ops->act_bwd(r->dev, r->batch, FL_ACT_RELU, n, conv, fl_const(b->dconv), b->dconv);
}

/* Through the convolution and a relu before it. */
static fl_status back_to_input(fl_rig *r, block *b) {
  const fl_ops *ops = r->ops;
  fl_cspan dconv = fl_const(b->dconv), dx = fl_const(b->dx);
  if (whole(r)) return ops->conv_bwd_data_relu(r->dev, r->batch, &b->s, dconv, b->w, b->x, b->dx);
  FL_TRY(ops->conv_bwd_data(r->dev, r->batch, &b->s, dconv, b->w, b->dx));
  return ops->act_bwd(r->dev, r->batch, FL_ACT_RELU, fl_image_size(b->s.in), b->x, dx, b->dx);
}

static block new_block(fl_rig *r) {
  block b = {.s = fl_case_window(r->k)};
  b.pool = (fl_window){b.s.out, b.s.out, 2, 2, 0};
  b.pool.out.height /= 2;
  b.pool.out.width /= 2;
  fl_image out = r->k->pooled ? b.pool.out : b.s.out;
  fl_shape conv = fl_shape_images(b.s.out), y = fl_shape_images(out);
  int64_t taps = (int64_t)b.s.kernel * b.s.kernel;
  b.x = fl_rig_input(r, FL_IN_X, fl_shape_images(b.s.in));
  b.w = fl_rig_input(r, FL_IN_W, fl_shape_vector(taps * b.s.in.channels * b.s.out.channels));
  if (!r->k->no_bias) b.bias = fl_rig_input(r, FL_IN_BIAS, fl_shape_vector(b.s.out.channels));
  b.dy = fl_rig_input(r, FL_IN_DY, y);
  b.y = fl_rig_output(r, y);
  b.mask = fl_rig_output(r, fl_shape_rows((y.n + 3) / 4));
  b.conv = fl_rig_output(r, conv);
  b.small = fl_rig_output(r, fl_shape_images(b.pool.out));
  b.dconv = fl_rig_output(r, conv);
  b.dx = fl_rig_output(r, fl_shape_images(b.s.in));
  return b;
}

fl_status fl_run_block(fl_rig *r) {
  block b = new_block(r);
  fl_image out = r->k->pooled ? b.pool.out : b.s.out;
  b.pooling = r->k->pooled ? &b.pool : NULL;
  FL_TRY(forward(r, &b));
  FL_TRY(back_to_conv(r, &b));
  FL_TRY(back_to_input(r, &b));
  fl_rig_keep_forward(r, fl_const(b.y), fl_shape_images(out));
  fl_rig_keep(r, "dconv", fl_const(b.dconv), fl_shape_images(b.s.out));
  fl_rig_keep(r, "dx", fl_const(b.dx), fl_shape_images(b.s.in));
  return FEDLANE_OK;
}
