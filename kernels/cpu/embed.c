#include <string.h>

#include "cpu.h"

fl_status fl_cpu_embed_fwd(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan w, fl_span y) {
  (void)d, (void)V;
  size_t bytes = (size_t)F * sizeof(float);
  for (int c = 0; c < b.C; c++) {
    const float *id = fl_lane(x, c), *ws = fl_lane(w, c);
    float *ys = fl_lane_out(y, c);
    fl_clear_dead(b, c, F, ys);
    for (int row = 0; row < b.rows[c]; row++, ys += F) memcpy(ys, ws + (int64_t)id[row] * F, bytes);
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_embed_bwd_weights(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw) {
  (void)d, (void)V;
  for (int c = 0; c < b.C; c++) {
    const float *id = fl_lane(x, c), *from = fl_lane(dy, c);
    float factor = fl_coef_at(scale, c);
    for (int row = 0; row < b.rows[c]; row++, from += F) {
      float *to = fl_lane_out(gw, c) + (int64_t)id[row] * F;
      FL_SIMD
      for (int f = 0; f < F; f++) to[f] += factor * from[f];
    }
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_last(fl_dev *d, fl_batch b, int T, int F, bool back, fl_cspan x, fl_span y) {
  (void)d;
  int64_t before = (int64_t)(T - 1) * F;
  size_t bytes = (size_t)F * sizeof(float);
  for (int c = 0; c < b.C; c++) {
    const float *from = fl_lane(x, c);
    float *to = fl_lane_out(y, c);
    fl_clear_dead(b, c, F + (back ? before : 0), to);
    for (int row = 0; row < b.rows[c]; row++) {
      if (back) memset(to, 0, (size_t)before * sizeof(float));
      memcpy(to + (back ? before : 0), from + (back ? 0 : before), bytes);
      from += F + (back ? 0 : before);
      to += F + (back ? before : 0);
    }
  }
  return FEDLANE_OK;
}
