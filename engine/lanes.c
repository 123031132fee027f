/* The life of clients on one device: they take seats, train, and their updates join the sums. */
#include <math.h>
#include <string.h>

#include "run.h"

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
    if (e == 0 && l->ops->fetch) l->ops->fetch(l->dev, &s->source, n, to);
    memset(to + n, 0, ((size_t)a_epoch * (size_t)plan->batch - (size_t)n) * sizeof *to);
  }
}

fl_status fl_lanes_start(const fedlane_run *run, fl_station *s, fl_lanes *l) {
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
  fl_lanes l = fl_lanes_part(s, s->first, n);
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
  return fl_lanes_start(run, s, &l);
}

/* Pieces from .. to-1 of n lanes. Lanes with most pieces come first, so the living are a prefix.
 * Lanes start equal: their first step reads the weights that they share. */
static fl_status train_pieces(fedlane_run *run, fl_station *s, int n, int from, int to) {
  for (int piece = from, live = n; piece < to; piece++) {
    while (s->n_piece[s->first + live - 1] <= piece) live--;
    bool equal = piece == 0 && run->schedule.fused && run->plan.together > 1;
    fl_cspan own = fl_const(fl_lanes_from(s->lanes.w, s->first));
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
  fl_lanes l = fl_lanes_part(s, s->first, n);
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
    fl_lanes trained = fl_lanes_part(s, s->first, n);
    FL_TRY(fl_update_finish(run, s, &trained));
    FL_TRY(unseat(run, s, n));
    s->first += n;
    if (s->first + together > l->width) FL_TRY(mix(run, s));
  }
  FL_TRY(mix(run, s));
  return l->ops->sync(l->dev);
}
