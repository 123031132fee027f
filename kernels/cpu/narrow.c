/* Convolutions with stride 1 of images of few channels, which lie in planes: the first layers of
 * networks, and all of a small one. A library that takes channels 16 at a time fills most of them
 * up with zeros here. Outputs in planes are made 16 pixels of a row at a time, several rows and
 * outputs together; outputs in vectors of 16 channels, several pixels together. The gradient of the
 * weights keeps a vector of sums a weight, or a vector of 16 outputs, for all images.
 *
 * Images are copied into planes with a border of zeros, so that nothing looks beyond an edge. */
#include <string.h>

#include "pool.h"

#define INLINE static inline __attribute__((always_inline))

enum {
  V = 16,
  CHANNELS = 8, /* of the input, at most */
  OUTS = 6,     /* planes, or channels, that are worked on together */
  ROWS = 4,     /* of pixels, likewise */
  PIXELS = 10,
  SIDE = 5, /* places of the window in a row, likewise */
};

bool fl_narrow_fits(const fl_window *s) {
  return !s->flat && s->stride == 1 && s->kernel > 3 && s->in.channels <= CHANNELS;
}

/* Images as planes inside a border of zeros; rows first .. end-1 are not border. */
typedef struct planes {
  int n, first, end;
  int64_t pitch, size; /* floats a row, and a plane */
  float *at;
} planes;

static planes planes_of(fl_image s, int border, int64_t pitch) {
  return (planes){.n = s.channels,
                  .first = border,
                  .end = border + s.height,
                  .pitch = pitch,
                  .size = pitch * (s.height + 2 * border)};
}

/* A vector may be read from anywhere in a row, so some floats follow the last plane. */
static int64_t planes_floats(const planes *p) { return p->n * p->size + 2 * V; }

static void planes_take(const planes *p, fl_image s, const float *from) {
  int64_t border = p->first, beside = fl_beside(s.channels), pixels = (int64_t)s.height * s.width;
  for (int c = 0; c < s.channels; c++) {
    const float *in = from + c / beside * beside * pixels + c % beside;
    float *to = p->at + c * p->size + border * p->pitch + border;
    for (int h = 0; h < s.height; h++, in += s.width * beside, to += p->pitch)
      if (beside == 1)
        memcpy(to, in, (size_t)s.width * sizeof *to);
      else
        for (int w = 0; w < s.width; w++) to[w] = in[w * V];
  }
}

/* Which way the weights are read: an output of the way back is a channel of the input, and the
 * window is turned over. */
typedef struct taps {
  int k, outs, ins; /* what the product makes, and of what */
  bool back;
} taps;

static float tap_at(const taps *t, const float *w, int out, int in, int kh, int kw) {
  int k = t->k;
  if (t->back) return w[(((int64_t)in * t->outs + out) * k + k - 1 - kh) * k + k - 1 - kw];
  return w[(((int64_t)out * t->ins + in) * k + kh) * k + kw];
}

/* The weights of n outputs from `out` on as [in, kh, kw, n]. */
static void pack(const taps *t, const float *w, int out, int n, float *to) {
  for (int in = 0; in < t->ins; in++)
    for (int kh = 0; kh < t->k; kh++)
      for (int kw = 0; kw < t->k; kw++)
        for (int i = 0; i < n; i++) *to++ = tap_at(t, w, out + i, in, kh, kw);
}

/* How many of `left` outputs are taken together. */
static int some_outs(int left) { return left >= OUTS ? OUTS : left >= 2 ? 2 : 1; }

/* 16 pixels of R rows of N outputs in planes, from a row and a column on. */
INLINE void slide(const int N, const int R, const planes *x, int k, const float *w, int row,
                  int column, fl_v16 s[OUTS][ROWS]) {
  int first = x->first - (row + R - 1), end = x->end - row;
  if (first < 0) first = 0;
  if (end > k) end = k;
  for (int c = 0; c < x->n; c++)
    for (int kh = first; kh < end; kh++) {
      const float *line = x->at + c * x->size + (row + kh) * x->pitch + column;
      const float *ws = w + (int64_t)(c * k + kh) * k * N;
      for (int kw = 0; kw < k; kw++, ws += N) {
        fl_v16 in[ROWS];
        for (int r = 0; r < R; r++) {
          in[r] = *(const fl_v16 *)(line + r * x->pitch + kw);
          FL_KEEP(in[r]);
        }
        for (int n = 0; n < N; n++) {
          fl_v16 one = FL_ALL(ws[n]);
          FL_KEEP(one);
          for (int r = 0; r < R; r++) s[n][r] = FL_MADD(one, in[r], s[n][r]);
        }
      }
    }
}

INLINE void slide_rows(const int N, const int R, const planes *x, int k, const float *w,
                       const float *bias, fl_image to, int row, float *y) {
  for (int column = 0; column < to.width; column += V) {
    fl_v16 s[OUTS][ROWS] = {0};
    int n = to.width - column < V ? to.width - column : V;
    slide(N, R, x, k, w, row, column, s);
    for (int i = 0; i < N; i++)
      for (int r = 0; r < R; r++) {
        fl_v16 v = s[i][r] + FL_ALL(bias ? bias[i] : 0);
        fl_store_some(y + ((int64_t)i * to.height + row + r) * to.width + column, n, &v);
      }
  }
}

INLINE void slide_image(const int N, const planes *x, int k, const float *w, const float *bias,
                        fl_image to, float *y) {
  int row = 0;
  for (; row + ROWS <= to.height; row += ROWS) slide_rows(N, ROWS, x, k, w, bias, to, row, y);
  for (; row + 2 <= to.height; row += 2) slide_rows(N, 2, x, k, w, bias, to, row, y);
  if (row < to.height) slide_rows(N, 1, x, k, w, bias, to, row, y);
}

/* An image in planes; w as packed for some_outs() outputs at a time. */
static void slide_all(const planes *x, const taps *t, const float *w, const float *bias,
                      fl_image to, float *y) {
  int64_t each = (int64_t)t->ins * t->k * t->k, plane = (int64_t)to.height * to.width;
  for (int out = 0, n; out < t->outs; out += n) {
    const float *biases = bias ? bias + out : NULL;
    n = some_outs(t->outs - out);
    if (n == OUTS)
      slide_image(OUTS, x, t->k, w + out * each, biases, to, y + out * plane);
    else if (n == 2)
      slide_image(2, x, t->k, w + out * each, biases, to, y + out * plane);
    else
      slide_image(1, x, t->k, w + out * each, biases, to, y + out * plane);
  }
}

/* P pixels of R rows of 16 outputs. */
INLINE void spread(const int R, const int P, const planes *x, int k, const float *w,
                   const fl_v16 *bias, int row, int column, int64_t width, float *y) {
  fl_v16 s[2][PIXELS];
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) s[r][p] = *bias;
  for (int c = 0; c < x->n; c++)
    for (int kh = 0; kh < k; kh++) {
      const float *line = x->at + c * x->size + (row + kh) * x->pitch + column;
      for (int kw = 0; kw < k; kw++, w += V) {
        fl_v16 ws = *(const fl_v16 *)w;
        FL_KEEP(ws);
        FL_AGAIN(line);
        for (int r = 0; r < R; r++)
          for (int p = 0; p < P; p++)
            s[r][p] = FL_MADD(FL_ALL(line[r * x->pitch + kw + p]), ws, s[r][p]);
      }
    }
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) *(fl_v16 *)(y + ((row + r) * width + column + p) * V) = s[r][p];
}

INLINE void spread_rows(const int R, const planes *x, int k, const float *w, const fl_v16 *bias,
                        int row, int width, float *y) {
  int column = 0;
  for (; column + PIXELS <= width; column += PIXELS)
    spread(R, PIXELS, x, k, w, bias, row, column, width, y);
  for (; column + 4 <= width; column += 4) spread(R, 4, x, k, w, bias, row, column, width, y);
  for (; column < width; column++) spread(R, 1, x, k, w, bias, row, column, width, y);
}

/* An image in vectors of 16 channels; w as packed for 16 outputs at a time. */
static void spread_all(const planes *x, const taps *t, const float *w, const float *bias,
                       fl_image to, float *y) {
  int64_t each = (int64_t)t->ins * t->k * t->k;
  for (int out = 0; out < t->outs; out += V, y += (int64_t)to.height * to.width * V) {
    fl_v16 biases = {0};
    int row = 0;
    if (bias) biases = *(const fl_v16 *)(bias + out);
    for (; row + 2 <= to.height; row += 2)
      spread_rows(2, x, t->k, w + out * each, &biases, row, to.width, y);
    if (row < to.height) spread_rows(1, x, t->k, w + out * each, &biases, row, to.width, y);
  }
}

static void pack_all(const taps *t, const float *w, bool vectors, float *to) {
  int64_t each = (int64_t)t->ins * t->k * t->k;
  for (int out = 0, n; out < t->outs; out += n) {
    n = vectors ? V : some_outs(t->outs - out);
    pack(t, w, out, n, to + out * each);
  }
}

/* Scratch memory of a pass, zeros where images have their borders. */
static fl_status room(fl_dev *d, int64_t zeros, int64_t others, float **out) {
  void *at = NULL;
  FL_TRY(fl_cpu_scratch(d, (zeros + others) * (int64_t)sizeof(float), &at));
  memset(at, 0, (size_t)zeros * sizeof(float));
  *out = at;
  return FEDLANE_OK;
}

fl_status fl_narrow_fwd(fl_dev *d, int images, const fl_window *s, const float *x, const float *w,
                        const float *bias, const fl_after *after, float *y) {
  planes in = planes_of(s->in, s->pad, s->in.width + 2 * s->pad);
  taps t = {s->kernel, s->out.channels, s->in.channels, false};
  bool vectors = fl_beside(s->out.channels) == V;
  int64_t size = fl_image_size(s->out), floats = planes_floats(&in);
  int64_t weights = (int64_t)t.outs * t.ins * t.k * t.k;
  int64_t step = after->pool ? fl_image_size(after->pool->out) : size;
  float *packed, *whole;
  FL_TRY(room(d, floats, weights + size, &in.at));
  packed = in.at + floats;
  pack_all(&t, w, vectors, packed);
  for (int i = 0; i < images; i++, x += fl_image_size(s->in), y += step) {
    whole = after->pool ? packed + weights : y;
    planes_take(&in, s->in, x);
    (vectors ? spread_all : slide_all)(&in, &t, packed, bias, s->out, whole);
    if (after->pool)
      fl_cpu_pool_relu(1, after->pool, whole, y, after->mask ? after->mask + i * step : NULL);
    for (int64_t j = 0; after->relu && j < size; j++) y[j] = y[j] < 0 ? 0 : y[j];
  }
  return FEDLANE_OK;
}

fl_status fl_narrow_bwd_data(fl_dev *d, int images, const fl_window *s, const float *dy,
                             const float *w, const fl_after *after, float *dx) {
  int border = s->kernel - 1 - s->pad;
  planes from = planes_of(s->out, border, s->out.width + 2 * border);
  taps t = {s->kernel, s->in.channels, s->out.channels, true};
  int64_t size = fl_image_size(s->in), floats = planes_floats(&from);
  FL_TRY(room(d, floats, (int64_t)t.outs * t.ins * t.k * t.k, &from.at));
  pack_all(&t, w, false, from.at + floats);
  for (int i = 0; i < images; i++, dy += fl_image_size(s->out), dx += size) {
    planes_take(&from, s->out, dy);
    slide_all(&from, &t, from.at + floats, NULL, s->in, dx);
    const float *gate = after->gate ? after->gate + i * size : NULL;
    for (int64_t j = 0; gate && j < size; j++) dx[j] = gate[j] > 0 ? dx[j] : 0;
  }
  return FEDLANE_OK;
}

/* Gradients of weights. sums: a vector a weight of w [outs, ins, k, k], whose elements are still
 * to be added up, or, for outputs in vectors, one for 16 outputs [outs/16, ins, k, k]. */
typedef struct weigh {
  const fl_window *s;
  planes x, dy; /* dy.at: vectors of channels where outputs lie so */
  fl_v16 *sums, *bias;
} weigh;

/* K places of the window, from row kh and column kw on, between one channel and N outputs. */
INLINE void meet_planes(const int N, const int K, const weigh *g, int out, int in, int kh, int kw) {
  int64_t k = g->s->kernel, each = g->s->in.channels * k * k;
  fl_v16 s[OUTS][SIDE], *sums = g->sums + out * each + (in * k + kh) * k + kw;
  const float *x = g->x.at + in * g->x.size + kh * g->x.pitch + kw;
  const float *dy = g->dy.at + out * g->dy.size;
  for (int n = 0; n < N; n++)
    for (int i = 0; i < K; i++) s[n][i] = sums[n * each + i];
  for (int h = 0; h < g->s->out.height; h++, x += g->x.pitch, dy += g->dy.pitch)
    for (int64_t v = 0; v < g->dy.pitch; v += V)
      for (int i = 0; i < K; i++) {
        fl_v16 a = *(const fl_v16 *)(x + v + i);
        FL_KEEP(a);
        for (int n = 0; n < N; n++)
          s[n][i] = FL_MADD(*(const fl_v16 *)(dy + n * g->dy.size + v), a, s[n][i]);
      }
  for (int n = 0; n < N; n++)
    for (int i = 0; i < K; i++) sums[n * each + i] = s[n][i];
}

/* The same between N channels and 16 outputs. */
INLINE void meet_vectors(const int N, const int K, const weigh *g, int out, int in, int kh,
                         int kw) {
  int64_t k = g->s->kernel, W = g->s->out.width;
  fl_v16 s[OUTS][SIDE],
      *sums = g->sums + ((int64_t)(out / V * g->s->in.channels + in) * k + kh) * k + kw;
  const float *x = g->x.at + in * g->x.size + kh * g->x.pitch + kw;
  const float *dy = g->dy.at + out * W * g->s->out.height;
  for (int n = 0; n < N; n++)
    for (int i = 0; i < K; i++) s[n][i] = sums[n * k * k + i];
  for (int h = 0; h < g->s->out.height; h++, x += g->x.pitch, dy += W * V)
    for (int64_t p = 0; p < W; p++) {
      fl_v16 a = *(const fl_v16 *)(dy + p * V);
      FL_KEEP(a);
      FL_AGAIN(x);
      for (int n = 0; n < N; n++)
        for (int i = 0; i < K; i++) s[n][i] = FL_MADD(FL_ALL(x[n * g->x.size + p + i]), a, s[n][i]);
    }
  for (int n = 0; n < N; n++)
    for (int i = 0; i < K; i++) sums[n * k * k + i] = s[n][i];
}

/* vectors: whether outputs come in vectors of 16 channels. */
INLINE void meet(const bool vectors, const int N, const int K, const weigh *g, int out, int in,
                 int kh, int kw) {
  if (vectors)
    meet_vectors(N, K, g, out, in, kh, kw);
  else
    meet_planes(N, K, g, out, in, kh, kw);
}

INLINE void meet_window(const bool vectors, const int N, const weigh *g, int out, int in) {
  int k = g->s->kernel;
  for (int kh = 0; kh < k; kh++) {
    int kw = 0;
    for (; kw + SIDE <= k; kw += SIDE) meet(vectors, N, SIDE, g, out, in, kh, kw);
    for (; kw < k; kw++) meet(vectors, N, 1, g, out, in, kh, kw);
  }
}

/* All weights: of the outputs, or the channels, that are taken together, the others one by one. */
INLINE void meet_all(const bool vectors, const weigh *g) {
  int ins = g->s->in.channels, outs = g->s->out.channels, many = vectors ? ins : outs;
  for (int one = 0; one < (vectors ? outs : ins); one += vectors ? V : 1)
    for (int i = 0, n; i < many; i += n) {
      n = some_outs(many - i);
      int out = vectors ? one : i, in = vectors ? i : one;
      if (n == OUTS)
        meet_window(vectors, OUTS, g, out, in);
      else if (n == 2)
        meet_window(vectors, 2, g, out, in);
      else
        meet_window(vectors, 1, g, out, in);
    }
}

static void meet_image(const weigh *g, bool vectors) {
  if (vectors)
    meet_all(true, g);
  else
    meet_all(false, g);
}

static float total(const fl_v16 *v) {
  float sum = 0;
  for (int i = 0; i < V; i++) sum += (*v)[i];
  return sum;
}

/* to[n] += scale * the sums, of n vectors that stand for a number, or for one of 16 outputs, each.
 */
static void settle(bool vectors, int outs, int64_t each, float scale, const fl_v16 *sums,
                   float *to) {
  for (int o = 0; o < outs; o++)
    for (int64_t i = 0; i < each; i++)
      to[o * each + i] +=
          scale * (vectors ? sums[o / V * each + i][o % V] : total(&sums[o * each + i]));
}

static void add_bias(const weigh *g, bool vectors) {
  int64_t n = (int64_t)g->s->out.height * (vectors ? g->s->out.width * V : g->dy.pitch);
  int of = vectors ? g->s->out.channels / V : g->s->out.channels;
  for (int o = 0; o < of; o++)
    for (int64_t i = 0; i < n; i += V) g->bias[o] += *(const fl_v16 *)(g->dy.at + o * n + i);
}

fl_status fl_narrow_bwd_weights(fl_dev *d, int images, const fl_window *s, const float *x,
                                const float *dy, float scale, float *gw, float *gbias) {
  bool vectors = fl_beside(s->out.channels) == V;
  int64_t each = (int64_t)s->in.channels * s->kernel * s->kernel;
  weigh g = {.s = s,
             .x = planes_of(s->in, s->pad, s->in.width + 2 * s->pad),
             .dy = planes_of(s->out, 0, (s->out.width + V - 1) / V * V)};
  int64_t n = s->out.channels, floats = planes_floats(&g.x) / V * V + V;
  int64_t own = vectors ? 0 : planes_floats(&g.dy);
  float *at;
  FL_TRY(room(d, n * V * (each + 1) + floats + own, 0, &at));
  g.sums = (fl_v16 *)at;
  g.bias = g.sums + n * each;
  g.x.at = (float *)(g.bias + n);
  float *copy = g.x.at + floats;
  for (int i = 0; i < images; i++) {
    const float *one = dy + i * fl_image_size(s->out);
    g.dy.at = vectors ? (float *)one : copy;
    planes_take(&g.x, s->in, x + i * fl_image_size(s->in));
    if (!vectors) planes_take(&g.dy, s->out, one);
    meet_image(&g, vectors);
    if (gbias) add_bias(&g, vectors);
  }
  settle(vectors, s->out.channels, each, scale, g.sums, gw);
  if (gbias) settle(vectors, s->out.channels, 1, scale, g.bias, gbias);
  return FEDLANE_OK;
}
