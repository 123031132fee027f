/* One piece of local training: a batch of each lane forward and back, and the steps it completes.
 */
#include "run.h"

/* The step of lanes whose gradient buffer is complete. */
static fl_status take_step(fedlane_run *run, fl_station *s, int lane, int n) {
  const fl_train_args *t = &run->config->train;
  fl_lanes l = fl_lanes_part(s, lane, n);
  fl_span g = fl_lanes_local(s, s->g, lane), v = fl_lanes_local(s, s->velocity, lane);
  fl_term term[FL_TERMS_MAX];
  int n_term = fl_lanes_terms(run, &l, term);
  if (t->clip_norm > 0) FL_TRY(l.ops->clip(l.dev, n, l.P, (float)t->clip_norm, g));
  if (v.at) {
    fl_cspan none = {0};
    FL_TRY(l.ops->axpby(l.dev, n, l.P, fl_all(0), none, fl_all(t->momentum), v));
    FL_TRY(l.ops->step(l.dev, n, l.P, fl_const(g), fl_all(-1), n_term, term, v));
    FL_TRY(l.ops->step(l.dev, n, l.P, fl_const(v), fl_all(l.lr), 0, NULL, l.w));
  } else {
    FL_TRY(l.ops->step(l.dev, n, l.P, fl_const(g), fl_all(l.lr), n_term, term, l.w));
  }
  return l.ops->fill(l.dev, n, l.P, 0, g);
}

/* How many answers the next n examples of a list ask for. */
static int64_t answers(const fl_dataset *d, int32_t n, const int32_t *example) {
  int64_t sum = 0;
  if (!d->counted) return (int64_t)n * fl_dataset_counted(d, 0);
  for (int32_t i = 0; i < n; i++) sum += d->counted[example[i]];
  return sum;
}

/* Rows of a lane's piece, and the factor of its loss gradient: one over the answers of the step, of
 * which there may be none. */
static void measure_piece(const fedlane_run *run, fl_station *s, int lane, int piece) {
  const fl_schedule *plan = &run->schedule;
  int32_t n = s->lanes.n_example[lane], a_epoch = s->n_piece[lane] / plan->epochs;
  int32_t at = (piece % a_epoch) * plan->batch, left = n - at;
  const int32_t *epoch = s->index_host + (lane - s->first) * s->index_stride +
                         (int64_t)(piece / a_epoch) * a_epoch * plan->batch;
  s->rows[lane] = left < plan->batch ? left : plan->batch;
  int64_t asked =
      plan->whole ? answers(&run->data, n, epoch) : answers(&run->data, s->rows[lane], epoch + at);
  s->norm[lane] = 1.0f / (float)(asked > 0 ? asked : 1);
}

/* A row for each answer: those of an example with a label a step lie one after another. */
static fl_batch answer_rows(const fedlane_run *run, const fl_station *s, fl_batch b) {
  int each = run->data.n_label;
  if (each <= 1) return b;
  for (int c = 0; c < b.C; c++) s->step_rows[c] = b.rows[c] * each;
  return (fl_batch){b.C, b.B * each, s->step_rows};
}

static bool step_ends(const fedlane_run *run, const fl_station *s, int lane, int piece) {
  int32_t a_epoch = s->n_piece[lane] / run->schedule.epochs;
  return !run->schedule.whole || (piece + 1) % a_epoch == 0;
}

fl_status fl_input(const fedlane_run *run, const fl_station *s, const fl_pick *pick,
                   const fl_draw *draw, fl_walk *walk) {
  fl_span x = {s->act.at + fl_model_input_at(run->model, walk->b.B), s->act.stride};
  if (fl_model_picks(run->model, walk->ops, pick->source)) {
    walk->pick = pick;
    x.at = NULL;
  }
  return walk->ops->gather(walk->dev, walk->b, pick->source, pick->index, pick->index_stride, draw,
                           x, s->label, s->target);
}

fl_status fl_loss(const fedlane_run *run, fl_station *s, fl_batch b, const float *norm) {
  const fl_train_args *t = &run->config->train;
  const fl_lanes *l = &s->lanes;
  fl_span z = {s->act.at + fl_model_output_at(run->model, b.B), s->act.stride}, dz = {0};
  fl_coef factor = {0, norm};
  if (norm) dz = (fl_span){s->act.at + fl_model_dout_at(run->model, b.B), s->act.stride};
  if (run->data.classes)
    return l->ops->xent(l->dev, answer_rows(run, s, b), run->data.classes, factor, s->label,
                        fl_const(z), dz, s->loss, s->hit);
  fl_regression kind = t->loss == FL_LOSS_NAME_HUBER      ? FL_LOSS_HUBER
                       : t->loss == FL_LOSS_NAME_LOGISTIC ? FL_LOSS_LOGISTIC
                                                          : FL_LOSS_MSE;
  return l->ops->regress(l->dev, b, run->data.n_target, kind, (float)t->huber_delta, factor,
                         fl_const(s->target), fl_const(z), dz, s->loss);
}

fl_status fl_train_piece(fedlane_run *run, fl_station *s, int live, int piece, fl_cspan w) {
  const fl_schedule *plan = &run->schedule;
  int lane = s->first;
  fl_lanes l = fl_lanes_part(s, lane, live);
  for (int c = lane; c < lane + live; c++) measure_piece(run, s, c, piece);
  fl_batch b = {live, plan->batch, s->rows + lane};
  fl_draw augment = fl_lanes_draw(run, &l, FL_FOR_AUGMENT, piece);
  fl_draw draw = fl_lanes_draw(run, &l, FL_FOR_DROPOUT, piece);
  fl_pick pick = {.source = &s->source,
                  .index = s->index + (int64_t)piece * plan->batch,
                  .index_stride = s->index_stride,
                  .yet = (int64_t)(s->n_piece[lane] - piece - 1) * plan->batch};
  fl_history history;
  if (s->history.at) history = fl_course_at(&s->course, &l, s->history, piece);
  fl_walk walk = {.ops = l.ops,
                  .dev = l.dev,
                  .b = b,
                  .draw = &draw,
                  .w = w,
                  .act = s->act,
                  .step_rows = s->step_rows,
                  .history = s->history.at ? &history : NULL};
  FL_TRY(fl_input(run, s, &pick, &augment, &walk));
  FL_TRY(fl_model_forward(run->model, &walk, true));
  FL_TRY(fl_loss(run, s, b, s->norm + lane));
  fl_term term[FL_TERMS_MAX];
  fl_sink sink = {.at = s->g, .scale = fl_all(1)};
  if (plan->fused)
    sink = (fl_sink){.at = l.w,
                     .scale = fl_all(-l.lr),
                     .fused = true,
                     .lr = fl_all(l.lr),
                     .n_term = fl_lanes_terms(run, &l, term),
                     .term = term};
  FL_TRY(fl_model_backward(run->model, &walk, &sink));
  for (int c = lane, end; !plan->fused && c < lane + live; c = end) {
    bool ends = step_ends(run, s, c, piece);
    for (end = c + 1; end < lane + live && step_ends(run, s, end, piece) == ends;) end++;
    if (ends) FL_TRY(take_step(run, s, c, end - c));
  }
  return FEDLANE_OK;
}
