/* Attention, a block a head of an example, and what is added to each step.
 *
 * A block keeps the head's queries, keys and values in shared memory, a step a line of an odd
 * number of floats, so that threads which look at neighbouring steps use different banks. A warp
 * takes every WARPS-th step: its threads share out the other steps for scores and their gradients,
 * and the features for what is summed over steps, in ascending order. */
#include <math.h>

#include "block.h"
#include "cuda.h"

enum { WARPS = 8, THREADS = 32 * WARPS };

static FL_KERNEL_BOUNDS(THREADS, 4) void shift_fwd_rows(fl_rows rows, int64_t n, fl_cspan x,
                                                        fl_cspan w, fl_span y) {
  int lane = (int)blockIdx.y;
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i < rows.n[lane] * n) fl_lane_out(y, lane)[i] = fl_lane(x, lane)[i] + fl_lane(w, lane)[i % n];
}

fl_status fl_cuda_shift_fwd(fl_dev *d, fl_batch b, int64_t n, fl_cspan x, fl_cspan w, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(shift_fwd_rows, dim3((unsigned)fl_ceil_div(b.B * n, THREADS), (unsigned)lanes),
              THREADS, 0, d->stream, fl_rows_of(b, c, lanes), n, fl_cspan_from(x, c),
              fl_cspan_from(w, c), fl_span_from(y, c));
  }
  return FL_LAUNCHED("a shift was queued");
}

static FL_KERNEL_BOUNDS(THREADS, 4) void shift_bwd_columns(fl_rows rows, int64_t n, fl_cspan dy,
                                                           fl_factors scale, fl_span gw) {
  int lane = (int)blockIdx.y;
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= n || rows.n[lane] == 0) return;
  const float *dys = fl_lane(dy, lane);
  float sum = 0;
  for (int row = 0; row < rows.n[lane]; row++) sum += dys[row * n + i];
  fl_lane_out(gw, lane)[i] += scale.at[lane] * sum;
}

fl_status fl_cuda_shift_bwd_weights(fl_dev *d, fl_batch b, int64_t n, fl_cspan dy, fl_coef scale,
                                    fl_span gw) {
  FL_TRY(fl_cuda_enter(d));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(shift_bwd_columns, dim3((unsigned)fl_ceil_div(n, THREADS), (unsigned)lanes), THREADS,
              0, d->stream, fl_rows_of(b, c, lanes), n, fl_cspan_from(dy, c),
              fl_factors_of(scale, c, lanes), fl_span_from(gw, c));
  }
  return FL_LAUNCHED("a gradient of a shift was queued");
}

/* A thread a pair of features of a step, sine and cosine of one angle, in every live row. */
static FL_KERNEL_BOUNDS(THREADS, 4) void waves_pairs(fl_rows rows, int T, int F, fl_cspan x,
                                                     fl_span y) {
  int lane = (int)blockIdx.y, pairs = (F + 1) / 2;
  int number = (int)(blockIdx.x * THREADS + threadIdx.x), t = number / pairs;
  int f = 2 * (number - t * pairs);
  if (t >= T) return;
  float angle = (float)t * powf(10000, -(float)f / (float)F), wave[2] = {sinf(angle), cosf(angle)};
  for (int row = 0; row < rows.n[lane]; row++) {
    int64_t at = ((int64_t)row * T + t) * F + f;
    const float *xs = fl_lane(x, lane) + at;
    float *ys = fl_lane_out(y, lane) + at;
    for (int k = 0; k < 2 && f + k < F; k++) ys[k] = xs[k] + wave[k];
  }
}

fl_status fl_cuda_waves(fl_dev *d, fl_batch b, int T, int F, fl_cspan x, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  unsigned blocks = (unsigned)fl_ceil_div((int64_t)T * ((F + 1) / 2), THREADS);
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(waves_pairs, dim3(blocks, (unsigned)lanes), THREADS, 0, d->stream,
              fl_rows_of(b, c, lanes), T, F, fl_cspan_from(x, c), fl_span_from(y, c));
  }
  return FL_LAUNCHED("positions were queued");
}

/* The shape of a head, and what a block knows of its own. */
typedef struct form {
  int T, F, heads, size, pitch; /* pitch: floats of a line in shared memory */
  float scale;                  /* of a score */
  bool causal;
} form;

static form form_of(int T, int F, int heads, bool causal) {
  int size = F / heads;
  form f = {T, F, heads, size, size | 1, 1 / sqrtf((float)size), causal};
  return f;
}

static __device__ inline int seen(const form &f, int t) { return f.causal ? t + 1 : f.T; }

/* Lines of shared memory: one head's part of every step, from rows that are `row` floats apart. */
static __device__ inline void stage(const form &f, const float *x, int row, float *to) {
  for (int k = (int)threadIdx.x; k < f.T * f.size; k += THREADS) {
    int t = k / f.size, i = k - t * f.size;
    to[t * f.pitch + i] = x[(int64_t)t * row + i];
  }
}

static __device__ inline float dot(const form &f, const float *a, const float *b) {
  float sum = 0;
  for (int i = 0; i < f.size; i++) sum += a[i] * b[i];
  return sum;
}

/* out[i] = scale * sum over steps first .. end-1 of p[j] * line j of x, shared out by features. */
static __device__ inline void weigh(const form &f, int first, int end, float scale, const float *p,
                                    const float *x, float *out) {
  for (int i = (int)threadIdx.x % 32; i < f.size; i += 32) {
    float sum = 0;
    for (int j = first; j < end; j++) sum += p[j] * x[j * f.pitch + i];
    out[i] = scale * sum;
  }
}

/* p [T] = the softmax of step t's scores, known to the warp; 0 for steps that it does not see. */
static __device__ inline void softmax(const form &f, int t, const float *query, const float *keys,
                                      float *p) {
  int mine = (int)threadIdx.x % 32, n = seen(f, t);
  float top = -INFINITY, sum = 0;
  for (int j = mine; j < n; j += 32) {
    p[j] = f.scale * dot(f, query, keys + j * f.pitch);
    top = fmaxf(top, p[j]);
  }
  top = fl_warp_largest(top);
  for (int j = mine; j < n; j += 32) sum += p[j] = expf(p[j] - top);
  sum = fl_warp_sum(sum);
  for (int j = mine; j < f.T; j += 32) p[j] = j < n ? p[j] / sum : 0;
  __syncwarp();
}

/* Shared: queries, keys and values, and a line of probabilities a warp. */
static FL_KERNEL_BOUNDS(THREADS, 2) void attend_fwd_head(form f, fl_rows rows, fl_cspan x,
                                                         fl_span y, fl_span keep) {
  FL_SHARED_DYNAMIC(float, shared);
  int lane = (int)blockIdx.y, example = (int)blockIdx.x / f.heads;
  int head = (int)blockIdx.x - example * f.heads, warp = (int)threadIdx.x / 32;
  if (example >= rows.n[lane]) return;
  const float *xs = fl_lane(x, lane) + (int64_t)example * f.T * 3 * f.F + head * f.size;
  float *ys = fl_lane_out(y, lane) + (int64_t)example * f.T * f.F + head * f.size;
  float *queries = shared, *keys = queries + f.T * f.pitch, *values = keys + f.T * f.pitch;
  float *p = values + f.T * f.pitch + warp * f.T;
  stage(f, xs, 3 * f.F, queries);
  stage(f, xs + f.F, 3 * f.F, keys);
  stage(f, xs + 2 * f.F, 3 * f.F, values);
  __syncthreads();
  for (int t = warp; t < f.T; t += WARPS) {
    softmax(f, t, queries + t * f.pitch, keys, p);
    weigh(f, 0, seen(f, t), 1, p, values, ys + (int64_t)t * f.F);
    float *kept = keep.at ? fl_lane_out(keep, lane) + ((int64_t)blockIdx.x * f.T + t) * f.T : NULL;
    for (int j = (int)threadIdx.x % 32; kept && j < f.T; j += 32) kept[j] = p[j];
    __syncwarp();
  }
}

/* The blocks of B examples of each lane, and their shared memory: `lines` steps of the head, and
 * `more` floats. */
template <typename K>
static fl_status prepare(K kernel, const form *f, int lines, int more, int *bytes) {
  *bytes = (lines * f->T * f->pitch + more) * (int)sizeof(float);
  return fl_cuda_status(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, *bytes),
      "attention got its shared memory");
}

fl_status fl_cuda_attend_fwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal,
                             fl_cspan x, fl_span y, fl_span keep) {
  FL_TRY(fl_cuda_enter(d));
  form f = form_of(T, F, heads, causal);
  int bytes;
  FL_TRY(prepare(attend_fwd_head, &f, 3, WARPS * T, &bytes));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(attend_fwd_head, dim3((unsigned)(b.B * heads), (unsigned)lanes), THREADS,
              (size_t)bytes, d->stream, f, fl_rows_of(b, c, lanes), fl_cspan_from(x, c),
              fl_span_from(y, c), fl_span_from(keep, c));
  }
  return FL_LAUNCHED("attention was queued");
}

/* What the way back keeps in shared memory: the head's lines, means [T] of the gradients of each
 * step's probabilities, and two lines of T a warp. */
typedef struct held {
  float *queries, *keys, *values, *dy, *mean, *ds, *p;
} held;

static __device__ inline held held_of(const form &f, float *shared) {
  int lines = f.T * f.pitch, warp = (int)threadIdx.x / 32;
  held h = {shared, shared + lines, shared + 2 * lines, shared + 3 * lines, shared + 4 * lines};
  h.ds = h.mean + f.T + 2 * warp * f.T;
  h.p = h.ds + f.T;
  return h;
}

/* With dp = dy v' and ds = p (dp - p dp'): dq = ds k, a step of queries a warp. */
static __device__ inline void queries_back(const form &f, const held &h, const float *kept,
                                           float *dx) {
  int mine = (int)threadIdx.x % 32;
  for (int t = (int)threadIdx.x / 32; t < f.T; t += WARPS) {
    const float *p = kept + (int64_t)t * f.T;
    int n = seen(f, t);
    float mean = 0;
    for (int j = mine; j < n; j += 32) {
      h.ds[j] = dot(f, h.dy + t * f.pitch, h.values + j * f.pitch);
      mean += p[j] * h.ds[j];
    }
    mean = fl_warp_sum(mean);
    for (int j = mine; j < n; j += 32) h.ds[j] = p[j] * (h.ds[j] - mean);
    if (mine == 0) h.mean[t] = mean;
    __syncwarp();
    weigh(f, 0, n, f.scale, h.ds, h.keys, dx + (int64_t)t * 3 * f.F);
    __syncwarp();
  }
}

/* dk = ds' q and dv = p' dy, a step of keys a warp; ds is made once more. */
static __device__ inline void keys_back(const form &f, const held &h, const float *kept,
                                        float *dx) {
  int mine = (int)threadIdx.x % 32;
  for (int j = (int)threadIdx.x / 32; j < f.T; j += WARPS) {
    float *to = dx + (int64_t)j * 3 * f.F;
    int first = f.causal ? j : 0;
    for (int t = first + mine; t < f.T; t += 32) {
      h.p[t] = kept[(int64_t)t * f.T + j];
      h.ds[t] = h.p[t] * (dot(f, h.dy + t * f.pitch, h.values + j * f.pitch) - h.mean[t]);
    }
    __syncwarp();
    weigh(f, first, f.T, f.scale, h.ds, h.queries, to + f.F);
    weigh(f, first, f.T, 1, h.p, h.dy, to + 2 * f.F);
    __syncwarp();
  }
}

static FL_KERNEL_BOUNDS(THREADS, 1) void attend_bwd_head(form f, fl_rows rows, fl_cspan x,
                                                         fl_cspan keep, fl_cspan dy, fl_span dx) {
  FL_SHARED_DYNAMIC(float, shared);
  int lane = (int)blockIdx.y, example = (int)blockIdx.x / f.heads;
  int head = (int)blockIdx.x - example * f.heads;
  int64_t at = (int64_t)example * f.T * f.F;
  const float *xs = fl_lane(x, lane) + 3 * at + head * f.size;
  float *dxs = fl_lane_out(dx, lane) + 3 * at + head * f.size;
  if (example >= rows.n[lane]) {
    for (int k = (int)threadIdx.x; k < 3 * f.T * f.size; k += THREADS)
      dxs[k / f.size * f.F + k % f.size] = 0;
    return;
  }
  const float *kept = fl_lane(keep, lane) + (int64_t)blockIdx.x * f.T * f.T;
  held h = held_of(f, shared);
  stage(f, xs, 3 * f.F, h.queries);
  stage(f, xs + f.F, 3 * f.F, h.keys);
  stage(f, xs + 2 * f.F, 3 * f.F, h.values);
  stage(f, fl_lane(dy, lane) + at + head * f.size, f.F, h.dy);
  __syncthreads();
  queries_back(f, h, kept, dxs);
  __syncthreads();
  keys_back(f, h, kept, dxs);
}

fl_status fl_cuda_attend_bwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal,
                             fl_cspan x, fl_cspan keep, fl_cspan dy, fl_span dx) {
  FL_TRY(fl_cuda_enter(d));
  form f = form_of(T, F, heads, causal);
  int bytes;
  FL_TRY(prepare(attend_bwd_head, &f, 4, T + 2 * WARPS * T, &bytes));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(attend_bwd_head, dim3((unsigned)(b.B * heads), (unsigned)lanes), THREADS,
              (size_t)bytes, d->stream, f, fl_rows_of(b, c, lanes), fl_cspan_from(x, c),
              fl_cspan_from(keep, c), fl_cspan_from(dy, c), fl_span_from(dx, c));
  }
  return FL_LAUNCHED("a gradient of attention was queued");
}
