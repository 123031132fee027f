/* Convolution forward and the gradient of its input, with the relu and the pooling beside them: one
 * implicit GEMM.
 *
 *   M  the pixels of one lane's live images, B*H*W of the image written (four for each when pooled)
 *   N  the channels written
 *   K  the places of the window times the channels read
 *
 * The gradient of the input is the same product with the filters turned around; of a layer with
 * stride 2 it is four, one for the pixels of each parity, which see only the places of the window
 * that fell on them. Filters are [O, I, k, k] in memory; a first, small launch writes them to the
 * workspace as [N][K], channels fastest, padded with zeros to whole stages, so that they are copied
 * 16 bytes at a time. Images whose channels are no multiple of 4 are copied by single floats.
 *
 * A block of 4 warps computes 128 x 64 results, or 256 x 32 or 256 x 16 where there are fewer
 * channels: each warp 64 x 32, because it reads (64 + 32) * 4 bytes of shared memory a step of
 * depth for 64 * 32 products, and its sums (64 registers) still leave room for three blocks. Every
 * result is summed by one warp in an order that follows from the layer's shape. */
#include "conv_results.h"

enum {
  THREADS = 128,
  CHUNKS = FL_DEPTH / 4,
  STACK_MOST = 96 * 1024, /* bytes of shared memory that leave room for two blocks */
};

/* --- filters as [N][depth] ------------------------------------------------------------------ */
/* Tap (h, w) is place first + h*down + w*right of a filter. Depth runs over `beside` channels
 * within the taps within the next `beside` channels; padded to whole stages. */
typedef struct packing {
  int n, channels, beside, rows, columns, depth;
  int first, down, right;
  int64_t n_stride, channel_stride;
  bool tf32; /* rounded here, once for all that read them */
} packing;

static FL_KERNEL_BOUNDS(256, 4) void conv_pack_filters(packing p, fl_cspan w, fl_span out) {
  int64_t e = (int64_t)blockIdx.x * 256 + threadIdx.x;
  if (e >= (int64_t)p.n * p.depth) return;
  int n = (int)(e / p.depth), k = (int)(e - (int64_t)n * p.depth);
  int taps = p.rows * p.columns, stage = k / p.beside;
  float value = 0;
  if (k < taps * p.channels) {
    int channel = stage / taps * p.beside + k % p.beside, tap = stage % taps;
    int h = tap / p.columns, place = p.first + h * p.down + (tap - h * p.columns) * p.right;
    value = fl_lane(w, (int)blockIdx.y)[n * p.n_stride + channel * p.channel_stride + place];
  }
  fl_lane_out(out, (int)blockIdx.y)[e] = p.tf32 ? __uint_as_float(fl_tf32(value)) : value;
}

/* --- the product ---------------------------------------------------------------------------- */
typedef struct operands {
  fl_cspan from, filter; /* filter: packed */
  int depth;
  fl_results results;
} operands;

template <int V, int M>
static __device__ __forceinline__ void copy_windows(const fl_conv &s, const float *from,
                                                    const fl_corner *corner, fl_tap tap,
                                                    float *tile) {
  constexpr int columns = FL_DEPTH / V, at_once = THREADS / columns;
  int column = (int)threadIdx.x % columns * V;
#pragma unroll 4
  for (int r = (int)threadIdx.x / columns; r < M; r += at_once) {
    int pixel = tap.kh < s.rows ? fl_corner_pixel(s, corner[r], tap.kh, tap.kw) : -1;
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

/* Where a block's results are, and which of them this thread's warp owns. */
template <int WM, int WN, int MT, int NT>
struct block_place {
  static constexpr int M = WM * 16 * MT, N = WN * 8 * NT;
  int lane, cell, column, my_row, my_column, live; /* first ones; my: within the block */

  __device__ __forceinline__ block_place(const fl_conv &s, const fl_rows &rows) {
    int warp = (int)threadIdx.x / 32, tiles = (s.to.channels + N - 1) / N;
    lane = (int)blockIdx.y;
    cell = fl_cell(s, (int)blockIdx.x / tiles * M);
    column = (int)blockIdx.x % tiles * N;
    my_row = warp / WN * 16 * MT;
    my_column = warp % WN * 8 * NT;
    live = rows.n[lane] * s.to.height * s.to.width;
  }
};

/* The tap of the next stage (packing). */
static __device__ __forceinline__ void next_stage(const fl_conv &s, fl_tap *at) {
  if (s.from.channels % FL_DEPTH) return fl_tap_advance(s, at, FL_DEPTH);
  if (++at->kw < s.columns) return;
  at->kw = 0;
  if (++at->kh < s.rows) return;
  at->kh = 0;
  at->channel += FL_DEPTH;
}

/* The general kernel: every stage's windows are copied from the images.
 * WM x WN warps, each of 16*MT x 8*NT results; V floats are copied at once. Blocks: tiles, channels
 * fastest, by lanes. */
template <fl_precision P, int WM, int WN, int MT, int NT, int V>
static FL_KERNEL_BOUNDS(THREADS, WM == 2 ? fl_blocks_resident(P)
                                         : 2) void conv_implicit_gemm(fl_conv s, fl_rows rows,
                                                                      operands o) {
  block_place<WM, WN, MT, NT> my(s, rows);
  constexpr int M = my.M, N = my.N, stage = (M + N) * FL_DEPTH;
  FL_SHARED_DYNAMIC(float, shared);
  FL_SHARED(fl_corner, corner, [M]);
  if (my.cell >= my.live) return;
  int thread = (int)threadIdx.x;
  for (int r = thread; r < M; r += THREADS) {
    int cell = my.cell + fl_cell(s, r);
    corner[r] = fl_corner_of(s, fl_cell_pixel(s, cell, r), cell < my.live);
  }
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
    next_stage(s, &tap);
  };
  fl_pipeline(o.depth / FL_DEPTH, copy, [&](int k) {
    const float *a = shared + k % FL_STAGES * stage;
    fl_stage_by_rows<P>(acc, a, my.my_row, a + (M + my.my_column) * FL_DEPTH, at);
  });
  fl_write_results(acc, at, s, o.results, my.cell + fl_cell(s, my.my_row), my.live,
                   my.column + my.my_column);
}

/* --- with the seen part of the images in shared memory ---------------------------------------- */
/* What the windows cover of a lane's images, stacked: pixel (h, w) of image b sees the rows from
 * b*height + h*step_h and the columns from w*step_w on. */
typedef struct stack {
  int height, width; /* of one image's part */
  int pixels;        /* the most that one block's windows cover, in whole rows */
} stack;

static __device__ __forceinline__ int stack_row(const fl_conv &s, const stack &v, fl_pixel at) {
  return at.image * v.height + at.h * s.step_h;
}

/* Copies 32 channels of the stack's rows first .. last. */
static __device__ __forceinline__ void copy_stack(const fl_conv &s, const stack &v,
                                                  const float *from, int channel, int first,
                                                  int last, float *tile) {
  constexpr int at_once = THREADS / CHUNKS;
  int k = (int)threadIdx.x % CHUNKS * 4, pixel = (int)threadIdx.x / CHUNKS;
  int image = first / v.height, h = first - image * v.height - s.top, w = pixel - s.left;
  for (; pixel < (last - first + 1) * v.width; pixel += at_once, w += at_once) {
    for (; w >= v.width - s.left; w -= v.width)
      if (++h == v.height - s.top) {
        h = -s.top;
        image++;
      }
    bool inside = (unsigned)h < (unsigned)s.from.height && (unsigned)w < (unsigned)s.from.width;
    int64_t at = ((int64_t)image * s.from.height + h) * s.from.width + w;
    const float *src = inside ? from + at * s.from.channels + channel + k : NULL;
    fl_copy<4>(tile + fl_by_rows(pixel, k), src, from);
  }
}

/* Rounds to tf32, once for all taps, what this thread has copied. */
static __device__ __forceinline__ void round_stack(int pixels, float *tile) {
  int k = (int)threadIdx.x % CHUNKS * 4, pixel = (int)threadIdx.x / CHUNKS;
  fl_cp_async_commit();
  fl_cp_async_wait<0>();
  for (; pixel < pixels; pixel += THREADS / CHUNKS) {
    float *at = tile + fl_by_rows(pixel, k), v[4];
    fl_read<4>(at, v);
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = __uint_as_float(fl_tf32(v[i]));
    fl_write<4>(at, v);
  }
}

/* The fast kernel, for channels in whole stages: the part of the images that a block's windows
 * cover is copied once for every 32 channels, and each tap reads it at its own shift; only filters
 * stream. The sums are the general kernel's, so which of the two runs changes no bit. */
template <fl_precision P, int WM, int WN, int MT, int NT>
static FL_KERNEL_BOUNDS(THREADS,
                        fl_blocks_resident(P)) void conv_stacked_gemm(fl_conv s, fl_rows rows,
                                                                      operands o, stack v) {
  block_place<WM, WN, MT, NT> my(s, rows);
  constexpr int M = my.M, N = my.N;
  FL_SHARED_DYNAMIC(float, shared);
  if (my.cell >= my.live) return;
  const float *from = fl_lane(o.from, my.lane), *filter = fl_lane(o.filter, my.lane);
  float acc[MT][NT][4] = {}, *filters = shared + v.pixels * FL_DEPTH;
  fl_place at = fl_place_of<P>((int)threadIdx.x % 32);
  int end = min(my.cell + fl_cell(s, M), my.live) - 1;
  int first = stack_row(s, v, fl_cell_pixel(s, my.cell, 0));
  int last = stack_row(s, v, fl_cell_pixel(s, end, M - 1)) + s.rows - 1;
  int tile_row[MT][2];
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      int row = my.my_row + 16 * i + 8 * h + at.g;
      fl_pixel pixel = fl_cell_pixel(s, min(my.cell + fl_cell(s, row), end), row);
      tile_row[i][h] = (stack_row(s, v, pixel) - first) * v.width + pixel.w * s.step_w;
    }
  for (int channel = 0; channel < s.from.channels; channel += FL_DEPTH) {
    __syncthreads(); /* nobody reads the last channels any more */
    copy_stack(s, v, from, channel, first, last, shared);
    if constexpr (P == FL_MATH_TF32) round_stack((last - first + 1) * v.width, shared);
    auto copy = [&](int tap) {
      copy_filters<N>(filter, o.depth, my.column, s.to.channels,
                      channel * s.rows * s.columns + tap * FL_DEPTH,
                      filters + tap % FL_STAGES * N * FL_DEPTH);
    };
    int shift = 0, kw = 0; /* of the tap, in pixels */
    fl_pipeline(s.rows * s.columns, copy, [&](int tap) {
      const float *b = filters + (tap % FL_STAGES * N + my.my_column) * FL_DEPTH;
      fl_stage_of_rows<P == FL_MATH_TF32 ? FL_TF32_ROUNDED : P>(
          acc, shared, [&](int i, int h) { return tile_row[i][h] + shift; }, b, at);
      shift += ++kw < s.columns ? 1 : v.width - kw + 1;
      if (kw == s.columns) kw = 0;
    });
  }
  fl_write_results(acc, at, s, o.results, my.cell + fl_cell(s, my.my_row), my.live,
                   my.column + my.my_column);
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
  int64_t cells = (int64_t)j->B * j->s.to.height * j->s.to.width;
  int64_t tiles = fl_ceil_div(cells, fl_cell(j->s, M)) * fl_ceil_div(j->s.to.channels, N);
  return dim3((unsigned)tiles, (unsigned)j->lanes);
}

static stack stack_of(const fl_conv *s, int M) {
  int each = s->side * s->step_h; /* rows from a cell to the next */
  stack v = {s->to.height * each - s->step_h + s->rows,
             (s->to.width * s->side - 1) * s->step_w + s->columns, 0};
  int lines =
      (int)fl_ceil_div(fl_cell(*s, M) - 1, s->to.width); /* from the first cell's to the last's */
  int gap = v.height - s->to.height * each;              /* rows more from one image to the next */
  int rows = (lines + 1) * each - s->step_h + s->rows;
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
  if (V == 4 && j->s.rows * j->s.columns > 1 && j->s.from.channels % FL_DEPTH == 0 &&
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

/* o: of all lanes, and without filters. */
static fl_status convolve(fl_dev *d, fl_batch b, fl_conv s, packing p, fl_cspan w, operands o) {
  int group;
  FL_TRY(group_of(&p, w.stride, &group));
  bool vectors = s.from.channels % 4 == 0 && fl_span_even(o.from);
  o.results.pairs = s.to.channels % 2 == 0 && fl_span_even(fl_const(o.results.to)) &&
                    fl_span_even(o.results.gate);
  for (int first = 0; first < b.C; first += group) {
    int lanes = b.C - first < group ? b.C - first : group;
    operands part = {fl_cspan_from(o.from, first), {}, p.depth, fl_results_from(&o.results, first)};
    FL_TRY(pack(d, p, lanes, fl_cspan_from(w, first), &part.filter));
    job j = {d, s, b.B, lanes, fl_rows_of(b, first, lanes), part};
    FL_TRY(vectors ? launch_precision<4>(&j) : launch_precision<1>(&j));
  }
  return FEDLANE_OK;
}

/* But for where the taps are. At least one stage, of zeros where the window has no place. */
static packing packing_of(const fl_dev *d, const fl_conv *s, const fl_window *w) {
  int depth = (fl_conv_depth(s) + FL_DEPTH - 1) / FL_DEPTH * FL_DEPTH;
  int64_t taps = (int64_t)fl_window_kernel_h(w) * w->kernel, filter = taps * w->in.channels;
  packing p = {};
  p.n = s->to.channels;
  p.channels = s->from.channels;
  p.beside = p.channels % FL_DEPTH ? p.channels : (int)FL_DEPTH;
  p.rows = s->rows;
  p.columns = s->columns;
  p.depth = depth > 0 ? depth : (int)FL_DEPTH;
  p.n_stride = filter;
  p.channel_stride = taps;
  p.tf32 = d->precision == FL_MATH_TF32;
  return p;
}

/* pool NULL: none. */
static fl_status forward(fl_dev *d, fl_batch b, const fl_window *w, const fl_window *pool,
                         fl_cspan x, fl_cspan filter, fl_results results) {
  fl_conv s = fl_conv_of(w);
  FL_TRY(fl_cuda_enter(d));
  FL_TRY(fl_conv_check(w, b.B));
  if (pool) {
    s.to = pool->out;
    s.side = 2;
  }
  packing p = packing_of(d, &s, w);
  p.down = w->kernel;
  p.right = 1;
  operands o = {x, {}, 0, results};
  return convolve(d, b, s, p, filter, o);
}

/* The least number >= 0 that differs from n by a multiple of `by`. */
static int remainder_of(int n, int by) { return (n % by + by) % by; }

/* The pixels (row, column), (row + stride, column), ... of the gradient of the input. The whole
 * would see, through place kh of the window turned around, row (h - top + kh) / stride where that
 * is whole: of every stride-th row it is so for every stride-th kh, from `skip` on. */
static fl_status backward_part(fl_dev *d, fl_batch b, const fl_window *w, int row, int column,
                               fl_cspan dy, fl_cspan filter, fl_results results) {
  int tall = fl_window_kernel_h(w), wide = w->kernel, down = fl_window_stride_h(w);
  int right = w->stride, top = tall - 1 - fl_window_pad_h(w), left = wide - 1 - w->pad;
  int skip_h = remainder_of(top - row, down), skip_w = remainder_of(left - column, right);
  fl_image to = {w->in.channels, (int)fl_ceil_div(w->in.height - row, down),
                 (int)fl_ceil_div(w->in.width - column, right), 0};
  if (to.height == 0 || to.width == 0) return FEDLANE_OK;
  fl_conv s = {
      to, w->out, 0, 0, 1, 1, (top - row - skip_h) / down, (left - column - skip_w) / right, 1};
  s.columns = (int)fl_ceil_div(wide - skip_w, right);
  s.rows = s.columns > 0 ? (int)fl_ceil_div(tall - skip_h, down) : 0;
  packing p = packing_of(d, &s, w);
  p.first = (tall - 1 - skip_h) * wide + wide - 1 - skip_w;
  p.down = -down * wide;
  p.right = -right;
  p.n_stride = p.channel_stride;
  p.channel_stride *= w->in.channels;
  results.whole = w->in;
  results.every_h = down;
  results.every_w = right;
  results.row = row;
  results.column = column;
  operands o = {dy, {}, 0, results};
  return convolve(d, b, s, p, filter, o);
}

static fl_status backward(fl_dev *d, fl_batch b, const fl_window *w, fl_cspan dy, fl_cspan filter,
                          fl_results results) {
  FL_TRY(fl_cuda_enter(d));
  FL_TRY(fl_conv_check(w, b.B));
  for (int part = 0; part < fl_window_stride_h(w) * w->stride; part++)
    FL_TRY(backward_part(d, b, w, part / w->stride, part % w->stride, dy, filter, results));
  return FEDLANE_OK;
}

static const fl_cspan none = {NULL, 0};

/* For 32 -> 64 channels of 3 x 3 on 30 x 30, 50 lanes of 10 rows: 14.5 Gflop (29 us at 495 Tflop/s)
 * and 158 MB of images (53 us at 3 TB/s). The 3,100 blocks copy 330 MB of images and filters to
 * shared memory, and read 1.4 GB from it: 48 us at 128 bytes a cycle and multiprocessor.
 * For 3 -> 32 channels on 32 x 32: 0.8 Gflop and 64 MB (21 us). */
fl_status fl_cuda_conv_fwd(fl_dev *d, fl_batch b, const fl_window *w, fl_cspan x, fl_cspan filter,
                           fl_cspan bias, fl_span y) {
  return forward(d, b, w, NULL, x, filter, fl_results_of(y, bias));
}

/* For 32 -> 64 channels of 3 x 3 on 30 x 30, 50 lanes of 10 rows: 16.6 Gflop (34 us), of which 2.1
 * are with zeros beyond the edge, and 158 MB (53 us). The 1,800 blocks copy 306 MB of images and
 * filters and read 1.6 GB. A layer with stride 2 takes four launches with a quarter of
 * the pixels each, and together one quarter of the products of a single one. */
fl_status fl_cuda_conv_bwd_data(fl_dev *d, fl_batch b, const fl_window *w, fl_cspan dy,
                                fl_cspan filter, fl_span dx) {
  return backward(d, b, w, dy, filter, fl_results_of(dx, none));
}

/* For 32 -> 64 channels of 3 x 3 on 30 x 30 with pooling, 50 lanes of 10 rows: the products of
 * conv_fwd, but 89 MB (30 us at 3 TB/s): 58 of x, 25 of y and 6 of masks. The three slots that it
 * stands for move 483 MB. For 3 -> 32 channels on 32 x 32 without pooling: 64 MB (21 us) for 179.
 */
fl_status fl_cuda_conv_relu_fwd(fl_dev *d, fl_batch b, const fl_window *w, const fl_window *pool,
                                fl_cspan x, fl_cspan filter, fl_cspan bias, fl_span y,
                                fl_span mask) {
  fl_results results = fl_results_of(y, bias);
  results.relu = true;
  results.mask = mask;
  return forward(d, b, w, pool, x, filter, results);
}

/* For 32 -> 64 channels of 3 x 3 on 30 x 30, 50 lanes of 10 rows: the products of conv_bwd_data and
 * 216 MB (72 us at 3 TB/s); the two slots that it stands for move 331 MB. */
fl_status fl_cuda_conv_bwd_data_relu(fl_dev *d, fl_batch b, const fl_window *w, fl_cspan dy,
                                     fl_cspan filter, fl_cspan x, fl_span dx) {
  fl_results results = fl_results_of(dx, none);
  results.gate = x;
  return backward(d, b, w, dy, filter, results);
}
