/* The operands of the items that `fedlane bench ops` measures. */
#include <stdlib.h>

#include "op_items.h"

/* Floats of a row at the widest place of workload a1, of its pooled images and of its weights. */
enum { IMAGE = 3072, WIDEST = 50176, POOLED = 12544, P = 1626448 };

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
  unsigned char pixel[IMAGE];
  void *x = NULL;
  for (int i = 0; i < IMAGE; i++) pixel[i] = (unsigned char)(i * 31);
  fl_status status = fl_op_reserve(r->ops, r->dev, IMAGE, &x);
  r->source = (fl_source){.image = FL_BENCH_IMAGE,
                          .n_label = 1,
                          .bytes = true,
                          .x = x,
                          .label = r->label,
                          .shift = shift,
                          .scale = scale};
  r->plane = r->source;
  r->plane.image = (fl_image){1, IMAGE / 32, 32};
  r->pick = (fl_pick){.source = &r->plane, .index = r->index, .index_stride = r->b.B};
  return status == FEDLANE_OK ? r->ops->upload(r->dev, x, pixel, IMAGE) : status;
}

/* Words all over the vocabulary, a row each. */
static fl_status make_tokens(fl_op_rig *r) {
  int64_t n = (int64_t)r->steps.C * r->steps.B;
  FL_TRY(reserve_lanes(r, r->steps.B, &r->token));
  float *word = calloc((size_t)n, sizeof *word);
  if (!word) return fl_fail(FEDLANE_MEMORY, "no memory for %lld words", (long long)n);
  for (int64_t i = 0; i < n; i++) word[i] = (float)(i * 7919 % FL_BENCH_WORDS);
  fl_status status = r->ops->upload(r->dev, r->token.at, word, 4 * n);
  if (status == FEDLANE_OK) status = r->ops->sync(r->dev);
  free(word);
  return status;
}

fl_status fl_op_rig_open(fl_op_rig *r, int C, int B) {
  static const uint32_t client[FL_BENCH_LANES];
  fl_span *activations[] = {&r->x, &r->y, &r->dx, &r->dy, &r->keep};
  int64_t rows = (int64_t)C * B;
  r->b = (fl_batch){C, B, r->rows};
  r->draw = (fl_draw){.purpose = FL_FOR_DROPOUT, .client = client, .nth = client};
  r->steps = (fl_batch){C, B * FL_BENCH_STEPS, r->step_rows};
  for (int c = 0; c < C; c++) r->rows[c] = B;
  for (int c = 0; c < C; c++) r->step_rows[c] = r->steps.B;
  for (int i = 0; i < FL_COUNT(activations); i++)
    FL_TRY(reserve_lanes(r, (int64_t)B * WIDEST, activations[i]));
  FL_TRY(reserve_lanes(r, (int64_t)B * POOLED / 4, &r->mask));
  FL_TRY(reserve_lanes(r, P, &r->w));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 8 * P, &r->acc));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 8 * P, &r->two));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 4 * P, &r->mean));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 4 * rows, &r->index));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 4 * rows, &r->label));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 8 * C, &r->hit));
  FL_TRY(fl_op_reserve(r->ops, r->dev, 8 * C, &r->loss));
  FL_TRY(fl_op_reserve(r->ops, r->dev, (int64_t)sizeof(fl_measure) * C, &r->measure));
  FL_TRY(make_tokens(r));
  int32_t *zeros = calloc((size_t)rows, sizeof *zeros);
  if (!zeros) return fl_fail(FEDLANE_MEMORY, "no memory for %lld labels", (long long)rows);
  fl_status status = r->ops->upload(r->dev, r->index, zeros, 4 * rows);
  if (status == FEDLANE_OK) status = r->ops->upload(r->dev, r->label, zeros, 4 * rows);
  if (status == FEDLANE_OK) status = make_source(r);
  if (status == FEDLANE_OK) status = r->ops->fill(r->dev, C, r->mask.stride, 0, r->mask);
  if (status == FEDLANE_OK)
    status = r->ops->fill(r->dev, 1, 2 * (int64_t)P, 0, (fl_span){(float *)(void *)r->acc, 0});
  if (status == FEDLANE_OK) status = r->ops->sync(r->dev);
  free(zeros);
  return status;
}

void fl_op_rig_close(fl_op_rig *r) {
  void *held[] = {r->x.at,
                  r->y.at,
                  r->dx.at,
                  r->dy.at,
                  r->keep.at,
                  r->mask.at,
                  r->token.at,
                  r->w.at,
                  r->acc,
                  r->two,
                  r->mean,
                  r->index,
                  r->label,
                  r->hit,
                  r->loss,
                  r->measure,
                  (void *)(uintptr_t)r->source.x};
  for (int i = 0; i < FL_COUNT(held); i++)
    if (held[i]) r->ops->release(r->dev, &held[i]);
}
