/* Recurrent layers. A step's product has few rows, one an example, and the same weights at every
 * step: these are laid out once a call in panels of 64 columns, which then stay in the second cache
 * level. All sums over the features of the step before are taken in ascending order, so a row's
 * bits do not depend on its neighbours. */
#include <math.h>
#include <string.h>

#include "cpu.h"

enum { ROWS = 6, WIDE = 64, VECTORS = WIDE / 16 };

/* to[r, n] = from[r, n] + sum over k of x[r, k] w[k, n] for R rows and V vectors of columns; w: a
 * panel. from may be to. */
static inline __attribute__((always_inline)) void tile(const int R, const int V, int K,
                                                       const float *x, int64_t x_row,
                                                       const float *w, const float *from,
                                                       int64_t from_row, float *to,
                                                       int64_t to_row) {
  fl_v16 sum[ROWS][VECTORS], b[VECTORS];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) sum[r][v] = *(const fl_v16 *)(from + r * from_row + 16 * v);
  for (int k = 0; k < K; k++) {
    for (int v = 0; v < V; v++) b[v] = *(const fl_v16 *)(w + (int64_t)k * WIDE + 16 * v);
    for (int r = 0; r < R; r++) {
      fl_v16 a = x[r * x_row + k] - (fl_v16){0};
      for (int v = 0; v < V; v++) sum[r][v] = FL_MADD(a, b[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) *(fl_v16 *)(to + r * to_row + 16 * v) = sum[r][v];
}

static inline __attribute__((always_inline)) void some_rows(int R, const int V, int K,
                                                            const float *x, int64_t x_row,
                                                            const float *w, const float *from,
                                                            int64_t from_row, float *to,
                                                            int64_t to_row) {
  switch (R) {
    case 6:
      return tile(6, V, K, x, x_row, w, from, from_row, to, to_row);
    case 5:
      return tile(5, V, K, x, x_row, w, from, from_row, to, to_row);
    case 4:
      return tile(4, V, K, x, x_row, w, from, from_row, to, to_row);
    case 3:
      return tile(3, V, K, x, x_row, w, from, from_row, to, to_row);
    case 2:
      return tile(2, V, K, x, x_row, w, from, from_row, to, to_row);
    default:
      return tile(1, V, K, x, x_row, w, from, from_row, to, to_row);
  }
}

/* The same for the first n <= 16 columns alone. */
static void narrow(int R, int n, int K, const float *x, int64_t x_row, const float *w,
                   const float *from, int64_t from_row, float *to, int64_t to_row) {
  float part[ROWS * 16] = {0};
  size_t bytes = (size_t)n * sizeof *part;
  for (int r = 0; r < R; r++) memcpy(part + 16 * r, from + r * from_row, bytes);
  some_rows(R, 1, K, x, x_row, w, part, 16, part, 16);
  for (int r = 0; r < R; r++) memcpy(to + r * to_row, part + 16 * r, bytes);
}

/* A matrix [K, N] as panels [K, WIDE], the last one filled up with zeros. */
static int64_t packed_size(int K, int N) { return (int64_t)(N + WIDE - 1) / WIDE * WIDE * K; }

/* Packs w [K, N], or where it is turned the transpose of w [N, K]. */
static void pack(int K, int N, bool turned, const float *w, float *panel) {
  for (int at = 0; at < N; at += WIDE, panel += (int64_t)WIDE * K) {
    int n = N - at < WIDE ? N - at : WIDE;
    if (n < WIDE) memset(panel, 0, (size_t)K * WIDE * sizeof *panel);
    for (int k = 0; !turned && k < K; k++)
      memcpy(panel + (int64_t)k * WIDE, w + (int64_t)k * N + at, (size_t)n * sizeof *panel);
    for (int i = 0; turned && i < n; i++)
      for (int k = 0; k < K; k++) panel[(int64_t)k * WIDE + i] = w[(int64_t)(at + i) * K + k];
  }
}

/* to = from + x w for rows that lie so many floats apart. */
static void multiply(int rows, int K, int N, const float *x, int64_t x_row, const float *w,
                     const float *from, int64_t from_row, float *to, int64_t to_row) {
  int groups = (rows + ROWS - 1) / ROWS;
  for (int at = 0; at < N; at += WIDE, w += (int64_t)WIDE * K)
    for (int g = 0, row = 0, R; g < groups; g++, row += R) {
      R = (rows - row + groups - g - 1) / (groups - g);
      const float *xs = x + row * x_row, *was = from + row * from_row + at;
      float *is = to + row * to_row + at;
      if (N - at >= WIDE) some_rows(R, VECTORS, K, xs, x_row, w, was, from_row, is, to_row);
      for (int n = 0; N - at < WIDE && n < N - at; n += 16)
        narrow(R, N - at - n < 16 ? N - at - n : 16, K, xs, x_row, w + n, was + n, from_row, is + n,
               to_row);
    }
}

/* The functions of the gates, without branches, so that a loop over them becomes vector code. The
 * coefficients are those of Moshier's Cephes library for floats. */
static inline float exp_of(float x) {
  const float magic = 12582912.0f; /* 1.5 * 2^23: a sum with it has no fraction */
  x = x > 88 ? 88 : x;
  x = x < -87 ? -87 : x;
  float shifted = x * 1.44269504088896341f + magic, n = shifted - magic, power;
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + 0x3F800000;
  memcpy(&power, &bits, sizeof power);
  float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return (p * r * r + r + 1) * power;
}

static inline float sigmoid_of(float x) { return 1 / (1 + exp_of(-x)); }

static inline float tanh_of(float x) {
  float size = fabsf(x), z = x * x, far = 1 - 2 / (exp_of(2 * size) + 1);
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  return size < 0.625f ? p * z * x + x : copysignf(far, x);
}

/* One step of one example; last: the cells of the step before. */
static void lstm_step(int H, const float *restrict last, float *restrict gates,
                      float *restrict cell, float *restrict y) {
  FL_SIMD
  for (int j = 0; j < H; j++) {
    float in = sigmoid_of(gates[j]), forget = sigmoid_of(gates[H + j]);
    float fresh = tanh_of(gates[2 * H + j]), out = sigmoid_of(gates[3 * H + j]);
    float c = forget * last[j] + in * fresh;
    gates[j] = in;
    gates[H + j] = forget;
    gates[2 * H + j] = fresh;
    gates[3 * H + j] = out;
    cell[j] = c;
    y[j] = out * tanh_of(c);
  }
}

/* carry: of the cells, from the step after and then to the step before. */
static void lstm_back(int H, const float *restrict cell, const float *restrict last,
                      const float *restrict dh, float *restrict carry, float *restrict gates) {
  FL_SIMD
  for (int j = 0; j < H; j++) {
    float in = gates[j], forget = gates[H + j], fresh = gates[2 * H + j], out = gates[3 * H + j];
    float shown = tanh_of(cell[j]), dc = carry[j] + dh[j] * out * (1 - shown * shown);
    gates[j] = dc * fresh * (in * (1 - in));
    gates[H + j] = dc * last[j] * (forget * (1 - forget));
    gates[2 * H + j] = dc * in * (1 - fresh * fresh);
    gates[3 * H + j] = dh[j] * shown * (out * (1 - out));
    carry[j] = dc * forget;
  }
}

/* sum [3H]: w h + bias of the step; hidden: its last part, to be kept. */
static void gru_step(int H, const float *restrict sum, const float *restrict before,
                     float *restrict gates, float *restrict hidden, float *restrict y) {
  FL_SIMD
  for (int j = 0; j < H; j++) {
    float reset = sigmoid_of(gates[j] + sum[j]), update = sigmoid_of(gates[H + j] + sum[H + j]);
    float fresh = tanh_of(gates[2 * H + j] + reset * sum[2 * H + j]);
    hidden[j] = sum[2 * H + j];
    gates[j] = reset;
    gates[H + j] = update;
    gates[2 * H + j] = fresh;
    y[j] = fresh + update * (before[j] - fresh);
  }
}

/* carry: what of dh goes straight to the step before. */
static void gru_back(int H, const float *restrict hidden, const float *restrict before,
                     const float *restrict dh, float *restrict carry, float *restrict gates,
                     float *restrict sum) {
  FL_SIMD
  for (int j = 0; j < H; j++) {
    float reset = gates[j], update = gates[H + j], fresh = gates[2 * H + j], d = dh[j] + carry[j];
    float dn = d * (1 - update) * (1 - fresh * fresh);
    float dr = dn * hidden[j] * (reset * (1 - reset));
    float du = d * (before[j] - fresh) * (update * (1 - update));
    gates[j] = sum[j] = dr;
    gates[H + j] = sum[H + j] = du;
    gates[2 * H + j] = dn;
    sum[2 * H + j] = dn * reset;
    carry[j] = d * update;
  }
}

/* Scratch of one call: the weights in panels, then two blocks of B * n floats, zeros. */
typedef struct scratch {
  float *w, *first, *second;
} scratch;

static fl_status take(fl_dev *d, int64_t w, int64_t first, int64_t second, scratch *out) {
  void *at = NULL;
  FL_TRY(fl_cpu_scratch(d, (w + first + second) * (int64_t)sizeof(float), &at));
  *out = (scratch){at, (float *)at + w, (float *)at + w + first};
  return FEDLANE_OK;
}

fl_status fl_cpu_lstm_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_span y,
                          fl_span keep) {
  int64_t all = (int64_t)b.B * T, gate_row = 4 * (int64_t)T * H, row = (int64_t)T * H;
  scratch s;
  FL_TRY(take(d, packed_size(H, 4 * H), H, 0, &s));
  memset(s.first, 0, (size_t)H * sizeof(float));
  for (int c = 0; c < b.C; c++) {
    float *ys = fl_lane_out(y, c), *gates = fl_lane_out(keep, c);
    float *cells = gates + all * 4 * H, *outs = cells + all * H;
    pack(H, 4 * H, true, fl_lane(w, c), s.w);
    fl_clear_dead(b, c, row, ys);
    for (int t = 0; t < T; t++, ys += H, gates += 4 * H, cells += H, outs += H) {
      if (t > 0) multiply(b.rows[c], H, 4 * H, ys - H, row, s.w, gates, gate_row, gates, gate_row);
      for (int r = 0; r < b.rows[c]; r++) {
        const float *last = t > 0 ? cells - H + r * row : s.first;
        const float *before = t > 0 ? ys - H + r * row : s.first;
        lstm_step(H, last, gates + r * gate_row, cells + r * row, ys + r * row);
        memcpy(outs + r * row, before, (size_t)H * sizeof(float));
      }
    }
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_lstm_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                          fl_span keep) {
  int64_t all = (int64_t)b.B * T, gate_row = 4 * (int64_t)T * H, row = (int64_t)T * H;
  scratch s;
  FL_TRY(take(d, packed_size(4 * H, H) + H, (int64_t)b.B * H, (int64_t)b.B * H, &s));
  float *zero = s.w + packed_size(4 * H, H), *dh = s.first, *carry = s.second;
  memset(zero, 0, (size_t)H * sizeof *zero);
  for (int c = 0; c < b.C; c++) {
    const float *cells = fl_lane_out(keep, c) + all * 4 * H + row - H;
    const float *dys = fl_lane(dy, c) + row - H;
    float *gates = fl_lane_out(keep, c) + gate_row - 4 * H;
    pack(4 * H, H, false, fl_lane(w, c), s.w);
    memset(carry, 0, (size_t)(b.B * (int64_t)H) * sizeof *carry);
    fl_clear_dead(b, c, gate_row, fl_lane_out(keep, c));
    for (int t = T - 1; t >= 0; t--, gates -= 4 * H, cells -= H, dys -= H) {
      bool end = t == T - 1;
      if (!end) multiply(b.rows[c], 4 * H, H, gates + 4 * H, gate_row, s.w, dys, row, dh, H);
      for (int r = 0; r < b.rows[c]; r++)
        lstm_back(H, cells + r * row, t > 0 ? cells - H + r * row : zero,
                  end ? dys + r * row : dh + (int64_t)r * H, carry + (int64_t)r * H,
                  gates + r * gate_row);
    }
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_gru_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan bias, fl_span y,
                         fl_span keep) {
  int64_t all = (int64_t)b.B * T, gate_row = 3 * (int64_t)T * H, row = (int64_t)T * H;
  scratch s;
  FL_TRY(take(d, packed_size(H, 3 * H), (int64_t)b.B * 3 * H, H, &s));
  memset(s.second, 0, (size_t)H * sizeof(float));
  for (int c = 0; c < b.C; c++) {
    float *ys = fl_lane_out(y, c), *gates = fl_lane_out(keep, c);
    float *hidden = gates + all * 3 * H, *outs = hidden + all * H;
    pack(H, 3 * H, true, fl_lane(w, c), s.w);
    fl_clear_dead(b, c, row, ys);
    for (int t = 0; t < T; t++, ys += H, gates += 3 * H, hidden += H, outs += H) {
      const float *before = t > 0 ? ys - H : s.second;
      int64_t before_row = t > 0 ? row : 0;
      multiply(b.rows[c], H, 3 * H, before, before_row, s.w, fl_lane(bias, c), 0, s.first, 3 * H);
      for (int r = 0; r < b.rows[c]; r++) {
        gru_step(H, s.first + (int64_t)r * 3 * H, before + r * before_row, gates + r * gate_row,
                 hidden + r * row, ys + r * row);
        memcpy(outs + r * row, before + r * before_row, (size_t)H * sizeof(float));
      }
    }
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_gru_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                         fl_span keep) {
  int64_t all = (int64_t)b.B * T, gate_row = 3 * (int64_t)T * H, row = (int64_t)T * H;
  scratch s;
  FL_TRY(take(d, packed_size(3 * H, H), (int64_t)b.B * H, (int64_t)b.B * H, &s));
  float *dh = s.first, *carry = s.second;
  for (int c = 0; c < b.C; c++) {
    const float *hidden = fl_lane_out(keep, c) + all * 3 * H + row - H, *before = hidden + all * H;
    const float *dys = fl_lane(dy, c) + row - H;
    float *gates = fl_lane_out(keep, c) + gate_row - 3 * H, *sums = gates + all * 5 * H;
    pack(3 * H, H, false, fl_lane(w, c), s.w);
    memset(carry, 0, (size_t)(b.B * (int64_t)H) * sizeof *carry);
    fl_clear_dead(b, c, gate_row, fl_lane_out(keep, c));
    fl_clear_dead(b, c, gate_row, fl_lane_out(keep, c) + all * 5 * H);
    for (int t = T - 1; t >= 0;
         t--, gates -= 3 * H, sums -= 3 * H, hidden -= H, before -= H, dys -= H) {
      bool end = t == T - 1;
      if (!end) multiply(b.rows[c], 3 * H, H, sums + 3 * H, gate_row, s.w, dys, row, dh, H);
      for (int r = 0; r < b.rows[c]; r++)
        gru_back(H, hidden + r * row, before + r * row, end ? dys + r * row : dh + (int64_t)r * H,
                 carry + (int64_t)r * H, gates + r * gate_row, sums + r * gate_row);
    }
  }
  return FEDLANE_OK;
}
