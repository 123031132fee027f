/* The life of clients on one device: they take seats, train, and their updates join the sums. */
#include <math.h>
#include <string.h>

#include "run.h"

static fl_span span_from(fl_span s, int lane) {
  if (s.at) s.at += lane * s.stride;
  return s;
}

/* Buffers that a client needs only while it trains exist once for each lane of a call. */
static fl_span local(const fl_station *s, fl_span span, int lane) {
  return span_from(span, lane - s->first);
}

/* The lanes first .. first+n-1 of the call in progress as lanes of their own. */
static fl_lanes part_of(const fl_station *s, int first, int n) {
  const fl_lanes *l = &s->lanes;
  fl_lanes part = *l;
  part.C = n;
  part.client += first;
  part.nth += first;
  part.rank += first;
  part.n_example += first;
  part.n_step += first;
  part.coef += first;
  part.w = span_from(l->w, first);
  for (int i = 0; i < FL_UPDATES; i++) part.up[i] = span_from(l->up[i], first);
  for (int i = 0; i < FL_SLOTS; i++) part.slot[i] = local(s, l->slot[i], first);
  return part;
}

fl_draw fl_lanes_draw(const fedlane_run *run, const fl_lanes *l, fl_purpose purpose, int step) {
  fl_draw d = {.seed = (uint32_t)run->config->general.seed,
               .purpose = (uint32_t)purpose,
               .round = (uint32_t)run->round + 1,
               .step = (uint32_t)step,
               .client = l->client,
               .nth = l->nth};
  return d;
}

/* Writes the order in which a lane visits its examples: each epoch shuffled, in pieces of `batch`.
 */
static void deal_examples(const fedlane_run *run, fl_station *s, int lane) {
  const fl_lanes *l = &s->lanes;
  const fl_schedule *plan = &run->schedule;
  int32_t n = l->n_example[lane], a_epoch = s->n_piece[lane] / plan->epochs;
  int32_t *to = s->index_host + (lane - s->first) * s->index_stride;
  for (int e = 0; e < plan->epochs; e++, to += (int64_t)a_epoch * plan->batch) {
    memcpy(to, run->people.index + run->people.offset[l->client[lane]], (size_t)n * sizeof *to);
    fl_cohort_shuffle(run, run->round + 1, l->client[lane], l->nth[lane], e, n, to);
    memset(to + n, 0, ((size_t)a_epoch * (size_t)plan->batch - (size_t)n) * sizeof *to);
  }
}

/* The lanes' weights become the server's, where they have weights of their own. */
static fl_status start_from_global(const fedlane_run *run, fl_station *s, fl_lanes *l) {
  for (int i = 0; i < fl_model_parts(run->model); i++) {
    const fl_part *part = fl_model_part(run->model, i);
    fl_cspan w0 = {l->w0.at + part->at, l->w0.stride};
    if (!part->implicit)
      FL_TRY(
          l->ops->axpby(l->dev, l->C, part->n, fl_all(1), w0, fl_all(0), fl_part_of(l->w, part)));
  }
  return fl_course_begin(run, l, &s->course);
}

/* Seats clients first .. first+n-1 of the cohort on the lanes from s->first on. */
static fl_status seat(fedlane_run *run, fl_station *s, int first, int n) {
  const fl_cohort *c = &run->cohort;
  fl_lanes l = part_of(s, s->first, n);
  int64_t bytes = (int64_t)sizeof(int32_t) * n * s->index_stride;
  for (int i = 0; i < n; i++) {
    l.client[i] = c->client[first + i];
    l.nth[i] = c->nth[first + i];
    l.rank[i] = c->rank[first + i];
    l.n_example[i] = fl_run_examples(run, l.client[i]);
    l.n_step[i] = fl_schedule_steps(&run->schedule, l.n_example[i]);
    s->n_piece[s->first + i] = fl_schedule_pieces(&run->schedule, l.n_example[i]);
    s->loss_host[i] = 0;
    s->hit_host[i] = 0;
    deal_examples(run, s, s->first + i);
    FL_TRY(fl_store_seat(&run->store, &l, i, run->algorithm->n_client_slot));
  }
  FL_TRY(l.ops->upload(l.dev, s->index, s->index_host, bytes));
  FL_TRY(l.ops->upload(l.dev, s->loss, s->loss_host, n * (int64_t)sizeof(double)));
  FL_TRY(l.ops->upload(l.dev, s->hit, s->hit_host, n * (int64_t)sizeof(int64_t)));
  if (s->g.at) FL_TRY(l.ops->fill(l.dev, n, l.P, 0, s->g));
  if (s->velocity.at) FL_TRY(l.ops->fill(l.dev, n, l.P, 0, s->velocity));
  return start_from_global(run, s, &l);
}

int fl_lanes_terms(const fedlane_run *run, const fl_lanes *l, fl_term *out) {
  int n = 0;
  double decay = run->config->train.weight_decay;
  if (decay > 0) out[n++] = (fl_term){(float)decay, fl_const(l->w)};
  if (run->algorithm->terms) n += run->algorithm->terms(run->algorithm_args, l, out + n);
  return n;
}

/* The step of lanes whose gradient buffer is complete. */
static fl_status take_step(fedlane_run *run, fl_station *s, int lane, int n) {
  const fl_train_args *t = &run->config->train;
  fl_lanes l = part_of(s, lane, n);
  fl_span g = local(s, s->g, lane), v = local(s, s->velocity, lane);
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
  fl_lanes l = part_of(s, lane, live);
  for (int c = lane; c < lane + live; c++) measure_piece(run, s, c, piece);
  fl_batch b = {live, plan->batch, s->rows + lane};
  fl_span x = {s->act.at + fl_model_input_at(run->model, b.B), s->act.stride};
  fl_draw augment = fl_lanes_draw(run, &l, FL_FOR_AUGMENT, piece);
  fl_draw draw = fl_lanes_draw(run, &l, FL_FOR_DROPOUT, piece);
  FL_TRY(l.ops->gather(l.dev, b, &s->source, s->index + (int64_t)piece * plan->batch,
                       s->index_stride, &augment, x, s->label, s->target));
  fl_history history = fl_course_at(&s->course, &l, s->history, piece);
  fl_walk walk = {.ops = l.ops,
                  .dev = l.dev,
                  .b = b,
                  .draw = &draw,
                  .w = w,
                  .act = s->act,
                  .step_rows = s->step_rows,
                  .history = s->history.at ? &history : NULL};
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

fl_status fl_lanes_warm(fedlane_run *run, fl_station *s) {
  fl_lanes *l = &s->lanes;
  const fl_schedule *plan = &run->schedule;
  int n = run->plan.together, quarter = (plan->batch + 3) / 4;
  s->first = 0;
  memset(s->index_host, 0, (size_t)(n * s->index_stride) * sizeof *s->index_host);
  FL_TRY(l->ops->upload(l->dev, s->index, s->index_host, 4 * n * s->index_stride));
  fl_lanes all = part_of(s, 0, n);
  FL_TRY(start_from_global(run, s, &all));
  if (s->velocity.at) FL_TRY(l->ops->fill(l->dev, n, l->P, 0, s->velocity));
  for (int i = 0; i < run->algorithm->n_client_slot; i++)
    FL_TRY(l->ops->fill(l->dev, n, l->P, 0, l->slot[i]));
  for (int rows = quarter; rows < plan->batch + quarter; rows += quarter) {
    for (int c = 0; c < n; c++) {
      l->client[c] = l->nth[c] = 0;
      l->n_example[c] = rows < plan->batch ? rows : plan->batch;
      l->n_step[c] = 1;
      s->n_piece[c] = plan->epochs;
    }
    FL_TRY(fl_train_piece(run, s, n, 0, fl_const(l->w)));
  }
  FL_TRY(fl_eval_warm(run, s));
  return l->ops->sync(l->dev);
}

/* Pieces from .. to-1 of n lanes. Lanes with most pieces come first, so the living are a prefix.
 * Lanes start equal: their first step reads the weights that they share. */
static fl_status train_pieces(fedlane_run *run, fl_station *s, int n, int from, int to) {
  for (int piece = from, live = n; piece < to; piece++) {
    while (s->n_piece[s->first + live - 1] <= piece) live--;
    bool equal = piece == 0 && run->schedule.fused && run->plan.together > 1;
    fl_cspan own = fl_const(span_from(s->lanes.w, s->first));
    FL_TRY(fl_train_piece(run, s, live, piece, equal ? s->lanes.w0 : own));
  }
  return FEDLANE_OK;
}

/* The same as one recording. */
static fl_status train_recorded(fedlane_run *run, fl_station *s, int n, int from, int to) {
  const fl_lanes *l = &s->lanes;
  bool known = false;
  FL_TRY(l->ops->capture(l->dev, fl_recording_key(run, s, n, from), &known));
  fl_status status = known ? FEDLANE_OK : train_pieces(run, s, n, from, to);
  fl_status played = l->ops->play(l->dev, status == FEDLANE_OK);
  return status != FEDLANE_OK ? status : played;
}

/* Local training of n lanes. Recordings are bounded, so that the driver's memory is, and so that a
 * device works on one while the next is made. */
static fl_status train(fedlane_run *run, fl_station *s, int n) {
  int end = s->n_piece[s->first];
  if (run->plan.resident) return fl_resident_train(run, s, n);
  if (!s->lanes.ops->capture) return train_pieces(run, s, n, 0, end);
  for (int from = 0, to; from < end; from = to) {
    to = end - from < FL_RECORDED_PIECES ? end : from + FL_RECORDED_PIECES;
    FL_TRY(train_recorded(run, s, n, from, to));
  }
  return FEDLANE_OK;
}

/* Takes the results of lanes back to the host. A client whose update is not finite is left out:
 * it gets no weight and its own vectors stay as they were. */
static fl_status unseat(fedlane_run *run, fl_station *s, int n) {
  fl_lanes l = part_of(s, s->first, n);
  fl_cohort *c = &run->cohort;
  FL_TRY(l.ops->download(l.dev, s->loss_host, s->loss, n * (int64_t)sizeof(double)));
  FL_TRY(l.ops->download(l.dev, s->hit_host, s->hit, n * (int64_t)sizeof(int64_t)));
  FL_TRY(l.ops->sync(l.dev));
  for (int i = 0; i < n; i++) {
    bool good = fl_update_finite(run, s, s->first + i);
    c->accepted[l.rank[i]] = good;
    c->loss[l.rank[i]] = s->loss_host[i];
    c->hit[l.rank[i]] = s->hit_host[i];
    s->weight[s->first + i] = !good ? 0 : run->weighting == FL_UNIFORM ? 1 : l.n_example[i];
    if (good) FL_TRY(fl_store_unseat(&run->store, &l, i, run->algorithm->n_client_slot));
  }
  return fl_update_mix_products(run, s, n);
}

/* The updates that wait join the sums, and their lanes are free again. */
static fl_status mix(fedlane_run *run, fl_station *s) {
  FL_TRY(fl_update_mix(run, s));
  s->first = 0;
  return FEDLANE_OK;
}

fl_status fl_lanes_work(fedlane_run *run, fl_station *s) {
  fl_lanes *l = &s->lanes;
  const fl_train_args *t = &run->config->train;
  int together = run->plan.together, first, n;
  s->first = 0;
  l->lr = t->lr * pow(t->lr_decay, run->round);
  int station = (int)(s - run->station);
  while ((n = fl_cohort_take(&run->cohort, station, together, &first)) > 0) {
    FL_TRY(seat(run, s, first, n));
    FL_TRY(train(run, s, n));
    fl_lanes trained = part_of(s, s->first, n);
    FL_TRY(fl_update_finish(run, s, &trained));
    FL_TRY(unseat(run, s, n));
    s->first += n;
    if (s->first + together > l->width) FL_TRY(mix(run, s));
  }
  FL_TRY(mix(run, s));
  return l->ops->sync(l->dev);
}
