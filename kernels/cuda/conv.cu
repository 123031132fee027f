/* Convolution forward and the gradient of its input: one implicit GEMM.
 *
 *   M  the pixels of one lane's live images, B*H*W of the image written
 *   N  the channels written
 *   K  kernel*kernel*channels read
 *
 * The gradient of the input is the same product with the filters turned around (fl_conv). Filters
 * are [O, I, k, k] in memory; a first, small launch writes them to the workspace as [N][K], tap
 * after tap, channels fastest, padded with zeros to whole stages, so that they are copied 16 bytes
 * at a time. Images whose channels are no multiple of 4 are copied by single floats.
 *
 * A block of 4 warps computes 128 x 64 results, or 256 x 32 or 256 x 16 where there are fewer
 * channels: each warp 64 x 32, because it reads (64 + 32) * 4 bytes of shared memory a step of
 * depth for 64 * 32 products, and its sums (64 registers) still leave room for three blocks. Every
 * result is summed by one warp in an order that follows from the layer's shape. */
#include "conv.h"

enum {
  THREADS = 128,
  CHUNKS = FL_DEPTH / 4,
  STACK_MOST = 96 * 1024, /* bytes of shared memory that leave room for two blocks */
};

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

/* Where a block's results are, and which of them this thread's warp owns. */
template <int WM, int WN, int MT, int NT>
struct block_place {
  static constexpr int M = WM * 16 * MT, N = WN * 8 * NT;
  int lane, row, column, my_row, my_column, live; /* first ones; my: within the block */

  __device__ __forceinline__ block_place(const fl_conv &s, const fl_rows &rows) {
    int warp = (int)threadIdx.x / 32, tiles = (s.to.channels + N - 1) / N;
    lane = (int)blockIdx.y;
    row = (int)blockIdx.x / tiles * M;
    column = (int)blockIdx.x % tiles * N;
    my_row = warp / WN * 16 * MT;
    my_column = warp % WN * 8 * NT;
    live = rows.n[lane] * s.to.height * s.to.width;
  }
};

/* The general kernel: every stage's windows are copied from the images.
 * WM x WN warps, each of 16*MT x 8*NT results; V floats are copied at once. Blocks: tiles, channels
 * fastest, by lanes. */
template <fl_precision P, int WM, int WN, int MT, int NT, int V>
static FL_KERNEL_BOUNDS(THREADS, WM == 2 ? fl_resident(P) : 2) void conv_implicit_gemm(fl_conv s,
                                                                                       fl_rows rows,
                                                                                       operands o) {
  block_place<WM, WN, MT, NT> my(s, rows);
  constexpr int M = my.M, N = my.N, stage = (M + N) * FL_DEPTH;
  FL_SHARED_DYNAMIC(float, shared);
  FL_SHARED(fl_corner, corner, [M]);
  if (my.row >= my.live) return;
  int thread = (int)threadIdx.x;
  for (int r = thread; r < M; r += THREADS) corner[r] = fl_corner_of(s, my.row + r, my.live);
  __syncthreads();

  const float *from = fl_lane(o.from, my.lane), *filter = fl_lane(o.filter, my.lane);
  float acc[MT][NT][4] = {};
  fl_place at = fl_place_of<P>(thread % 32);
  fl_tap tap = {0, 0, 0};
  fl_tap_advance(s, &tap, thread % (FL_DEPTH / V) * V);
  auto copy = [&](int k) {
    float *to = shared + k % FL_STAGES * stage;
    copy_windows<V, M>(s, from, corner, tap, to);
    copy_filters<N>(filter, o.depth, my.column, s.to.channels, k * FL_DEPTH, to + M * FL_DEPTH);
    fl_tap_advance(s, &tap, FL_DEPTH);
  };
  fl_pipeline(o.depth / FL_DEPTH, copy, [&](int k) {
    const float *a = shared + k % FL_STAGES * stage;
    fl_stage_by_rows<P>(acc, a, my.my_row, a + (M + my.my_column) * FL_DEPTH, at);
  });
  write_results(acc, at, o, my.row + my.my_row, my.live, my.column + my.my_column, s.to.channels);
}

/* --- with the seen part of the images in shared memory ---------------------------------------- */
/* The images of a lane, padded with zeros and stacked: pixel (h, w) of image b sees the rows from
 * b*height + h*step and the columns from w*step on. */
typedef struct stack {
  int height, width; /* of one padded image */
  int pixels;        /* the most that one block's windows cover, in whole rows */
} stack;

static __device__ __forceinline__ int stack_row(const fl_conv &s, const stack &v, int pixel,
                                                int *column) {
  int row = pixel / s.to.width, image = row / s.to.height;
  *column = (pixel - row * s.to.width) * s.step;
  return image * v.height + (row - image * s.to.height) * s.step;
}

/* Copies 32 channels of the stack's rows first .. last. */
static __device__ __forceinline__ void copy_stack(const fl_conv &s, const stack &v,
                                                  const float *from, int channel, int first,
                                                  int last, float *tile) {
  constexpr int at_once = THREADS / CHUNKS;
  int k = (int)threadIdx.x % CHUNKS * 4, pixel = (int)threadIdx.x / CHUNKS;
  int image = first / v.height, h = first - image * v.height - s.pad, w = pixel - s.pad;
  for (; pixel < (last - first + 1) * v.width; pixel += at_once, w += at_once) {
    for (; w >= v.width - s.pad; w -= v.width)
      if (++h == v.height - s.pad) {
        h = -s.pad;
        image++;
      }
    bool inside = (unsigned)h < (unsigned)s.from.height && (unsigned)w < (unsigned)s.from.width;
    int64_t at = ((int64_t)image * s.from.height + h) * s.from.width + w;
    const float *src = inside ? from + at * s.from.channels + channel + k : NULL;
    fl_copy<4>(tile + fl_by_rows(pixel, k), src, from);
  }
}

/* The fast kernel, for channels in whole stages: the part of the images that a block's windows
 * cover is copied once for every 32 channels, and each tap reads it at its own shift; only filters
 * stream. Depth runs over 32 channels within taps within the next 32 channels. */
template <fl_precision P, int WM, int WN, int MT, int NT>
static FL_KERNEL_BOUNDS(THREADS, fl_resident(P)) void conv_stacked_gemm(fl_conv s, fl_rows rows,
                                                                        operands o, stack v) {
  block_place<WM, WN, MT, NT> my(s, rows);
  constexpr int M = my.M, N = my.N;
  FL_SHARED_DYNAMIC(float, shared);
  if (my.row >= my.live) return;
  const float *from = fl_lane(o.from, my.lane), *filter = fl_lane(o.filter, my.lane);
  float acc[MT][NT][4] = {}, *filters = shared + v.pixels * FL_DEPTH;
  fl_place at = fl_place_of<P>((int)threadIdx.x % 32);
  int end = min(my.row + M, my.live) - 1, w;
  int first = stack_row(s, v, my.row, &w), last = stack_row(s, v, end, &w) + s.kernel - 1;
  int tile_row[MT][2];
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      int pixel = min(my.row + my.my_row + 16 * i + 8 * h + at.g, end);
      tile_row[i][h] = (stack_row(s, v, pixel, &w) - first) * v.width;
      tile_row[i][h] += w;
    }
  for (int channel = 0; channel < s.from.channels; channel += FL_DEPTH) {
    __syncthreads(); /* nobody reads the last channels any more */
    copy_stack(s, v, from, channel, first, last, shared);
    auto copy = [&](int tap) {
      copy_filters<N>(filter, o.depth, my.column, s.to.channels, tap * s.from.channels + channel,
                      filters + tap % FL_STAGES * N * FL_DEPTH);
    };
    int shift = 0, kw = 0; /* of the tap, in pixels */
    fl_pipeline(s.kernel * s.kernel, copy, [&](int tap) {
      const float *b = filters + (tap % FL_STAGES * N + my.my_column) * FL_DEPTH;
      fl_stage_of_rows<P>(
          acc, shared, [&](int i, int h) { return tile_row[i][h] + shift; }, b, at);
      shift += ++kw < s.kernel ? 1 : v.width - kw + 1;
      if (kw == s.kernel) kw = 0;
    });
  }
  write_results(acc, at, o, my.row + my.my_row, my.live, my.column + my.my_column, s.to.channels);
}

/* --- launching ------------------------------------------------------------------------------ */
typedef struct job {
  fl_dev *d;
  fl_conv s;
  int B, lanes;
  fl_rows rows;
  operands o;
} job;

/* Blocks of M x N results. */
static dim3 grid_of(const job *j, int M, int N) {
  int64_t pixels = (int64_t)j->B * j->s.to.height * j->s.to.width;
  int64_t tiles = fl_ceil_div(pixels, M) * fl_ceil_div(j->s.to.channels, N);
  return dim3((unsigned)tiles, (unsigned)j->lanes);
}

static stack stack_of(const fl_conv *s, int M) {
  stack v = {s->from.height + 2 * s->pad, s->from.width + 2 * s->pad, 0};
  int lines = (int)fl_ceil_div(M - 1, s->to.width); /* from the first pixel's to the last's */
  int gap = v.height - s->to.height * s->step;      /* rows more from one image to the next */
  int rows = lines * s->step + s->kernel;
  if (gap > 0) rows += (int)fl_ceil_div(lines, s->to.height) * gap;
  v.pixels = rows * v.width;
  return v;
}

template <fl_precision P, int WM, int WN, int MT, int NT, int V>
static fl_status launch(const job *j) {
  using place = block_place<WM, WN, MT, NT>;
  stack v = stack_of(&j->s, place::M);
  int stages = j->o.depth / FL_DEPTH < FL_STAGES ? j->o.depth / FL_DEPTH : FL_STAGES;
  int bytes = stages * (place::M + place::N) * FL_DEPTH * (int)sizeof(float);
  int64_t stacked = (v.pixels + FL_STAGES * place::N) * FL_DEPTH * (int64_t)sizeof(float);
  dim3 grid = grid_of(j, place::M, place::N);
  if (V == 4 && j->s.spread == 1 && j->s.kernel > 1 && j->s.from.channels % FL_DEPTH == 0 &&
      stacked <= STACK_MOST) {
    auto kernel = conv_stacked_gemm<P, WM, WN, MT, NT>;
    FL_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)stacked),
            "a convolution got its shared memory");
    FL_LAUNCH(kernel, grid, dim3(THREADS), (size_t)stacked, j->d->stream, j->s, j->rows, j->o, v);
  } else {
    auto kernel = conv_implicit_gemm<P, WM, WN, MT, NT, V>;
    FL_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
            "a convolution got its shared memory");
    FL_LAUNCH(kernel, grid, dim3(THREADS), (size_t)bytes, j->d->stream, j->s, j->rows, j->o);
  }
  return FL_LAUNCHED("a convolution was queued");
}

template <fl_precision P, int V>
static fl_status launch_tile(const job *j) {
  if (j->s.to.channels > 32) return launch<P, 2, 2, 4, 4, V>(j);
  if (j->s.to.channels > 16) return launch<P, 4, 1, 4, 4, V>(j);
  return launch<P, 4, 1, 4, 2, V>(j);
}

template <int V>
static fl_status launch_precision(const job *j) {
  return fl_by_precision(j->d, [&](auto p) { return launch_tile<decltype(p)::value, V>(j); });
}

/* Writes the filters of `lanes` lanes to the workspace; packed: where they are then. */
static fl_status pack(fl_dev *d, packing p, int lanes, fl_cspan w, fl_cspan *packed) {
  int64_t each = (int64_t)p.n * p.depth;
  fl_span out = {d->workspace, w.stride ? each : 0};
  dim3 grid((unsigned)fl_ceil_div(each, 256), w.stride ? (unsigned)lanes : 1);
  FL_LAUNCH(conv_pack_filters, grid, dim3(256), 0, d->stream, p, w, out);
  *packed = fl_const(out);
  return FL_LAUNCHED("filters were packed");
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
  FL_TRY(fl_cuda_enter(d));
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

/* For 32 -> 64 channels of 3 x 3 on 30 x 30, 50 lanes of 10 rows: 14.5 Gflop (29 us at 495 Tflop/s)
 * and 158 MB of images (53 us at 3 TB/s). The 3,100 blocks copy 330 MB of images and filters to
 * shared memory, and read 1.4 GB from it: 48 us at 128 bytes a cycle and multiprocessor.
 * For 3 -> 32 channels on 32 x 32: 0.8 Gflop and 64 MB (21 us). */
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
