/* The gradient of a convolution's filters and biases: an implicit GEMM over the pixels written.
 *
 *   M  the channels written, O
 *   N  kernel*kernel*I, tap after tap, input channels fastest
 *   K  the output pixels of one lane's live images
 *
 * Both operands have depth as their slow index, so tiles lie by columns (tile.h). Depth is long and
 * the result small: pixels are cut into pieces of 1,024, whose places in the input are worked out
 * once and kept in shared memory; where a lane has few tiles, pieces go to blocks of their own,
 * which leave partial sums in the workspace, and a second launch adds these in ascending order.
 * How many follows from the layer's shape alone. A lane's dead rows are not read.
 *
 * Tiles: 64 x 96 (3 warps of 64 x 32; nine taps of 32 channels are three of them), 32 x 128 where
 * O <= 32 (4 warps of 32 x 32), 32 x 32 where N <= 32 too (2 warps of 16 x 32). */
#include "conv.h"

enum {
  PIECE = 1024,     /* pixels */
  BLOCKS_LANE = 32, /* tiles times splits that a lane should have at least, where it has pieces */
};

/* The shape's part: everything that the order of sums depends on. */
typedef struct plan {
  int columns, pitch;                          /* N, and rounded up to whole vectors */
  int row_tiles, column_tiles, splits, pieces; /* pieces: a split */
} plan;

typedef struct operands {
  fl_cspan x, dy;
  fl_span sums; /* a lane's [splits][O*pitch of filters, then O of biases] */
} operands;

/* Floats that one split of a lane writes, whole vectors. */
static inline FL_HD int64_t sums_size(const plan &p, int O) {
  return ((int64_t)O * (p.pitch + 1) + 3) / 4 * 4;
}

template <int V, int W, int T>
static __device__ __forceinline__ void copy_gradients(const float *dy, int channels, int first,
                                                      int pixel, int live, float *tile) {
  constexpr int vectors = W / V, at_once = T / vectors;
  int column = (int)threadIdx.x % vectors * V;
  bool wanted = first + column < channels;
#pragma unroll 8
  for (int k = (int)threadIdx.x / vectors; k < FL_DEPTH; k += at_once) {
    if ((int)threadIdx.x >= at_once * vectors) break;
    const float *src =
        wanted && pixel + k < live ? dy + (int64_t)(pixel + k) * channels + first + column : NULL;
    fl_copy<V>(tile + fl_by_columns(W, k, column), src, dy);
  }
}

template <int V, int W, int T>
static __device__ __forceinline__ void copy_windows(const fl_conv &s, const float *x,
                                                    const fl_corner *corner, fl_tap tap,
                                                    float *tile) {
  constexpr int vectors = W / V, at_once = T / vectors;
  int column = (int)threadIdx.x % vectors * V;
#pragma unroll 8
  for (int k = (int)threadIdx.x / vectors; k < FL_DEPTH; k += at_once) {
    int pixel = tap.kh < s.rows ? fl_corner_pixel(s, corner[k], tap.kh, tap.kw) : -1;
    const float *src = pixel < 0 ? NULL : x + (int64_t)pixel * s.from.channels + tap.channel;
    fl_copy<V>(tile + fl_by_columns(W, k, column), src, x);
  }
}

template <int MT, int NT>
static __device__ __forceinline__ void write_sums(const float (&acc)[MT][NT][4], fl_place at,
                                                  const plan &p, int channels, int row, int column,
                                                  float *sums) {
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int he = 0; he < 4; he++) {
      int m = row + MT * (8 * (he >> 1) + at.g) + i;
      int n = column + NT * (2 * at.t + (he & 1));
      if (m >= channels || n >= p.columns) continue;
      float out[NT];
#pragma unroll
      for (int j = 0; j < NT; j++) out[j] = acc[i][j][he];
      fl_write<NT>(sums + (int64_t)m * p.pitch + n, out);
    }
}

/* Sums of one stage's dy, by channel and share of the stage: thread's own. */
template <int W, int T>
static __device__ __forceinline__ float stage_bias(const float *tile) {
  constexpr int shares = T / W;
  int share = (int)threadIdx.x / W, column = (int)threadIdx.x % W;
  float sum = 0;
  for (int k = share; share < shares && k < FL_DEPTH; k += shares)
    sum += tile[fl_by_columns(W, k, column)];
  return sum;
}

/* WM x WN warps, each of 16*MT x 8*NT results; VA and VB floats of dy and x are copied at once.
 * Blocks: tiles by splits, by lanes. */
template <fl_precision P, int WM, int WN, int MT, int NT, int VA, int VB>
static FL_KERNEL_BOUNDS(WM *WN * 32,
                        MT == 4 ? 2 : 3) void conv_weights_implicit_gemm(fl_conv s, plan p,
                                                                         fl_rows rows, operands o) {
  constexpr int M = WM * 16 * MT, N = WN * 8 * NT, T = WM * WN * 32, stage = (M + N) * FL_DEPTH;
  FL_SHARED_DYNAMIC(float, shared);
  FL_SHARED(fl_corner, corner, [PIECE]);
  int thread = (int)threadIdx.x, warp = thread / 32, lane = (int)blockIdx.y;
  int tile = (int)blockIdx.x / p.splits, split = (int)blockIdx.x % p.splits;
  int row = tile / p.column_tiles * M, column = tile % p.column_tiles * N;
  int live = rows.n[lane] * s.to.height * s.to.width;
  int first = split * p.pieces * PIECE, end = min(first + p.pieces * PIECE, live);

  const float *x = fl_lane(o.x, lane), *dy = fl_lane(o.dy, lane);
  float acc[MT][NT][4] = {}, bias = 0;
  fl_place at = fl_place_of<P>(thread % 32);
  int my_row = warp / WN * 16 * MT, my_column = warp % WN * 8 * NT;
  fl_tap tap = {0, 0, 0}; /* a thread copies the same columns of every stage */
  fl_tap_advance(s, &tap, column + thread % (N / VB) * VB);
  for (int begin = first; begin < end; begin += PIECE) {
    int stages = (min(PIECE, end - begin) + FL_DEPTH - 1) / FL_DEPTH;
    __syncthreads();
    for (int k = thread; k < stages * FL_DEPTH; k += T)
      corner[k] = fl_corner_of(s, fl_pixel_of(s.to, begin + k), begin + k < live);
    __syncthreads();
    auto copy = [&](int k) {
      float *to = shared + k % FL_STAGES * stage;
      copy_gradients<VA, M, T>(dy, s.to.channels, row, begin + k * FL_DEPTH, live, to);
      copy_windows<VB, N, T>(s, x, corner + k * FL_DEPTH, tap, to + M * FL_DEPTH);
    };
    fl_pipeline(stages, copy, [&](int k) {
      const float *a = shared + k % FL_STAGES * stage, *b = a + M * FL_DEPTH + my_column;
      fl_stage_by_columns<P, M, N>(acc, a, my_row, b, FL_DEPTH, at);
      if (column == 0) bias += stage_bias<M, T>(a);
    });
  }
  if (first >= end) return;
  int64_t size = sums_size(p, s.to.channels);
  float *sums = fl_lane_out(o.sums, lane) + split * size;
  write_sums(acc, at, p, s.to.channels, row + my_row, column + my_column, sums);
  if (column > 0) return;
  __syncthreads();
  shared[thread] = bias;
  __syncthreads();
  for (int k = thread + M; thread < M && k < T / M * M; k += M) bias += shared[k];
  if (thread < M && row + thread < s.to.channels)
    sums[(int64_t)s.to.channels * p.pitch + row + thread] = bias;
}

/* gw += scale * the sum over splits, likewise gbias: thread e is element e of gw, then of gbias. */
static FL_KERNEL_BOUNDS(256, 4) void conv_weights_add(fl_conv s, plan p, fl_rows rows,
                                                      fl_factors scale, fl_cspan sums, fl_span gw,
                                                      fl_span gbias) {
  int lane = (int)blockIdx.y, taps = s.rows * s.columns, n = s.to.channels * p.columns;
  int e = (int)blockIdx.x * 256 + (int)threadIdx.x, at = n;
  if (e >= n + (gbias.at ? s.to.channels : 0)) return;
  if (e < n) {
    int o = e / p.columns, i = (e - o * p.columns) / taps, tap = e - o * p.columns - i * taps;
    at = o * p.pitch + tap * s.from.channels + i;
  } else {
    at = s.to.channels * p.pitch + e - n;
  }
  int live = rows.n[lane] * s.to.height * s.to.width, each = p.pieces * PIECE;
  const float *from = fl_lane(sums, lane) + at;
  float sum = 0;
  for (int split = 0; split * each < live; split++)
    sum += from[split * sums_size(p, s.to.channels)];
  float *to = e < n ? fl_lane_out(gw, lane) + e : fl_lane_out(gbias, lane) + e - n;
  if (live > 0) *to += scale.at[lane] * sum;
}

/* --- launching ------------------------------------------------------------------------------ */
typedef struct job {
  fl_dev *d;
  fl_conv s;
  plan p;
  int lanes;
  fl_rows rows;
  operands o;
} job;

/* The tile's size, as chosen by launch_tile. */
static plan plan_of(const fl_conv *s, int B) {
  int O = s->to.channels, columns = fl_conv_depth(s);
  int M = O > 32 ? 64 : 32, N = O > 32 ? 96 : columns > 32 ? 128 : 32;
  plan p = {columns, (columns + 3) / 4 * 4, (O + M - 1) / M, (columns + N - 1) / N, 0, 0};
  int pieces = (int)fl_ceil_div((int64_t)B * s->to.height * s->to.width, PIECE);
  int tiles = p.row_tiles * p.column_tiles, wanted = (BLOCKS_LANE + tiles - 1) / tiles;
  p.pieces = (pieces + wanted - 1) / wanted;
  p.splits = (pieces + p.pieces - 1) / p.pieces;
  return p;
}

template <fl_precision P, int WM, int WN, int MT, int NT, int VA, int VB>
static fl_status launch(const job *j) {
  constexpr int stage = (WM * 16 * MT + WN * 8 * NT) * FL_DEPTH * (int)sizeof(float);
  auto kernel = conv_weights_implicit_gemm<P, WM, WN, MT, NT, VA, VB>;
  int blocks = j->p.row_tiles * j->p.column_tiles * j->p.splits;
  FL_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, FL_STAGES * stage),
      "a gradient of filters got its shared memory");
  FL_LAUNCH(kernel, dim3((unsigned)blocks, (unsigned)j->lanes), dim3(WM * WN * 32),
            FL_STAGES * stage, j->d->stream, j->s, j->p, j->rows, j->o);
  return FL_LAUNCHED("a gradient of filters was queued");
}

template <fl_precision P, int VA, int VB>
static fl_status launch_tile(const job *j) {
  if (j->s.to.channels > 32) return launch<P, 1, 3, 4, 4, VA, VB>(j);
  if (j->p.columns > 32) return launch<P, 1, 4, 2, 4, VA, VB>(j);
  return launch<P, 2, 1, 1, 4, VA, VB>(j);
}

template <fl_precision P>
static fl_status launch_vectors(const job *j) {
  bool dy = j->s.to.channels % 4 == 0 && fl_span_even(j->o.dy);
  bool x = j->s.from.channels % 4 == 0 && fl_span_even(j->o.x);
  if (dy && x) return launch_tile<P, 4, 4>(j);
  return dy ? launch_tile<P, 4, 1>(j) : launch_tile<P, 1, 1>(j);
}

static fl_status launch_precision(const job *j) {
  return fl_by_precision(j->d, [&](auto p) { return launch_vectors<decltype(p)::value>(j); });
}

/* For 32 -> 64 channels of 3 x 3 on 30 x 30, 50 lanes of 10 rows: 14.5 Gflop (29 us at 495 Tflop/s)
 * and 158 MB of x and dy (53 us at 3 TB/s). The 1,200 blocks copy 750 MB to shared memory, two
 * thirds of the windows from the L1 cache, and leave 30 MB of partial sums, which stay in the L2
 * cache. For 3 -> 32 channels on 32 x 32: 0.8 Gflop and 64 MB (21 us). */
fl_status fl_cuda_conv_bwd_weights(fl_dev *d, fl_batch b, const fl_window *w, fl_cspan x,
                                   fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias) {
  fl_conv s = fl_conv_of(w);
  FL_TRY(fl_cuda_enter(d));
  FL_TRY(fl_conv_check(w, b.B));
  plan p = plan_of(&s, b.B);
  int64_t size = p.splits * sums_size(p, s.to.channels);
  int64_t most = FL_WORKSPACE / (size * (int64_t)sizeof(float));
  int group = most < FL_GROUP ? (int)most : FL_GROUP;
  if (group == 0)
    return fl_fail(FEDLANE_UNSUPPORTED,
                   "filters of %lld bytes are too large for a convolution on cuda: at most %d",
                   (long long)(size * (int64_t)sizeof(float)), (int)FL_WORKSPACE);
  for (int first = 0; first < b.C; first += group) {
    int lanes = b.C - first < group ? b.C - first : group;
    fl_span sums = {d->workspace, size};
    operands o = {fl_cspan_from(x, first), fl_cspan_from(dy, first), sums};
    job j = {d, s, p, lanes, fl_rows_of(b, first, lanes), o};
    FL_TRY(launch_precision(&j));
    int64_t threads = (int64_t)s.to.channels * (p.columns + 1);
    FL_LAUNCH(conv_weights_add, dim3((unsigned)fl_ceil_div(threads, 256), (unsigned)lanes),
              dim3(256), 0, d->stream, s, p, j.rows, fl_factors_of(scale, first, lanes),
              fl_const(sums), fl_span_from(gw, first), fl_span_from(gbias, first));
    FL_TRY(FL_LAUNCHED("a gradient of filters was queued"));
  }
  return FEDLANE_OK;
}
