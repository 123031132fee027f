/* Vectors stream through once, four floats a thread and access; the time is bytes over bandwidth.
 */
#include <math.h>

#include "block.h"
#include "cuda.h"

enum { THREADS = 256, QUADS = 4, SHARE = 4 * THREADS * QUADS }; /* elements of a block */

static dim3 grid_of(int64_t n, int lanes) {
  return dim3((unsigned)fl_ceil_div(n, SHARE), (unsigned)lanes);
}

/* The k-th quad of this thread: neighbours in a warp are neighbours in memory. */
static __device__ inline int64_t quad_at(int k) {
  return 4 * ((int64_t)blockIdx.x * THREADS * QUADS + k * THREADS + threadIdx.x);
}

typedef struct terms {
  int n;
  float a[FL_TERMS_MAX];
  fl_cspan x[FL_TERMS_MAX];
} terms;

static FL_KERNEL_BOUNDS(THREADS, 4) void step_vec4(int64_t n, fl_cspan g, fl_factors lr,
                                                   terms terms, fl_span w, bool even) {
  int lane = blockIdx.y;
  const float *gs = fl_lane(g, lane);
  float *ws = fl_lane_out(w, lane), rate = -lr.at[lane];
  for (int k = 0; k < QUADS; k++) {
    int64_t i = quad_at(k);
    if (i >= n) return;
    float4 x[FL_TERMS_MAX], sum = {0, 0, 0, 0}, old = fl_load4(ws, i, n, even);
    if (gs) sum = fl_load4(gs, i, n, even);
#pragma unroll
    for (int t = 0; t < FL_TERMS_MAX; t++)
      if (t < terms.n) x[t] = fl_load4(fl_lane(terms.x[t], lane), i, n, even);
#pragma unroll
    for (int t = 0; t < FL_TERMS_MAX; t++)
      if (t < terms.n)
        sum = fl_each4(x[t], sum, [&](float v, float s) { return fmaf(terms.a[t], v, s); });
    fl_store4(ws, i, n, even,
              fl_each4(sum, old, [&](float s, float v) { return fmaf(rate, s, v); }));
  }
}

fl_status fl_cuda_step(fl_dev *d, int C, int64_t n, fl_cspan g, fl_coef lr, int n_term,
                       const fl_term *term, fl_span w) {
  FL_TRY(fl_cuda_enter(d));
  bool even = fl_span_even(g) && fl_span_even(fl_const(w));
  for (int t = 0; t < n_term; t++) even = even && fl_span_even(term[t].x);
  for (int c = 0, lanes; n > 0 && c < C; c += lanes) {
    lanes = fl_group(C - c, 0);
    terms some = {n_term, {0}, {{NULL, 0}}};
    for (int t = 0; t < n_term; t++) {
      some.a[t] = term[t].a;
      some.x[t] = fl_cspan_from(term[t].x, c);
    }
    FL_LAUNCH(step_vec4, grid_of(n, lanes), THREADS, 0, d->stream, n, fl_cspan_from(g, c),
              fl_factors_of(lr, c, lanes), some, fl_span_from(w, c), even);
  }
  return FL_LAUNCHED("a step was queued");
}

static FL_KERNEL_BOUNDS(THREADS, 4) void axpby_vec4(int64_t n, fl_factors a, fl_cspan x,
                                                    fl_factors b, fl_span y, bool even) {
  int lane = blockIdx.y;
  const float *xs = fl_lane(x, lane);
  float *ys = fl_lane_out(y, lane), fa = a.at[lane], fb = b.at[lane];
  for (int k = 0; k < QUADS; k++) {
    int64_t i = quad_at(k);
    if (i >= n) return;
    float4 sum = {0, 0, 0, 0}, old = {0, 0, 0, 0};
    if (xs) sum = fl_load4(xs, i, n, even);
    if (fb != 0) old = fl_load4(ys, i, n, even);
    if (xs) sum = fl_each4(sum, [&](float v) { return fa * v; });
    if (fb != 0) sum = fl_each4(old, sum, [&](float v, float s) { return fmaf(fb, v, s); });
    fl_store4(ys, i, n, even, sum);
  }
}

fl_status fl_cuda_axpby(fl_dev *d, int C, int64_t n, fl_coef a, fl_cspan x, fl_coef b, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  bool even = fl_span_even(x) && fl_span_even(fl_const(y));
  for (int c = 0, lanes; n > 0 && c < C; c += lanes) {
    lanes = fl_group(C - c, 0);
    FL_LAUNCH(axpby_vec4, grid_of(n, lanes), THREADS, 0, d->stream, n, fl_factors_of(a, c, lanes),
              fl_cspan_from(x, c), fl_factors_of(b, c, lanes), fl_span_from(y, c), even);
  }
  return FL_LAUNCHED("a sum of vectors was queued");
}

static FL_KERNEL_BOUNDS(THREADS, 4) void fill_vec4(int64_t n, float value, fl_span y, bool even) {
  float *ys = fl_lane_out(y, blockIdx.y);
  float4 v = {value, value, value, value};
  for (int k = 0; k < QUADS; k++) fl_store4(ys, quad_at(k), n, even, v);
}

fl_status fl_cuda_fill(fl_dev *d, int C, int64_t n, float value, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  for (int c = 0, lanes; n > 0 && c < C; c += lanes) {
    lanes = fl_group(C - c, 0);
    FL_LAUNCH(fill_vec4, grid_of(n, lanes), THREADS, 0, d->stream, n, value, fl_span_from(y, c),
              fl_span_even(fl_const(y)));
  }
  return FL_LAUNCHED("a fill was queued");
}

/* --- size and health: each block measures a share, then one block a lane joins the shares ---- */
static __device__ inline fl_measure join(fl_measure a, fl_measure b) {
  fl_measure m = {a.sum2 + b.sum2, a.peak > b.peak ? a.peak : b.peak};
  return m;
}

/* The join over a block's threads, in halves; thread 0 gets it. */
static __device__ fl_measure join_block(fl_measure m) {
  FL_SHARED(fl_measure, part, [THREADS]);
  part[threadIdx.x] = m;
  for (int away = THREADS / 2; away > 0; away /= 2) {
    __syncthreads();
    if ((int)threadIdx.x < away)
      part[threadIdx.x] = join(part[threadIdx.x], part[threadIdx.x + away]);
  }
  return part[threadIdx.x];
}

static __device__ inline fl_measure measure_one(fl_measure m, float x) {
  double size = isfinite(x) ? (double)fabsf(x) : (double)INFINITY;
  fl_measure one = {(double)x * (double)x, size};
  return join(m, one);
}

static FL_KERNEL_BOUNDS(THREADS, 4) void measure_shares(int64_t n, fl_cspan x, fl_measure *share,
                                                        bool even) {
  const float *xs = fl_lane(x, blockIdx.y);
  fl_measure m = {0, 0};
  for (int k = 0; k < QUADS; k++) {
    int64_t i = quad_at(k);
    float4 v = {0, 0, 0, 0};
    if (i < n) v = fl_load4(xs, i, n, even);
    m = measure_one(measure_one(measure_one(measure_one(m, v.x), v.y), v.z), v.w);
  }
  m = join_block(m);
  if (threadIdx.x == 0) share[(int64_t)blockIdx.y * gridDim.x + blockIdx.x] = m;
}

static FL_KERNEL_BOUNDS(THREADS, 1) void measure_join(int n_share, const fl_measure *share,
                                                      fl_measure *out) {
  const fl_measure *shares = share + (int64_t)blockIdx.y * n_share;
  fl_measure m = {0, 0};
  for (int i = threadIdx.x; i < n_share; i += THREADS) m = join(m, shares[i]);
  m = join_block(m);
  if (threadIdx.x == 0) out[blockIdx.y] = m;
}

/* Measures `lanes` lanes; the shares take `n_share` measures a lane of the workspace. */
static void launch_measure(fl_dev *d, int lanes, int64_t n, int n_share, fl_cspan x,
                           fl_measure *share, fl_measure *out) {
  if (n > 0)
    FL_LAUNCH(measure_shares, grid_of(n, lanes), THREADS, 0, d->stream, n, x, share,
              fl_span_even(x));
  FL_LAUNCH(measure_join, dim3(1, (unsigned)lanes), THREADS, 0, d->stream, n_share, share, out);
}

fl_status fl_cuda_measure(fl_dev *d, int C, int64_t n, fl_cspan x, fl_measure *out) {
  FL_TRY(fl_cuda_enter(d));
  int n_share = (int)fl_ceil_div(n, SHARE);
  for (int c = 0, lanes; c < C; c += lanes) {
    lanes = fl_group(C - c, n_share * (int64_t)sizeof *out);
    launch_measure(d, lanes, n, n_share, fl_cspan_from(x, c), (fl_measure *)d->workspace, out + c);
  }
  return FL_LAUNCHED("a measure was queued");
}

static FL_KERNEL_BOUNDS(THREADS, 4) void clip_vec4(int64_t n, float limit, const fl_measure *size,
                                                   fl_span y, bool even) {
  float *ys = fl_lane_out(y, blockIdx.y);
  double norm = sqrt(size[blockIdx.y].sum2);
  if (!(norm > limit)) return;
  double factor = limit / norm;
  for (int k = 0; k < QUADS; k++) {
    int64_t i = quad_at(k);
    if (i >= n) return;
    float4 v = fl_load4(ys, i, n, even);
    fl_store4(ys, i, n, even, fl_each4(v, [&](float e) { return (float)(e * factor); }));
  }
}

fl_status fl_cuda_clip(fl_dev *d, int C, int64_t n, float limit, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  int n_share = (int)fl_ceil_div(n, SHARE);
  for (int c = 0, lanes; n > 0 && c < C; c += lanes) {
    lanes = fl_group(C - c, (n_share + 1) * (int64_t)sizeof(fl_measure));
    fl_measure *size = (fl_measure *)d->workspace;
    fl_span ys = fl_span_from(y, c);
    launch_measure(d, lanes, n, n_share, fl_const(ys), size + lanes, size);
    FL_LAUNCH(clip_vec4, grid_of(n, lanes), THREADS, 0, d->stream, n, limit, size, ys,
              fl_span_even(fl_const(y)));
  }
  return FL_LAUNCHED("a clip was queued");
}

static __device__ double second_moment(fl_adaptive kind, double b2, double v, double u2) {
  if (kind == FL_ADAGRAD) return v + u2;
  if (kind == FL_ADAM) return b2 * v + (1 - b2) * u2;
  return v - (1 - b2) * u2 * ((v > u2) - (v < u2));
}

typedef struct adaptive {
  fl_adaptive kind;
  float lr, b1, b2, eps;
} adaptive;

/* Once a round on one vector, so it can afford doubles. */
static FL_KERNEL_BOUNDS(THREADS, 4) void adaptive_doubles(int64_t n, adaptive a, const float *u,
                                                          float *m, float *v, float *w) {
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= n) return;
  double first = (double)a.b1 * m[i] + (1 - (double)a.b1) * u[i];
  double second = second_moment(a.kind, a.b2, v[i], (double)u[i] * u[i]);
  m[i] = (float)first;
  v[i] = (float)second;
  w[i] = (float)(w[i] + a.lr * first / (sqrt(second) + a.eps));
}

fl_status fl_cuda_adaptive(fl_dev *d, int64_t n, fl_adaptive kind, float lr, float b1, float b2,
                           float eps, const float *u, float *m, float *v, float *w) {
  FL_TRY(fl_cuda_enter(d));
  adaptive a = {kind, lr, b1, b2, eps};
  if (n > 0)
    FL_LAUNCH(adaptive_doubles, dim3((unsigned)fl_ceil_div(n, THREADS)), THREADS, 0, d->stream, n,
              a, u, m, v, w);
  return FL_LAUNCHED("the server's step was queued");
}
