/* The first walk, before the first round. */
#include <string.h>

#include "run.h"

fl_status fl_lanes_warm(fedlane_run *run, fl_station *s) {
  fl_lanes *l = &s->lanes;
  const fl_schedule *plan = &run->schedule;
  int n = run->plan.together, quarter = (plan->batch + 3) / 4;
  s->first = 0;
  memset(s->index_host, 0, (size_t)(n * s->index_stride) * sizeof *s->index_host);
  FL_TRY(l->ops->upload(l->dev, s->index, s->index_host, 4 * n * s->index_stride));
  fl_lanes all = fl_lanes_part(s, 0, n);
  FL_TRY(fl_lanes_start(run, s, &all));
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
