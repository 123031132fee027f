/* Convolutions with stride 1 of images of few channels, which lie in planes: the first layers of
 * networks, and all of a small one. A library that takes channels 16 at a time fills most of them
 * up with zeros here. Outputs in planes are made 16 pixels of a row at a time, several rows and
 * outputs together; outputs in vectors of 16 channels, several pixels together. */
#include "narrow.h"

#include <string.h>

#include "pool.h"

enum {
  V = 16,
  CHANNELS = 8, /* of the input, at most */
  OUTS = FL_PLANES_TOGETHER,
  ROWS = 4, /* of pixels that are worked on together */
  PIXELS = 10,
};

bool fl_narrow_fits(const fl_window *s) {
  return !s->flat && s->stride == 1 && s->kernel > 3 && s->in.channels <= CHANNELS;
}

fl_planes fl_planes_of(fl_image s, int border, int64_t pitch) {
  return (fl_planes){.n = s.channels,
                     .first = border,
                     .end = border + s.height,
                     .pitch = pitch,
                     .size = pitch * (s.height + 2 * border)};
}

int64_t fl_planes_floats(const fl_planes *p) { return p->n * p->size + 2 * V; }

void fl_planes_take(const fl_planes *p, fl_image s, const float *from) {
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

fl_status fl_planes_room(fl_dev *d, int64_t zeros, int64_t others, float **out) {
  void *at = NULL;
  FL_TRY(fl_cpu_scratch(d, (zeros + others) * (int64_t)sizeof(float), &at));
  memset(at, 0, (size_t)zeros * sizeof(float));
  *out = at;
  return FEDLANE_OK;
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

/* 16 pixels of R rows of N outputs in planes, from a row and a column on. */
INLINE void slide(const int N, const int R, const fl_planes *x, int k, const float *w, int row,
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

INLINE void slide_rows(const int N, const int R, const fl_planes *x, int k, const float *w,
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

INLINE void slide_image(const int N, const fl_planes *x, int k, const float *w, const float *bias,
                        fl_image to, float *y) {
  int row = 0;
  for (; row + ROWS <= to.height; row += ROWS) slide_rows(N, ROWS, x, k, w, bias, to, row, y);
  for (; row + 2 <= to.height; row += 2) slide_rows(N, 2, x, k, w, bias, to, row, y);
  if (row < to.height) slide_rows(N, 1, x, k, w, bias, to, row, y);
}

/* An image in planes; w as packed for fl_planes_some() outputs at a time. */
static void slide_all(const fl_planes *x, const taps *t, const float *w, const float *bias,
                      fl_image to, float *y) {
  int64_t each = (int64_t)t->ins * t->k * t->k, plane = (int64_t)to.height * to.width;
  for (int out = 0, n; out < t->outs; out += n) {
    const float *biases = bias ? bias + out : NULL;
    n = fl_planes_some(t->outs - out);
    if (n == OUTS)
      slide_image(OUTS, x, t->k, w + out * each, biases, to, y + out * plane);
    else if (n == 2)
      slide_image(2, x, t->k, w + out * each, biases, to, y + out * plane);
    else
      slide_image(1, x, t->k, w + out * each, biases, to, y + out * plane);
  }
}

/* P pixels of R rows of 16 outputs. */
INLINE void spread(const int R, const int P, const fl_planes *x, int k, const float *w,
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

INLINE void spread_rows(const int R, const fl_planes *x, int k, const float *w, const fl_v16 *bias,
                        int row, int width, float *y) {
  int column = 0;
  for (; column + PIXELS <= width; column += PIXELS)
    spread(R, PIXELS, x, k, w, bias, row, column, width, y);
  for (; column + 4 <= width; column += 4) spread(R, 4, x, k, w, bias, row, column, width, y);
  for (; column < width; column++) spread(R, 1, x, k, w, bias, row, column, width, y);
}

/* An image in vectors of 16 channels; w as packed for 16 outputs at a time. */
static void spread_all(const fl_planes *x, const taps *t, const float *w, const float *bias,
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
    n = vectors ? V : fl_planes_some(t->outs - out);
    pack(t, w, out, n, to + out * each);
  }
}

fl_status fl_narrow_fwd(fl_dev *d, int images, const fl_window *s, const float *x, const float *w,
                        const float *bias, const fl_after *after, float *y) {
  fl_planes in = fl_planes_of(s->in, s->pad, s->in.width + 2 * s->pad);
  taps t = {s->kernel, s->out.channels, s->in.channels, false};
  bool vectors = fl_beside(s->out.channels) == V;
  int64_t size = fl_image_size(s->out), floats = fl_planes_floats(&in);
  int64_t weights = (int64_t)t.outs * t.ins * t.k * t.k;
  int64_t step = after->pool ? fl_image_size(after->pool->out) : size;
  float *packed, *whole;
  FL_TRY(fl_planes_room(d, floats, weights + size, &in.at));
  packed = in.at + floats;
  pack_all(&t, w, vectors, packed);
  for (int i = 0; i < images; i++, x += fl_image_size(s->in), y += step) {
    whole = after->pool ? packed + weights : y;
    fl_planes_take(&in, s->in, x);
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
  fl_planes from = fl_planes_of(s->out, border, s->out.width + 2 * border);
  taps t = {s->kernel, s->in.channels, s->out.channels, true};
  int64_t size = fl_image_size(s->in), floats = fl_planes_floats(&from);
  FL_TRY(fl_planes_room(d, floats, (int64_t)t.outs * t.ins * t.k * t.k, &from.at));
  pack_all(&t, w, false, from.at + floats);
  for (int i = 0; i < images; i++, dy += fl_image_size(s->out), dx += size) {
    fl_planes_take(&from, s->out, dy);
    slide_all(&from, &t, from.at + floats, NULL, s->in, dx);
    const float *gate = after->gate ? after->gate + i * size : NULL;
    for (int64_t j = 0; gate && j < size; j++) dx[j] = gate[j] > 0 ? dx[j] : 0;
  }
  return FEDLANE_OK;
}
