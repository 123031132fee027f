#include <math.h>
#include <stdlib.h>

#include "ref.h"

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* Row i of w [*, H] times h; 0 before the first step, where h is NULL. */
static double row_product(int H, const float *w, int i, const float *h) {
  double sum = 0;
  for (int j = 0; h && j < H; j++) sum += (double)w[(int64_t)i * H + j] * h[j];
  return sum;
}

/* Column j of w [n, H] times dg, the gradients of the step after; 0 after the last, dg NULL. */
static double column_product(int H, int n, const float *w, int j, const float *dg) {
  double sum = 0;
  for (int i = 0; dg && i < n; i++) sum += (double)w[(int64_t)i * H + j] * dg[i];
  return sum;
}

/* One step of an example. before, last: the output and the cells of the step before, NULL at the
 * first. */
static void lstm_step(int H, const float *w, const float *before, const float *last, float *gates,
                      float *cell, float *y) {
  for (int j = 0; j < H; j++) {
    double gate[4];
    for (int k = 0; k < 4; k++) {
      double sum = gates[k * H + j] + row_product(H, w, k * H + j, before);
      gate[k] = k == 2 ? tanh(sum) : sigmoid(sum);
    }
    for (int k = 0; k < 4; k++) gates[k * H + j] = (float)gate[k];
    cell[j] = (float)(gate[1] * (last ? last[j] : 0) + gate[0] * gate[2]);
    y[j] = (float)(gate[3] * tanh(cell[j]));
  }
}

fl_status fl_ref_lstm_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_span y,
                          fl_span keep) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int64_t at = 0; at < (int64_t)b.rows[c] * T; at++) {
      float *gates = fl_ref_out(keep, c), *cells = gates + (int64_t)b.B * T * 4 * H + at * H;
      float *outs = cells + (int64_t)b.B * T * H, *ys = fl_ref_out(y, c) + at * H;
      bool first = at % T == 0;
      lstm_step(H, fl_ref_in(w, c), first ? NULL : ys - H, first ? NULL : cells - H,
                gates + at * 4 * H, cells, ys);
      for (int j = 0; j < H; j++) outs[j] = first ? 0 : ys[j - H];
    }
  return FEDLANE_OK;
}

/* One element of a step: dh of its output; carry: of its cell, from the step after and then to the
 * step before. */
static void lstm_back(int H, double cell, double last, double dh, float *carry, float *gates) {
  double in = gates[0], forget = gates[H], fresh = gates[2 * H], out = gates[3 * H];
  double shown = tanh(cell), dc = *carry + dh * out * (1 - shown * shown);
  gates[0] = (float)(dc * fresh * in * (1 - in));
  gates[H] = (float)(dc * last * forget * (1 - forget));
  gates[2 * H] = (float)(dc * in * (1 - fresh * fresh));
  gates[3 * H] = (float)(dh * shown * out * (1 - out));
  *carry = (float)(dc * forget);
}

fl_status fl_ref_lstm_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                          fl_span keep) {
  (void)d;
  float *carry = calloc((size_t)H, sizeof *carry);
  if (!carry) return fl_fail(FEDLANE_MEMORY, "no memory for %d cells", H);
  for (int c = 0; c < b.C; c++)
    for (int64_t at = (int64_t)b.B * T - 1; at >= 0; at--) {
      float *gates = fl_ref_out(keep, c) + at * 4 * H;
      const float *cells = fl_ref_out(keep, c) + (int64_t)b.B * T * 4 * H + at * H;
      const float *later = at % T < T - 1 ? gates + 4 * H : NULL;
      bool live = at < (int64_t)b.rows[c] * T;
      for (int j = 0; !live && j < 4 * H; j++) gates[j] = 0;
      for (int j = 0; live && j < H; j++) {
        double dh = fl_ref_in(dy, c)[at * H + j];
        dh += column_product(H, 4 * H, fl_ref_in(w, c), j, later);
        if (!later) carry[j] = 0;
        lstm_back(H, cells[j], at % T ? cells[j - H] : 0, dh, carry + j, gates + j);
      }
    }
  free(carry);
  return FEDLANE_OK;
}

/* One step of an example, as above. hidden: w_n h + bias_n. */
static void gru_step(int H, const float *w, const float *bias, const float *before, float *gates,
                     float *hidden, float *y) {
  for (int j = 0; j < H; j++) {
    double sum[3];
    for (int k = 0; k < 3; k++) sum[k] = bias[k * H + j] + row_product(H, w, k * H + j, before);
    double reset = sigmoid(gates[j] + sum[0]), update = sigmoid(gates[H + j] + sum[1]);
    double fresh = tanh(gates[2 * H + j] + reset * sum[2]);
    gates[j] = (float)reset;
    gates[H + j] = (float)update;
    gates[2 * H + j] = (float)fresh;
    hidden[j] = (float)sum[2];
    y[j] = (float)(fresh + update * ((before ? before[j] : 0) - fresh));
  }
}

fl_status fl_ref_gru_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan bias, fl_span y,
                         fl_span keep) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int64_t at = 0; at < (int64_t)b.rows[c] * T; at++) {
      float *gates = fl_ref_out(keep, c), *hidden = gates + (int64_t)b.B * T * 3 * H + at * H;
      float *outs = hidden + (int64_t)b.B * T * H, *ys = fl_ref_out(y, c) + at * H;
      bool first = at % T == 0;
      gru_step(H, fl_ref_in(w, c), fl_ref_in(bias, c), first ? NULL : ys - H, gates + at * 3 * H,
               hidden, ys);
      for (int j = 0; j < H; j++) outs[j] = first ? 0 : ys[j - H];
    }
  return FEDLANE_OK;
}

/* One element of a step: dh of its output; carry: what of it goes straight to the step before. */
static void gru_back(int H, double hidden, double before, double dh, float *carry, float *gates,
                     float *sums) {
  double reset = gates[0], update = gates[H], fresh = gates[2 * H];
  double dn = dh * (1 - update) * (1 - fresh * fresh);
  gates[0] = sums[0] = (float)(dn * hidden * reset * (1 - reset));
  gates[H] = sums[H] = (float)(dh * (before - fresh) * update * (1 - update));
  gates[2 * H] = (float)dn;
  sums[2 * H] = (float)(dn * reset);
  *carry = (float)(dh * update);
}

fl_status fl_ref_gru_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                         fl_span keep) {
  (void)d;
  float *carry = calloc((size_t)H, sizeof *carry);
  if (!carry) return fl_fail(FEDLANE_MEMORY, "no memory for %d outputs", H);
  for (int c = 0; c < b.C; c++)
    for (int64_t all = (int64_t)b.B * T, at = all - 1; at >= 0; at--) {
      float *gates = fl_ref_out(keep, c) + at * 3 * H;
      const float *hidden = fl_ref_out(keep, c) + all * 3 * H + at * H;
      const float *before = hidden + all * H;
      float *sums = fl_ref_out(keep, c) + all * 5 * H + at * 3 * H;
      const float *later = at % T < T - 1 ? sums + 3 * H : NULL;
      bool live = at < (int64_t)b.rows[c] * T;
      for (int j = 0; !live && j < 3 * H; j++) gates[j] = sums[j] = 0;
      for (int j = 0; live && j < H; j++) {
        double dh = fl_ref_in(dy, c)[at * H + j];
        dh += column_product(H, 3 * H, fl_ref_in(w, c), j, later);
        if (later) dh += carry[j];
        gru_back(H, hidden[j], before[j], dh, carry + j, gates + j, sums + j);
      }
    }
  free(carry);
  return FEDLANE_OK;
}
