/* 3x3 convolutions by Winograd's F(4x4, 3x3) (Lavin and Gray, arXiv:1509.09308): a 6x6 patch of x
 * becomes 36 numbers a channel, its spots; so do the 3x3 weights; at each spot the channels meet in
 * an ordinary matrix product, and 36 multiplications serve 16 output pixels instead of 144.
 *
 * Patches go through in blocks whose spots stay in the second cache level. All channels come in
 * vectors of 16 and every transform works on such vectors. */
#include <string.h>

#include "pool.h"

enum {
  SPOTS = 36,
  HEIGHT = 8,          /* rows of a product that are worked on together */
  CACHE = 576 << 10,   /* bytes of spots in a block */
  WEIGHTS = 256 * 256, /* pairs of channels up to which the weights' spots are cheap enough */
};

#define FOUR(v) (float)(v), (float)(v), (float)(v), (float)(v)
#define ALL(v) ((fl_v16){FOUR(v), FOUR(v), FOUR(v), FOUR(v)})

bool fl_wino_fits(const fl_window *s) {
  return !s->flat && s->kernel == 3 && s->stride == 1 && s->in.channels % 16 == 0 &&
         s->out.channels % 16 == 0 && (int64_t)s->in.channels * s->out.channels <= WEIGHTS &&
         s->out.height >= 4 && s->out.width >= 4;
}

/* A convolution as this file sees it: patches 6x6 are cut out of `from`, 4x4 out of `to`. */
typedef struct grid {
  fl_image from, to;
  int pad, across;                               /* across: patches side by side */
  int64_t patches, each, all;                    /* in all images, in one image, in a block */
  int64_t plane_from, plane_to, plane_w;         /* floats from one spot to the next */
  float *spots_from, *spots_to, *spots_w, *sums; /* sums: one a channel of `to` */
} grid;

static int64_t plane(int64_t rows, int channels) { return rows * channels + 16; }

static fl_status grid_make(fl_dev *d, int images, fl_image from, fl_image to, int pad, grid *out) {
  grid g = {.from = from, .to = to, .pad = pad, .across = (to.width + 3) / 4};
  void *scratch = NULL;
  g.each = (int64_t)g.across * ((to.height + 3) / 4);
  g.patches = images * g.each;
  g.all = CACHE / (SPOTS * (int64_t)sizeof(float) * (from.channels + to.channels));
  if (g.all > g.patches) g.all = g.patches;
  g.all = (g.all + HEIGHT - 1) / HEIGHT * HEIGHT;
  g.plane_from = plane(g.all, from.channels);
  g.plane_to = plane(g.all, to.channels);
  g.plane_w = plane(from.channels, to.channels);
  int64_t floats = SPOTS * (g.plane_from + g.plane_to + g.plane_w) + to.channels;
  FL_TRY(fl_cpu_scratch(d, floats * (int64_t)sizeof(float), &scratch));
  g.spots_from = scratch;
  g.spots_to = g.spots_from + SPOTS * g.plane_from;
  g.spots_w = g.spots_to + SPOTS * g.plane_to;
  g.sums = g.spots_w + SPOTS * g.plane_w;
  *out = g;
  return FEDLANE_OK;
}

/* The one-dimensional transforms. A patch is seen as a polynomial through the points 0, +-P, +-Q
 * and infinity; these two numbers are exact and lose the least to rounding. */
static const float P = 0.625f, Q = 1.5f, P2 = 0.390625f, Q2 = 2.25f;

INLINE void pixels6(const fl_v16 d[6], fl_v16 t[6]) {
  fl_v16 even = FL_MADD(ALL(-Q2), d[2], d[4]), odd = ALL(P) * FL_MADD(ALL(-Q2), d[1], d[3]);
  fl_v16 even2 = FL_MADD(ALL(-P2), d[2], d[4]), odd2 = ALL(Q) * FL_MADD(ALL(-P2), d[1], d[3]);
  t[0] = FL_MADD(ALL(P2 * Q2), d[0], FL_MADD(ALL(-(P2 + Q2)), d[2], d[4]));
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = even2 + odd2;
  t[4] = even2 - odd2;
  t[5] = FL_MADD(ALL(P2 * Q2), d[1], FL_MADD(ALL(-(P2 + Q2)), d[3], d[5]));
}

/* What the weights are divided by at 0, at +-P and at +-Q. */
static const float AT_0 = (float)(1 / (0.390625 * 2.25));
static const float AT_P = (float)(1 / (2 * 0.390625 * (0.390625 - 2.25)));
static const float AT_Q = (float)(1 / (2 * 2.25 * (2.25 - 0.390625)));

INLINE void weights3(const fl_v16 g[3], fl_v16 t[6]) {
  fl_v16 even = ALL(AT_P) * FL_MADD(ALL(P2), g[2], g[0]), odd = ALL(P * AT_P) * g[1];
  fl_v16 even2 = ALL(AT_Q) * FL_MADD(ALL(Q2), g[2], g[0]), odd2 = ALL(Q * AT_Q) * g[1];
  t[0] = ALL(AT_0) * g[0];
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = even2 + odd2;
  t[4] = even2 - odd2;
  t[5] = g[2];
}

/* Spots back to 4 pixels. */
INLINE void pixels4(const fl_v16 t[6], fl_v16 y[4]) {
  fl_v16 even = t[1] + t[2], odd = t[1] - t[2], even2 = t[3] + t[4], odd2 = t[3] - t[4];
  y[0] = t[0] + even + even2;
  y[1] = FL_MADD(ALL(P), odd, ALL(Q) * odd2);
  y[2] = FL_MADD(ALL(P2), even, ALL(Q2) * even2);
  y[3] = FL_MADD(ALL(P * P2), odd, FL_MADD(ALL(Q * Q2), odd2, t[5]));
}

/* The transposes of the last two: gradients of 4 pixels to spots, spots to gradients of weights. */
INLINE void gradients4(const fl_v16 y[4], fl_v16 t[6]) {
  fl_v16 even = FL_MADD(ALL(P2), y[2], y[0]);
  fl_v16 odd = FL_MADD(ALL(P), y[1], ALL(P * P2) * y[3]);
  fl_v16 even2 = FL_MADD(ALL(Q2), y[2], y[0]);
  fl_v16 odd2 = FL_MADD(ALL(Q), y[1], ALL(Q * Q2) * y[3]);
  t[0] = y[0];
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = even2 + odd2;
  t[4] = even2 - odd2;
  t[5] = y[3];
}

INLINE void gradients3(const fl_v16 t[6], fl_v16 g[3]) {
  fl_v16 even = ALL(AT_P) * (t[1] + t[2]), odd = ALL(P * AT_P) * (t[1] - t[2]);
  fl_v16 even2 = ALL(AT_Q) * (t[3] + t[4]), odd2 = ALL(Q * AT_Q) * (t[3] - t[4]);
  g[0] = FL_MADD(ALL(AT_0), t[0], even + even2);
  g[1] = odd + odd2;
  g[2] = FL_MADD(ALL(P2), even, FL_MADD(ALL(Q2), even2, t[5]));
}

/* The same in two dimensions: n x n vectors at `in`, whose rows are in_row floats apart and columns
 * in_step, become m x m vectors at `out`. */
typedef void transform(const fl_v16 *in, fl_v16 *out);

INLINE void both_ways(transform *one, const int n, const int m, const float *in, int64_t in_row,
                      int64_t in_step, float *out, int64_t out_row, int64_t out_step) {
  fl_v16 line[6], half[36];
  for (int j = 0; j < n; j++) {
    for (int i = 0; i < n; i++) line[i] = *(const fl_v16 *)(in + i * in_row + j * in_step);
    fl_v16 t[6];
    one(line, t);
    for (int i = 0; i < m; i++) half[i * 6 + j] = t[i];
  }
  for (int i = 0; i < m; i++) {
    fl_v16 t[6];
    one(half + i * 6, t);
    for (int j = 0; j < m; j++) *(fl_v16 *)(out + i * out_row + j * out_step) = t[j];
  }
}

/* Where the size x size patch at (top, left) of a 16-channel plane lies; one that reaches over the
 * edge is copied, with zeros, to spare. *row: floats from one of its rows to the next. */
static const float *patch_of(const float *x, fl_image s, int top, int left, int size, float *spare,
                             int64_t *row) {
  bool inside = top >= 0 && left >= 0 && top + size <= s.height && left + size <= s.width;
  *row = (inside ? s.width : size) * 16;
  if (inside) return x + ((int64_t)top * s.width + left) * 16;
  int first = left < 0 ? -left : 0, end = s.width - left < size ? s.width - left : size;
  memset(spare, 0, (size_t)(size * size * 16) * sizeof(float));
  for (int i = top < 0 ? -top : 0; i < size && top + i < s.height; i++)
    memcpy(spare + (i * size + first) * 16, x + ((int64_t)(top + i) * s.width + left + first) * 16,
           (size_t)((end - first) * 16) * sizeof(float));
  return spare;
}

/* Patch `at` of the grid: which image and where. */
typedef struct place {
  int64_t image;
  int top, left; /* of its 4x4 part */
} place;

static place place_of(const grid *g, int64_t at) {
  int64_t in = at % g->each;
  place p = {at / g->each, (int)(in / g->across) * 4, (int)(in % g->across) * 4};
  return p;
}

/* Spots of n patches from `first` on: [36][patch][channel]. Rows up to a multiple of HEIGHT are
 * filled with zeros. */
static void spots_from(const grid *g, int64_t first, int64_t n, const float *x) {
  fl_image s = g->from;
  float spare[SPOTS * 16];
  int64_t row, up = (n + HEIGHT - 1) / HEIGHT * HEIGHT;
  for (int64_t t = 0; t < n; t++) {
    place p = place_of(g, first + t);
    const float *image = x + p.image * fl_image_size(s);
    for (int k = 0; k < s.channels; k += 16) {
      const float *patch = patch_of(image + (int64_t)k * s.height * s.width, s, p.top - g->pad,
                                    p.left - g->pad, 6, spare, &row);
      both_ways(pixels6, 6, 6, patch, row, 16, g->spots_from + t * s.channels + k,
                6 * g->plane_from, g->plane_from);
    }
  }
  for (int i = 0; i < SPOTS; i++)
    memset(g->spots_from + i * g->plane_from + n * s.channels, 0,
           (size_t)((up - n) * s.channels) * sizeof(float));
}

/* Spots of n gradient patches; their pixels are also added up in g->sums. */
static void spots_to(const grid *g, int64_t first, int64_t n, const float *y) {
  fl_image s = g->to;
  float spare[16 * 16];
  int64_t row;
  for (int64_t t = 0; t < n; t++) {
    place p = place_of(g, first + t);
    const float *image = y + p.image * fl_image_size(s);
    for (int k = 0; k < s.channels; k += 16) {
      const float *patch =
          patch_of(image + (int64_t)k * s.height * s.width, s, p.top, p.left, 4, spare, &row);
      both_ways(gradients4, 4, 6, patch, row, 16, g->spots_to + t * s.channels + k, 6 * g->plane_to,
                g->plane_to);
      fl_v16 line[4], *sum = (fl_v16 *)(g->sums + k);
      for (int i = 0; i < 4; i++) {
        const fl_v16 *pixel = (const fl_v16 *)(patch + i * row);
        line[i] = (pixel[0] + pixel[1]) + (pixel[2] + pixel[3]);
      }
      *sum += (line[0] + line[1]) + (line[2] + line[3]);
    }
  }
}

/* One patch, 4x4 pixels of 16 channels, as it is to be written. */
static void patch_write(fl_image s, place p, const float *patch, const float *gate, float *y) {
  for (int i = 0; i < 4 && p.top + i < s.height; i++)
    for (int j = 0; j < 4 && p.left + j < s.width; j++) {
      const float *from = patch + (i * 4 + j) * 16;
      int64_t at = ((int64_t)(p.top + i) * s.width + p.left + j) * 16;
      FL_SIMD
      for (int k = 0; k < 16; k++) y[at + k] = !gate || gate[at + k] > 0 ? from[k] : 0;
    }
}

/* The same of what pooling leaves of it, up to 2x2 pixels. */
static void patch_pool(fl_image s, place p, const float *patch, uint8_t *mask, float *y) {
  int top = p.top / 2, left = p.left / 2, n = s.width - left < 2 ? s.width - left : 2;
  for (int i = 0; i < 2 && top + i < s.height; i++) {
    int64_t at = ((int64_t)(top + i) * s.width + left) * 16;
    const float *from = patch + i * 8 * 16;
    fl_pool_relu16(n, from, from + 4 * 16, y + at, mask ? mask + at : NULL);
  }
}

/* Writes n patches from their spots; bias NULL: none. */
static void pixels_to(const grid *g, int64_t first, int64_t n, const float *bias,
                      const fl_after *after, float *y) {
  fl_image s = after->pool ? after->pool->out : g->to;
  _Alignas(64) float out[16 * 16];
  for (int64_t t = 0; t < n; t++) {
    place p = place_of(g, first + t);
    for (int k = 0; k < s.channels; k += 16) {
      int64_t at = p.image * fl_image_size(s) + (int64_t)k * s.height * s.width;
      fl_v16 shift = bias ? *(const fl_v16 *)(bias + k) : ALL(0);
      both_ways(pixels4, 6, 4, g->spots_to + t * s.channels + k, 6 * g->plane_to, g->plane_to, out,
                4 * 16, 16);
      for (int i = 0; i < 16; i++) *(fl_v16 *)(out + i * 16) += shift;
      for (int i = 0; after->relu && i < 16 * 16; i++) out[i] = out[i] < 0 ? 0 : out[i];
      if (after->pool)
        patch_pool(s, p, out, after->mask ? after->mask + at : NULL, y + at);
      else
        patch_write(s, p, out, after->gate ? after->gate + at : NULL, y + at);
    }
  }
}

/* Weights as seen from the grid: from channel i to channel o, tap q is
 * w[i * from + o * to + (turned ? 8 - q : q)]. */
typedef struct kernels {
  int64_t from, to;
  bool turned;
} kernels;

static void spots_w(const grid *g, kernels v, const float *w) {
  float tap[9 * 16];
  for (int i = 0; i < g->from.channels; i++)
    for (int o = 0; o < g->to.channels; o += 16) {
      for (int q = 0; q < 9; q++)
        for (int k = 0; k < 16; k++)
          tap[q * 16 + k] = w[i * v.from + (o + k) * v.to + (v.turned ? 8 - q : q)];
      both_ways(weights3, 3, 6, tap, 3 * 16, 16, g->spots_w + i * g->to.channels + o,
                6 * g->plane_w, g->plane_w);
    }
}

/* gw += scale * the gradient that the weights' spots hold. */
static void gradients_w(const grid *g, float scale, float *gw) {
  float tap[9 * 16];
  int64_t I = g->from.channels;
  for (int64_t i = 0; i < I; i++)
    for (int64_t o = 0; o < g->to.channels; o += 16) {
      both_ways(gradients3, 6, 3, g->spots_w + i * g->to.channels + o, 6 * g->plane_w, g->plane_w,
                tap, 3 * 16, 16);
      for (int k = 0; k < 16; k++)
        for (int q = 0; q < 9; q++) gw[((o + k) * I + i) * 9 + q] += scale * tap[q * 16 + k];
    }
}

/* c[HEIGHT, V vectors] = or += sum over k of a[row, k] * b[k, vectors]. Element (row, k) of a is at
 * row * a_row + k * a_step; rows of b and c are n floats apart. */
INLINE void product(const int V, bool add, int64_t depth, const float *a, int64_t a_row,
                    int64_t a_step, const float *b, int64_t n, float *c) {
  fl_v16 s[HEIGHT][2], line[2];
  for (int r = 0; r < HEIGHT; r++)
    for (int v = 0; v < V; v++) s[r][v] = add ? *(fl_v16 *)(c + r * n + v * 16) : ALL(0);
  for (int64_t k = 0; k < depth; k++, a += a_step, b += n) {
    for (int v = 0; v < V; v++) line[v] = *(const fl_v16 *)(b + v * 16);
    for (int r = 0; r < HEIGHT; r++) {
      float one = a[r * a_row];
      for (int v = 0; v < V; v++) s[r][v] = FL_MADD(ALL(one), line[v], s[r][v]);
    }
  }
  for (int r = 0; r < HEIGHT; r++)
    for (int v = 0; v < V; v++) *(fl_v16 *)(c + r * n + v * 16) = s[r][v];
}

static void products(bool add, int64_t rows, int64_t n, int64_t depth, const float *a,
                     int64_t a_row, int64_t a_step, const float *b, float *c) {
  int64_t v = 0;
  for (; v + 32 <= n; v += 32)
    for (int64_t r = 0; r < rows; r += HEIGHT)
      product(2, add, depth, a + r * a_row, a_row, a_step, b + v, n, c + r * n + v);
  for (int64_t r = 0; v < n && r < rows; r += HEIGHT)
    product(1, add, depth, a + r * a_row, a_row, a_step, b + v, n, c + r * n + v);
}

static void forward(const grid *g, const float *x, const float *bias, const fl_after *after,
                    float *y) {
  int64_t from = g->from.channels, to = g->to.channels;
  for (int64_t first = 0; first < g->patches; first += g->all) {
    int64_t n = g->patches - first < g->all ? g->patches - first : g->all;
    spots_from(g, first, n, x);
    for (int i = 0; i < SPOTS; i++)
      products(false, n, to, from, g->spots_from + i * g->plane_from, from, 1,
               g->spots_w + i * g->plane_w, g->spots_to + i * g->plane_to);
    pixels_to(g, first, n, bias, after, y);
  }
}

fl_status fl_wino_fwd(fl_dev *d, int images, const fl_window *s, const float *x, const float *w,
                      const float *bias, const fl_after *after, float *y) {
  grid g;
  FL_TRY(grid_make(d, images, s->in, s->out, s->pad, &g));
  spots_w(&g, (kernels){9, (int64_t)s->in.channels * 9, false}, w);
  forward(&g, x, bias, after, y);
  return FEDLANE_OK;
}

fl_status fl_wino_bwd_data(fl_dev *d, int images, const fl_window *s, const float *dy,
                           const float *w, const fl_after *after, float *dx) {
  grid g;
  FL_TRY(grid_make(d, images, s->out, s->in, 2 - s->pad, &g));
  spots_w(&g, (kernels){(int64_t)s->in.channels * 9, 9, true}, w);
  forward(&g, dy, NULL, after, dx);
  return FEDLANE_OK;
}

fl_status fl_wino_bwd_weights(fl_dev *d, int images, const fl_window *s, const float *x,
                              const float *dy, float scale, float *gw, float *gbias) {
  grid g;
  FL_TRY(grid_make(d, images, s->in, s->out, s->pad, &g));
  int64_t from = s->in.channels, to = s->out.channels;
  memset(g.sums, 0, (size_t)to * sizeof(float));
  for (int64_t first = 0; first < g.patches; first += g.all) {
    int64_t n = g.patches - first < g.all ? g.patches - first : g.all;
    spots_from(&g, first, n, x);
    spots_to(&g, first, n, dy);
    for (int i = 0; i < SPOTS; i++)
      products(first > 0, from, to, n, g.spots_from + i * g.plane_from, 1, from,
               g.spots_to + i * g.plane_to, g.spots_w + i * g.plane_w);
  }
  gradients_w(&g, scale, gw);
  for (int64_t o = 0; gbias && o < to; o++) gbias[o] += scale * g.sums[o];
  return FEDLANE_OK;
}
