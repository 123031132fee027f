/* The course of implicit layers (models/model.h) through local training.
 *
 * A step is w -= lr * (g + of_w*w + of_w0*w0 + E), with E whatever else the algorithm adds. With
 * keep' = keep * (1 - lr*of_w) the three factors go on as
 *     keep = keep'      whole = whole * (1 - lr*of_w) - lr*of_w0      pulled likewise, - lr
 * and a step's gradients join the history times lr / keep'. The same numbers serve all lanes of a
 * call, which are at the same step. */
#include <math.h>

#include "run.h"

static const fl_history start = {.whole = 1, .keep = 1};

static void advance(const fl_course *c, double lr, fl_history *h) {
  double decay = 1 - lr * c->of_w;
  h->keep *= decay;
  h->whole = h->whole * decay - lr * c->of_w0;
  h->pulled = h->pulled * decay - lr;
  h->piece++;
}

static fl_history after(const fl_course *c, double lr, int pieces) {
  fl_history h = start;
  while (h.piece < pieces) advance(c, lr, &h);
  return h;
}

static fl_cspan part_of_lanes(fl_cspan x, const fl_part *part) {
  x.at += part->at;
  return x;
}

/* E, into the lanes' own slices. */
static fl_status gather_extra(const fedlane_run *run, fl_lanes *l, int n, const fl_term *term) {
  for (int i = 0; i < fl_model_parts(run->model); i++) {
    const fl_part *part = fl_model_part(run->model, i);
    for (int k = 0; part->implicit && k < n; k++)
      FL_TRY(l->ops->axpby(l->dev, l->C, part->n, fl_all(term[k].a), part_of_lanes(term[k].x, part),
                           fl_all(k > 0), fl_part_of(l->w, part)));
  }
  return FEDLANE_OK;
}

/* Updates stay products when nobody has to see them whole: they are the history alone, and go from
 * training through measuring and scaling into the sums. */
static bool mixes_products(const fedlane_run *run, const fl_course *c) {
  return run->devices.ops->product_mix && run->devices.ops->product_measure && !c->extra &&
         c->of_w + c->of_w0 == 0 && !run->algorithm->finish &&
         !fl_filters_touch(run, 0, run->config->n_filter);
}

/* Sorts what is added to the lanes' gradients. extra: the terms of E; returns how many. */
static int sort_terms(const fedlane_run *run, const fl_lanes *l, fl_course *c, fl_term *extra) {
  fl_term term[FL_TERMS_MAX];
  int n = fl_lanes_terms(run, l, term), n_extra = 0;
  *c = (fl_course){0};
  for (int i = 0; i < n; i++) {
    if (term[i].x.at == l->w.at)
      c->of_w += term[i].a;
    else if (term[i].x.at == l->w0.at)
      c->of_w0 += term[i].a;
    else
      extra[n_extra++] = term[i];
  }
  return n_extra;
}

enum { PULL_MOST = 2 }; /* lr * of_w stays below its inverse, so that keep stays well above 0 */

bool fl_course_goes(const fedlane_run *run) {
  float place[3];
  fl_term extra[FL_TERMS_MAX];
  fl_course c;
  fl_lanes any = {.w = {&place[0], 0}, .w0 = {&place[1], 0}};
  for (int i = 0; i < FL_SLOTS; i++) {
    any.slot[i] = (fl_span){&place[2], 0};
    any.broadcast[i] = fl_const(any.slot[i]);
  }
  sort_terms(run, &any, &c, extra);
  return run->config->train.lr * c.of_w * PULL_MOST < 1;
}

fl_status fl_course_begin(const fedlane_run *run, fl_lanes *l, fl_course *c) {
  fl_term extra[FL_TERMS_MAX];
  int n_extra = sort_terms(run, l, c, extra);
  if (fl_model_history(run->model) == 0) return FEDLANE_OK;
  if (l->lr * c->of_w * PULL_MOST >= 1)
    return fl_fail(FEDLANE_USAGE,
                   "train.lr times what pulls the weights to zero or to the server's is %g; with "
                   "implicit layers it must be below 0.5 (train.implicit: never is without them)",
                   l->lr * c->of_w);
  c->extra = n_extra > 0;
  c->products = mixes_products(run, c);
  return gather_extra(run, l, n_extra, extra);
}

fl_history fl_course_at(const fl_course *c, const fl_lanes *l, fl_span history, int piece) {
  fl_history h = after(c, l->lr, piece), next = h;
  advance(c, l->lr, &next);
  h.add = l->lr / next.keep;
  h.w0 = l->w0;
  if (c->extra) h.extra = fl_const(l->w);
  h.at = history;
  return h;
}

double fl_course_scale(const fl_course *c, const fl_lanes *l, int pieces) {
  return -after(c, l->lr, pieces).keep;
}

fl_status fl_course_form(const fl_course *c, fl_lanes *l, const fl_part *part, fl_batch rows,
                         const int32_t *n_piece, fl_span history, float *factor) {
  fl_cspan w0 = part_of_lanes(l->w0, part);
  fl_span up = fl_part_of(l->up[0], part), x = history, d = history, none = {0};
  float *pulled = factor + l->C, *scale = pulled + l->C;
  x.at += part->x_at;
  d.at += part->d_at;
  for (int i = 0; i < l->C; i++) {
    fl_history h = after(c, l->lr, n_piece[i]);
    factor[i] = (float)(h.whole - 1);
    pulled[i] = (float)h.pulled;
    scale[i] = (float)-h.keep;
  }
  fl_coef of_w0 = {0, factor}, of_extra = {0, pulled}, of_product = {0, scale};
  FL_TRY(l->ops->axpby(l->dev, l->C, part->n, of_w0, w0, c->extra ? of_extra : fl_all(0), up));
  return l->ops->dense_bwd_weights(l->dev, rows, part->I, part->O, fl_const(x), fl_const(d),
                                   of_product, up, none);
}
