/* What becomes of lanes that have been trained: weights turn into updates, updates pass the filters
 * and join the sums. */
#include <math.h>

#include "run.h"

/* The rows of all pieces of the lanes of a call. */
static fl_batch all_rows(const fedlane_run *run, const fl_station *s, int n) {
  int batch = run->schedule.batch;
  for (int i = 0; i < n; i++) s->rows[s->first + i] = batch * s->n_piece[s->first + i];
  return (fl_batch){n, batch * run->plan.pieces, s->rows + s->first};
}

static fl_cspan history_at(const fl_station *s, int64_t at) {
  return (fl_cspan){s->history.at + at, s->history.stride};
}

/* Where the measures of part i of update u are, for all lanes of the station. */
static int64_t measure_at(const fedlane_run *run, const fl_station *s, int u, int i) {
  return ((int64_t)u * fl_model_parts(run->model) + i) * s->lanes.width;
}

/* up[0] = w - w0, except where it stays a product. */
static fl_status subtract(const fedlane_run *run, fl_station *s, fl_lanes *l) {
  fl_batch rows = all_rows(run, s, l->C);
  for (int i = 0; i < fl_model_parts(run->model); i++) {
    const fl_part *part = fl_model_part(run->model, i);
    fl_cspan w0 = {l->w0.at + part->at, l->w0.stride};
    if (!part->implicit)
      FL_TRY(l->ops->axpby(l->dev, l->C, part->n, fl_all(-1), w0, fl_all(1),
                           fl_part_of(l->up[0], part)));
    else if (!s->course.products)
      FL_TRY(
          fl_course_form(&s->course, l, part, rows, s->n_piece + s->first, s->history, s->factor));
  }
  return FEDLANE_OK;
}

static bool is_product(const fl_station *s, int u, const fl_part *part) {
  return u == 0 && part->implicit && s->course.products;
}

/* Sizes of the lanes' updates, brought to the host; of products the norms only when asked for. */
static fl_status measure(const fedlane_run *run, fl_station *s, fl_lanes *l, int n_update,
                         bool norm) {
  fl_batch rows = all_rows(run, s, l->C);
  for (int u = 0; u < n_update; u++)
    for (int i = 0; i < fl_model_parts(run->model); i++) {
      const fl_part *part = fl_model_part(run->model, i);
      int64_t at = measure_at(run, s, u, i) + s->first;
      if (is_product(s, u, part))
        FL_TRY(l->ops->product_measure(l->dev, rows, part->I, part->O, history_at(s, part->x_at),
                                       history_at(s, part->d_at), norm, s->measure + at));
      else
        FL_TRY(l->ops->measure(l->dev, l->C, part->n, fl_const(fl_part_of(l->up[u], part)),
                               s->measure + at));
    }
  FL_TRY(l->ops->download(l->dev, s->measure_host, s->measure,
                          measure_at(run, s, n_update, 0) * (int64_t)sizeof(fl_measure)));
  return l->ops->sync(l->dev);
}

/* The Euclidean norm of the update of lane c of the call, as last measured. */
static double norm_of(const fedlane_run *run, const fl_station *s, int c) {
  double sum2 = 0;
  for (int i = 0; i < fl_model_parts(run->model); i++) {
    double own = is_product(s, 0, fl_model_part(run->model, i)) ? s->product_scale[c] : 1;
    sum2 += own * own * s->measure_host[measure_at(run, s, 0, i) + s->first + c].sum2;
  }
  return sqrt(sum2);
}

/* A filter that multiplies updates: the factors go with them into the sums, unless a later filter
 * has to see the update. */
static fl_status scale(const fedlane_run *run, fl_station *s, fl_lanes *l, int which) {
  const fl_config *config = run->config;
  const fl_filter *f = (const fl_filter *)config->filter[which].record;
  FL_TRY(measure(run, s, l, 1, true));
  for (int c = 0; c < l->C; c++) {
    double before = s->scale[s->first + c], norm = before * norm_of(run, s, c);
    s->scale[s->first + c] *= f->scale(config->filter[which].args, norm);
    s->factor[c] = (float)s->scale[s->first + c];
  }
  if (!fl_filters_touch(run, which + 1, config->n_filter)) return FEDLANE_OK;
  fl_cspan none = {0};
  fl_coef factor = {0, s->factor};
  for (int c = 0; c < l->C; c++) s->scale[s->first + c] = 1;
  return l->ops->axpby(l->dev, l->C, l->P, fl_all(0), none, factor, l->up[0]);
}

/* Has updates pass the filters, and measures what they have become. */
static fl_status filter(fedlane_run *run, fl_station *s, fl_lanes *l) {
  const fl_config *config = run->config;
  for (int c = 0; c < l->C; c++) s->scale[s->first + c] = 1;
  for (int i = 0; i < config->n_filter; i++) {
    const fl_filter *f = (const fl_filter *)config->filter[i].record;
    fl_draw draw = fl_lanes_draw(run, l, FL_FOR_NOISE, i);
    if (f->scale) FL_TRY(scale(run, s, l, i));
    if (fl_filters_touch(run, i, i + 1)) FL_TRY(f->lanes(config->filter[i].args, &draw, l));
  }
  return measure(run, s, l, run->algorithm->n_update, false);
}

fl_status fl_update_finish(fedlane_run *run, fl_station *s, fl_lanes *l) {
  for (int c = 0; c < l->C; c++)
    s->product_scale[c] = fl_course_scale(&s->course, l, s->n_piece[s->first + c]);
  FL_TRY(subtract(run, s, l));
  if (run->algorithm->finish) FL_TRY(run->algorithm->finish(run->algorithm_args, l));
  return filter(run, s, l);
}

bool fl_update_finite(const fedlane_run *run, const fl_station *s, int lane) {
  for (int u = 0; u < run->algorithm->n_update; u++)
    for (int i = 0; i < fl_model_parts(run->model); i++)
      if (!isfinite(s->measure_host[measure_at(run, s, u, i) + lane].peak)) return false;
  return true;
}

/* What part i of update u of the lanes first .. first+n-1 adds to the sums. */
static fl_summand summand_of(const fedlane_run *run, const fl_station *s, int u, int i, int first,
                             int n) {
  const fl_part *part = fl_model_part(run->model, i);
  return (fl_summand){.C = n,
                      .at = part->at,
                      .n = part->n,
                      .weight = s->weight + first,
                      .scale = u == 0 ? s->scale + first : NULL,
                      .measure = s->measure_host + measure_at(run, s, u, i) + first};
}

fl_status fl_update_mix_products(fedlane_run *run, fl_station *s, int n) {
  for (int u = 0; u < run->algorithm->n_update; u++)
    fl_mix_count(&s->mix[u], n, s->weight + s->first);
  for (int c = 0; c < n; c++) s->product_scale[c] *= s->scale[s->first + c];
  for (int i = 0; i < fl_model_parts(run->model); i++) {
    const fl_part *part = fl_model_part(run->model, i);
    if (!is_product(s, 0, part)) continue;
    fl_summand sum = summand_of(run, s, 0, i, s->first, n);
    sum.scale = s->product_scale;
    FL_TRY(fl_mix_add_product(&s->mix[0], &sum, all_rows(run, s, n), part->I, part->O,
                              history_at(s, part->x_at), history_at(s, part->d_at)));
  }
  return FEDLANE_OK;
}

fl_status fl_update_mix(fedlane_run *run, fl_station *s) {
  for (int u = 0; u < run->algorithm->n_update; u++)
    for (int i = 0; i < fl_model_parts(run->model); i++) {
      const fl_part *part = fl_model_part(run->model, i);
      fl_summand sum = summand_of(run, s, u, i, 0, s->first);
      if (!is_product(s, u, part))
        FL_TRY(fl_mix_add(&s->mix[u], &sum, fl_const(fl_part_of(s->lanes.up[u], part))));
    }
  return FEDLANE_OK;
}

fl_status fl_update_receive(fedlane_run *run, fl_station *s, uint32_t client, int32_t weight,
                            const float *update, bool *good) {
  fl_lanes l = s->lanes;
  s->first = 0;
  s->course = (fl_course){0};
  s->n_piece[0] = 0;
  s->product_scale[0] = 1;
  l.C = 1;
  l.client[0] = client;
  l.nth[0] = 0;
  FL_TRY(l.ops->upload(l.dev, l.up[0].at, update, 4 * l.P));
  FL_TRY(filter(run, s, &l));
  *good = fl_update_finite(run, s, 0);
  s->weight[0] = *good ? weight : 0;
  FL_TRY(fl_update_mix_products(run, s, 1));
  s->first = 1;
  FL_TRY(fl_update_mix(run, s));
  s->first = 0;
  return l.ops->sync(l.dev);
}
