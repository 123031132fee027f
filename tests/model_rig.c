#include "model_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *rig_floats(int64_t n) {
  float *at = aligned_alloc(64, ((size_t)n / 16 + 1) * 64);
  if (!at) abort();
  for (int64_t i = 0; i < n; i++) at[i] = NAN;
  return at;
}

void rig_on_each(void (*test)(const fl_ops *ops)) {
  int n = 0;
  for (int k = 0; k < fl_backends.n; k++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[k];
    const char *why = "its memory is not the host's";
    bool here = ops->host && ops->count(&why) > 0;
    if (here) test(ops);
    if (!here) printf("skipped: %s: %s\n", ops->record.name, why);
    n += here;
  }
  CU_ASSERT(n > 0);
}

rig rig_open(const fl_ops *ops, fl_model *model, int C, int B) {
  rig r = {
      .ops = ops, .model = model, .about = fl_model_about(model), .C = C, .B = B, .drop = true};
  fl_dev_options options = {0, FL_MATH_FP32};
  if (C > RIG_LANES || B > RIG_BATCH || ops->open(&options, &r.dev) != FEDLANE_OK) abort();
  r.act_stride = fl_model_act(model, B, true);
  r.w = rig_floats(C * r.about->P);
  r.g = rig_floats(C * r.about->P);
  r.act = rig_floats(C * r.act_stride);
  r.target = rig_floats((int64_t)C * B * r.about->n_output);
  r.label = rig_floats((int64_t)C * B * (r.about->answer_steps > 0 ? r.about->answer_steps : 1));
  for (int c = 0; c < C; c++) {
    r.rows[c] = B;
    r.client[c] = (uint32_t)(7 + c);
    fl_model_init(model, (uint32_t)(1 + c), r.w + c * r.about->P);
  }
  for (int i = 0; i < C * B; i++) r.index[i] = i;
  return r;
}

void rig_close(rig *r) {
  free(r->w);
  free(r->g);
  free(r->act);
  free(r->target);
  free(r->label);
  r->ops->close(&r->dev);
  fl_model_close(&r->model);
}

static fl_batch rig_batch(const rig *r) { return (fl_batch){r->C, r->B, r->rows}; }
static fl_span rig_act(const rig *r, int64_t at) { return (fl_span){r->act + at, r->act_stride}; }
fl_span rig_w(const rig *r) { return (fl_span){r->w, r->about->P}; }
fl_span rig_g(const rig *r) { return (fl_span){r->g, r->about->P}; }

static fl_draw rig_draw(const rig *r) {
  return (fl_draw){.seed = 5, .round = 2, .step = 3, .client = r->client, .nth = r->nth};
}

void rig_forward(rig *r, bool train) {
  fl_draw draw = rig_draw(r);
  fl_batch b = rig_batch(r);
  fl_span target = {r->source.target ? r->target : NULL, (int64_t)r->B * r->about->n_output};
  fl_cspan w = {r->w, r->shared ? 0 : r->about->P};
  for (int64_t i = 0; i < r->C * r->act_stride; i++) r->act[i] = NAN;
  CU_ASSERT_EQUAL_FATAL(r->ops->gather(r->dev, b, &r->source, r->index, r->B, &draw,
                                       rig_act(r, fl_model_input_at(r->model, r->B)),
                                       r->source.label ? r->label : NULL, target),
                        FEDLANE_OK);
  fl_walk walk = {.ops = r->ops,
                  .dev = r->dev,
                  .b = b,
                  .draw = r->drop ? &draw : NULL,
                  .w = w,
                  .act = rig_act(r, 0),
                  .step_rows = r->step_rows};
  CU_ASSERT_EQUAL_FATAL(fl_model_forward(r->model, &walk, train), FEDLANE_OK);
}

/* A row for each answer. */
static fl_batch rig_answers(const rig *r) {
  if (r->about->answer_steps == 0) return rig_batch(r);
  return (fl_batch){r->C, r->B * r->about->answer_steps, r->step_rows};
}

void rig_loss(rig *r) {
  float norm[RIG_LANES];
  fl_cspan z = fl_const(rig_act(r, fl_model_output_at(r->model, r->B)));
  fl_span dz = rig_act(r, fl_model_dout_at(r->model, r->B));
  for (int c = 0; c < r->C; c++) {
    norm[c] = 1.0f / (float)r->rows[c];
    r->loss[c] = 0;
    r->hit[c] = 0;
  }
  fl_coef mean = {0, norm};
  fl_cspan target = {r->target, (int64_t)r->B * r->about->n_output};
  fl_status status = r->source.label
                         ? r->ops->xent(r->dev, rig_answers(r), r->about->n_output, mean, r->label,
                                        z, dz, r->loss, r->hit)
                         : r->ops->regress(r->dev, rig_batch(r), r->about->n_output, r->regression,
                                           r->delta, mean, target, z, dz, r->loss);
  CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
}

void rig_backward(rig *r, const fl_sink *sink) {
  fl_draw draw = rig_draw(r);
  fl_cspan w = {r->w, r->shared ? 0 : r->about->P};
  fl_walk walk = {.ops = r->ops,
                  .dev = r->dev,
                  .b = rig_batch(r),
                  .draw = r->drop ? &draw : NULL,
                  .w = w,
                  .act = rig_act(r, 0),
                  .step_rows = r->step_rows};
  CU_ASSERT_EQUAL_FATAL(fl_model_backward(r->model, &walk, sink), FEDLANE_OK);
  CU_ASSERT_EQUAL(r->ops->sync(r->dev), FEDLANE_OK);
}

void rig_train(rig *r) {
  fl_sink sink = {.at = rig_g(r), .scale = fl_all(1)};
  memset(r->g, 0, (size_t)(r->C * r->about->P) * sizeof *r->g);
  rig_forward(r, true);
  rig_loss(r);
  rig_backward(r, &sink);
}
