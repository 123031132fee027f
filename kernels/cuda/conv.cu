/* Convolution forward and the gradient of its input: one implicit GEMM.
 *
 *   M  the pixels of one lane's live images, B*H*W of the image written
 *   N  the channels written
 *   K  kernel*kernel*channels read, tap after tap, channels fastest
 *
 * The gradient of the input is the same product with the filters turned around (fl_conv). Filters
 * are [O, I, k, k] in memory; a first, small launch writes them to the workspace as [N][K], padded
 * with zeros to whole stages, so that both operands are copied 16 bytes at a time. Images whose
 * channels are no multiple of 4 are copied by single floats.
 *
 * A block of 4 warps computes 128 x 64 results, or 256 x 32 or 256 x 16 where there are fewer
 * channels: each warp 64 x 32, the largest tile whose sums (64 registers) leave three blocks a
 * multiprocessor, because a warp reads (64 + 32) * 4 bytes of shared memory a step of depth for
 * 64 * 32 products. Every result is summed by one warp in ascending depth, whatever the tile. */
#include "conv.h"

enum { THREADS = 128, CHUNKS = FL_DEPTH / 4 };

/* --- filters as [N][depth] ------------------------------------------------------------------ */
typedef struct packing {
  int n, channels, taps, depth; /* depth: padded */
  int64_t n_stride, channel_stride;
  bool turned;
} packing;

static FL_KERNEL_BOUNDS(256, 4) void conv_pack_filters(packing p, fl_cspan w, fl_span out) {
  int64_t e = (int64_t)blockIdx.x * 256 + threadIdx.x;
  if (e >= (int64_t)p.n * p.depth) return;
  int n = (int)(e / p.depth), k = (int)(e - (int64_t)n * p.depth);
  int tap = k / p.channels, channel = k - tap * p.channels;
  int place = p.turned ? p.taps - 1 - tap : tap;
  const float *from = fl_lane(w, (int)blockIdx.y) + n * p.n_stride + channel * p.channel_stride;
  fl_lane_out(out, (int)blockIdx.y)[e] = tap < p.taps ? from[place] : 0;
}

/* --- the product ---------------------------------------------------------------------------- */
typedef struct operands {
  fl_cspan from, filter, bias; /* filter: packed */
  fl_span to;
  int depth;
  bool pairs; /* neighbouring channels of `to` may be written as one */
} operands;

template <int V, int M>
static __device__ __forceinline__ void copy_windows(const fl_conv &s, const float *from,
                                                    const fl_corner *corner, fl_tap tap,
                                                    float *tile) {
  constexpr int columns = FL_DEPTH / V, at_once = THREADS / columns;
  int column = (int)threadIdx.x % columns * V;
#pragma unroll 4
  for (int r = (int)threadIdx.x / columns; r < M; r += at_once) {
    int pixel = tap.kh < s.kernel ? fl_corner_pixel(s, corner[r], tap.kh, tap.kw) : -1;
    const float *src = pixel < 0 ? NULL : from + (int64_t)pixel * s.from.channels + tap.channel;
    fl_copy<V>(tile + fl_by_rows(r, column), src, from);
  }
}

template <int N>
static __device__ __forceinline__ void copy_filters(const float *filter, int depth, int first,
                                                    int end, int k, float *tile) {
  int column = (int)threadIdx.x % CHUNKS * 4;
#pragma unroll
  for (int r = (int)threadIdx.x / CHUNKS; r < N; r += THREADS / CHUNKS) {
    const float *src = first + r < end ? filter + (int64_t)(first + r) * depth + k + column : NULL;
    fl_copy<4>(tile + fl_by_rows(r, column), src, filter);
  }
}

template <int MT, int NT>
static __device__ __forceinline__ void write_results(const float (&acc)[MT][NT][4], fl_place at,
                                                     const operands &o, int64_t row, int64_t live,
                                                     int column, int channels) {
  const float *bias = fl_lane(o.bias, (int)blockIdx.y);
  float *to = fl_lane_out(o.to, (int)blockIdx.y);
#pragma unroll
  for (int j = 0; j < NT; j++) {
    int n = column + 8 * j + 2 * at.t;
    float add[2] = {bias && n < channels ? bias[n] : 0, bias && n + 1 < channels ? bias[n + 1] : 0};
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        int64_t m = row + 16 * i + 8 * h + at.g;
        if (m >= live || n >= channels) continue;
        float out[2] = {acc[i][j][2 * h] + add[0], acc[i][j][2 * h + 1] + add[1]};
        float *dst = to + m * channels + n;
        if (o.pairs) {
          fl_write<2>(dst, out);
        } else {
          dst[0] = out[0];
          if (n + 1 < channels) dst[1] = out[1];
        }
      }
  }
}

/* WM x WN warps, each of 16*MT x 8*NT results. Blocks: tiles, channels fastest, by lanes. */
template <fl_precision P, int WM, int WN, int MT, int NT, int V>
static FL_KERNEL_BOUNDS(THREADS, WM == 2 ? 3 : 2) void conv_implicit_gemm(fl_conv s, fl_rows rows,
                                                                          operands o) {
  constexpr int M = WM * 16 * MT, N = WN * 8 * NT, stage = (M + N) * FL_DEPTH;
  FL_SHARED_DYNAMIC(float, shared);
  FL_SHARED(fl_corner, corner, [M]);
  int thread = (int)threadIdx.x, warp = thread / 32, lane = (int)blockIdx.y;
  int tiles = (s.to.channels + N - 1) / N;
  int row = (int)blockIdx.x / tiles * M, column = (int)blockIdx.x % tiles * N;
  int live = rows.n[lane] * s.to.height * s.to.width;
  if (row >= live) return;
  for (int r = thread; r < M; r += THREADS) corner[r] = fl_corner_of(s, row + r, live);
  __syncthreads();

  const float *from = fl_lane(o.from, lane), *filter = fl_lane(o.filter, lane);
  float acc[MT][NT][4] = {};
  fl_place at = fl_place_of<P>(thread % 32);
  int my_row = warp / WN * 16 * MT, my_column = warp % WN * 8 * NT;
  fl_tap tap = {0, 0, 0};
  fl_tap_advance(s, &tap, thread % (FL_DEPTH / V) * V);
  int stages = o.depth / FL_DEPTH;
  auto copy = [&](int k) {
    float *to = shared + k % FL_STAGES * stage;
    copy_windows<V, M>(s, from, corner, tap, to);
    copy_filters<N>(filter, o.depth, column, s.to.channels, k * FL_DEPTH, to + M * FL_DEPTH);
    fl_tap_advance(s, &tap, FL_DEPTH);
  };
  for (int k = 0; k < FL_STAGES - 1; k++) {
    if (k < stages) copy(k);
    fl_cp_async_commit();
  }
  for (int k = 0; k < stages; k++) {
    fl_cp_async_wait<FL_STAGES - 2>();
    __syncthreads(); /* stage k has arrived, and nobody reads stage k - 1 any more */
    if (k + FL_STAGES - 1 < stages) copy(k + FL_STAGES - 1);
    fl_cp_async_commit();
    const float *a = shared + k % FL_STAGES * stage;
    fl_stage_by_rows<P>(acc, a, my_row, a + M * FL_DEPTH, my_column, at);
  }
  write_results(acc, at, o, row + my_row, live, column + my_column, s.to.channels);
}

/* --- launching ------------------------------------------------------------------------------ */
typedef struct job {
  fl_dev *d;
  fl_conv s;
  int B, lanes;
  fl_rows rows;
  operands o;
} job;

template <fl_precision P, int WM, int WN, int MT, int NT, int V>
static fl_status launch(const job *j) {
  constexpr int M = WM * 16 * MT, N = WN * 8 * NT;
  auto kernel = conv_implicit_gemm<P, WM, WN, MT, NT, V>;
  int stages = j->o.depth / FL_DEPTH < FL_STAGES ? j->o.depth / FL_DEPTH : FL_STAGES;
  int bytes = stages * (M + N) * FL_DEPTH * (int)sizeof(float);
  int64_t pixels = (int64_t)j->B * j->s.to.height * j->s.to.width;
  int64_t tiles = fl_ceil_div(pixels, M) * fl_ceil_div(j->s.to.channels, N);
  FL_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
          "convolution");
  FL_LAUNCH(kernel, dim3((unsigned)tiles, (unsigned)j->lanes), dim3(THREADS), bytes, j->d->stream,
            j->s, j->rows, j->o);
  return FL_LAUNCHED("convolution");
}

template <fl_precision P, int V>
static fl_status launch_tile(const job *j) {
  if (j->s.to.channels > 32) return launch<P, 2, 2, 4, 4, V>(j);
  if (j->s.to.channels > 16) return launch<P, 4, 1, 4, 4, V>(j);
  return launch<P, 4, 1, 4, 2, V>(j);
}

template <int V>
static fl_status launch_precision(const job *j) {
  if (j->d->precision == FL_MATH_FP32) return launch_tile<FL_MATH_FP32, V>(j);
  if (j->d->precision == FL_MATH_TF32) return launch_tile<FL_MATH_TF32, V>(j);
  return launch_tile<FL_MATH_BF16, V>(j);
}

/* Writes the filters of `lanes` lanes to the workspace; packed: where they are then. */
static fl_status pack(fl_dev *d, packing p, int lanes, fl_cspan w, fl_cspan *packed) {
  int64_t each = (int64_t)p.n * p.depth;
  fl_span out = {d->workspace, w.stride ? each : 0};
  dim3 grid((unsigned)fl_ceil_div(each, 256), w.stride ? (unsigned)lanes : 1);
  FL_LAUNCH(conv_pack_filters, grid, dim3(256), 0, d->stream, p, w, out);
  *packed = fl_const(out);
  return FL_LAUNCHED("packing filters");
}

/* How many lanes' filters the workspace holds. */
static fl_status group_of(const packing *p, int64_t stride, int *lanes) {
  int64_t bytes = (int64_t)p->n * p->depth * (int64_t)sizeof(float);
  int64_t most = FL_WORKSPACE / bytes;
  *lanes = most > FL_GROUP || (most > 0 && stride == 0) ? FL_GROUP : (int)most;
  if (most > 0) return FEDLANE_OK;
  return fl_fail(FEDLANE_UNSUPPORTED,
                 "filters of %lld bytes are too large for a convolution on cuda: at most %d",
                 (long long)bytes, (int)FL_WORKSPACE);
}

static fl_status convolve(fl_dev *d, fl_batch b, fl_conv s, packing p, fl_cspan from, fl_cspan w,
                          fl_cspan bias, fl_span to) {
  int group;
  FL_TRY(fl_conv_check(&s, b.B));
  FL_TRY(group_of(&p, w.stride, &group));
  bool vectors = s.from.channels % 4 == 0 && fl_span_even(from);
  bool pairs = s.to.channels % 2 == 0 && fl_span_even(fl_const(to));
  for (int first = 0; first < b.C; first += group) {
    int lanes = b.C - first < group ? b.C - first : group;
    operands o = {fl_cspan_from(from, first), {},      fl_cspan_from(bias, first),
                  fl_span_from(to, first),    p.depth, pairs};
    FL_TRY(pack(d, p, lanes, fl_cspan_from(w, first), &o.filter));
    job j = {d, s, b.B, lanes, fl_rows_of(b, first, lanes), o};
    FL_TRY(vectors ? launch_precision<4>(&j) : launch_precision<1>(&j));
  }
  return FEDLANE_OK;
}

static packing packing_of(const fl_conv *s, int64_t n_stride, int64_t channel_stride, bool turned) {
  int depth = (fl_conv_depth(s) + FL_DEPTH - 1) / FL_DEPTH * FL_DEPTH;
  packing p = {s->to.channels, s->from.channels, s->kernel * s->kernel,
               depth,          n_stride,         channel_stride,
               turned};
  return p;
}

/* A1's second layer, 32 -> 64 channels on 30 x 30, 50 lanes of 10 rows: 14.5 Gflop, 79 MB in and
 * out: 29 us at 495 Tflop/s, 26 us at 3 TB/s. The blocks copy 680 MB of windows and filters to
 * shared memory, mostly from the L2 cache, and read 3 times that from it. */
fl_status fl_cuda_conv_fwd(fl_dev *d, fl_batch b, const fl_window *w, fl_cspan x, fl_cspan filter,
                           fl_cspan bias, fl_span y) {
  fl_conv s = {w->out, w->in, w->kernel, w->stride, 1, w->pad};
  int64_t taps = (int64_t)w->kernel * w->kernel;
  packing p = packing_of(&s, taps * w->in.channels, taps, false);
  return convolve(d, b, s, p, x, filter, bias, y);
}

/* Of a layer with stride 2, three quarters of the products are with zeros. */
fl_status fl_cuda_conv_bwd_data(fl_dev *d, fl_batch b, const fl_window *w, fl_cspan dy,
                                fl_cspan filter, fl_span dx) {
  fl_conv s = {w->in, w->out, w->kernel, 1, w->stride, w->kernel - 1 - w->pad};
  int64_t taps = (int64_t)w->kernel * w->kernel;
  packing p = packing_of(&s, taps, taps * w->in.channels, true);
  fl_cspan none = {NULL, 0};
  return convolve(d, b, s, p, dy, filter, none, dx);
}
