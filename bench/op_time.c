/* How long an op takes. */
#include <stdlib.h>

#include "op_items.h"

static int ascending(const void *a, const void *b) {
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

fl_status fl_op_time(const fl_op_extent *e, fl_op_rig *r, fl_status (*run)(fl_op_rig *r),
                     double *each) {
  for (int i = -1; i < e->repeat; i++) {
    double start = fl_seconds();
    for (int k = 0; k < e->calls; k++) FL_TRY(run(r));
    FL_TRY(r->ops->sync(r->dev));
    if (i >= 0) each[i] = (fl_seconds() - start) / e->calls;
  }
  qsort(each, (size_t)e->repeat, sizeof *each, ascending);
  return FEDLANE_OK;
}

fl_status fl_op_time_large(const fl_op_extent *e, const fl_op_rig *on, int side, int64_t n,
                           fl_status (*run)(fl_op_rig *r), double *seconds) {
  fl_op_rig r = {.ops = on->ops, .dev = on->dev, .yardstick = on->yardstick};
  double each[FL_BENCH_REPEAT] = {0};
  fl_status status = FEDLANE_OK;
  float **buffer[] = {&r.x.at, &r.y.at, &r.w.at};
  r.b = (fl_batch){1, side, r.rows};
  r.rows[0] = side;
  r.w.stride = n;
  for (int i = 0; status == FEDLANE_OK && i < FL_COUNT(buffer); i++)
    status = fl_op_reserve(r.ops, r.dev, 4 * n, buffer[i]);
  if (status == FEDLANE_OK) status = fl_op_time(e, &r, run, each);
  *seconds = each[0];
  fl_op_rig_close(&r);
  return status;
}
