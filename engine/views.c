/* What those who work on lanes ask first: for some of them, for one part of the model, what is
 * added to their gradients, where their random numbers come from, whether filters touch their
 * updates. */
#include "run.h"

fl_span fl_lanes_from(fl_span s, int lane) {
  if (s.at) s.at += lane * s.stride;
  return s;
}

fl_span fl_lanes_local(const fl_station *s, fl_span span, int lane) {
  return fl_lanes_from(span, lane - s->first);
}

fl_lanes fl_lanes_part(const fl_station *s, int first, int n) {
  const fl_lanes *l = &s->lanes;
  fl_lanes part = *l;
  part.C = n;
  part.client += first;
  part.nth += first;
  part.rank += first;
  part.n_example += first;
  part.n_step += first;
  part.coef += first;
  part.w = fl_lanes_from(l->w, first);
  for (int i = 0; i < FL_UPDATES; i++) part.up[i] = fl_lanes_from(l->up[i], first);
  for (int i = 0; i < FL_SLOTS; i++) part.slot[i] = fl_lanes_local(s, l->slot[i], first);
  return part;
}

fl_span fl_part_of(fl_span x, const fl_part *part) {
  x.at += part->at;
  return x;
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

int fl_lanes_terms(const fedlane_run *run, const fl_lanes *l, fl_term *out) {
  int n = 0;
  double decay = run->config->train.weight_decay;
  if (decay > 0) out[n++] = (fl_term){(float)decay, fl_const(l->w)};
  if (run->algorithm->terms) n += run->algorithm->terms(run->algorithm_args, l, out + n);
  return n;
}

bool fl_filters_touch(const fedlane_run *run, int first, int end) {
  for (int i = first; i < end; i++) {
    const fl_filter *f = (const fl_filter *)run->config->filter[i].record;
    if (f->lanes && (!f->touches || f->touches(run->config->filter[i].args))) return true;
  }
  return false;
}
