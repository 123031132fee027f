#include "ref.h"

fl_status fl_ref_embed_fwd(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan w, fl_span y) {
  (void)d, (void)V;
  for (int c = 0; c < b.C; c++)
    for (int row = 0; row < b.rows[c]; row++) {
      const float *from = fl_ref_in(w, c) + (int64_t)fl_ref_in(x, c)[row] * F;
      for (int f = 0; f < F; f++) fl_ref_out(y, c)[(int64_t)row * F + f] = from[f];
    }
  return FEDLANE_OK;
}

fl_status fl_ref_embed_bwd_weights(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw) {
  (void)d, (void)V;
  for (int c = 0; c < b.C; c++)
    for (int row = 0; row < b.rows[c]; row++) {
      float *to = fl_ref_out(gw, c) + (int64_t)fl_ref_in(x, c)[row] * F;
      const float *from = fl_ref_in(dy, c) + (int64_t)row * F;
      for (int f = 0; f < F; f++) to[f] = (float)(to[f] + (double)fl_coef_at(scale, c) * from[f]);
    }
  return FEDLANE_OK;
}

fl_status fl_ref_last(fl_dev *d, fl_batch b, int T, int F, bool back, fl_cspan x, fl_span y) {
  (void)d;
  int64_t before = (int64_t)(T - 1) * F;
  for (int c = 0; c < b.C; c++)
    for (int row = 0; row < b.rows[c]; row++) {
      const float *from = fl_ref_in(x, c) + row * (back ? F : before + F);
      float *to = fl_ref_out(y, c) + row * (back ? before + F : F);
      for (int64_t i = 0; back && i < before; i++) *to++ = 0;
      for (int f = 0; f < F; f++) to[f] = from[f + (back ? 0 : before)];
    }
  return FEDLANE_OK;
}
