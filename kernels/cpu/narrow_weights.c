/* Gradients of the weights of convolutions of few channels in planes (narrow.c): a vector of sums a
 * weight, or one for 16 outputs that lie in a vector, for all images; several of them are in
 * registers at a time. */
#include "narrow.h"

enum {
  V = 16,
  OUTS = FL_PLANES_TOGETHER,
  SIDE = 5, /* places of the window in a row that are worked on together */
};

/* sums: a vector a weight of w [outs, ins, k, k], whose elements are still to be added up, or, for
 * outputs in vectors, one for 16 outputs [outs/16, ins, k, k]. */
typedef struct weigh {
  const fl_window *s;
  fl_planes x, dy; /* dy.at: vectors of channels where outputs lie so */
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
      n = fl_planes_some(many - i);
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
             .x = fl_planes_of(s->in, s->pad, s->in.width + 2 * s->pad),
             .dy = fl_planes_of(s->out, 0, (s->out.width + V - 1) / V * V)};
  int64_t n = s->out.channels, floats = fl_planes_floats(&g.x) / V * V + V;
  int64_t own = vectors ? 0 : fl_planes_floats(&g.dy);
  float *at;
  FL_TRY(fl_planes_room(d, n * V * (each + 1) + floats + own, 0, &at));
  g.sums = (fl_v16 *)at;
  g.bias = g.sums + n * each;
  g.x.at = (float *)(g.bias + n);
  float *copy = g.x.at + floats;
  for (int i = 0; i < images; i++) {
    const float *one = dy + i * fl_image_size(s->out);
    g.dy.at = vectors ? (float *)one : copy;
    fl_planes_take(&g.x, s->in, x + i * fl_image_size(s->in));
    if (!vectors) fl_planes_take(&g.dy, s->out, one);
    meet_image(&g, vectors);
    if (gbias) add_bias(&g, vectors);
  }
  settle(vectors, s->out.channels, each, scale, g.sums, gw);
  if (gbias) settle(vectors, s->out.channels, 1, scale, g.bias, gbias);
  return FEDLANE_OK;
}
