/* The update of a dense layer straight from its history, x'dy over a lane's rows.
 *
 * Mixed, it is never written: a block owns a tile of the product and walks the lanes, one pipeline
 * through the stages of all of them. A lane's tile is summed on the tiles and warp arithmetic of
 * tile.h, both operands by columns, rounded to integers and added up in registers; accumulators are
 * read and written once for all lanes that share them. Each history is read once for every COLUMNS
 * outputs, by blocks that run side by side.
 *
 * Its sum of squares is that of the products of two Gram matrices' elements, dy's and x's. The
 * latter is taken in shares of its columns, whose blocks each take the former's tile anew, so that
 * one number a block is all that is kept. */
#include "product.h"

#include "dense.h"
#include "mixing.h"

enum {
  THREADS = FL_DENSE_THREADS,
  WIDE = FL_DENSE_WIDE,
  COLUMNS = 32, /* output features of a tile of the product */
  ROWS = 64,    /* rows and columns of a tile of a Gram matrix */
  SHARE = 1024, /* columns of x whose Gram matrix one block takes */
};

/* --- mixing --------------------------------------------------------------------------------- */
typedef struct history {
  int I, O;
  fl_cspan x, dy;
  bool even_x, even_dy;
} history;

/* A place in the walk over all lanes' stages. */
typedef struct walk {
  int k, depth; /* of mixing.lane[]; first row of the stage */
} walk;

static __device__ __forceinline__ walk advance(walk w, int live) {
  w.depth += FL_DEPTH;
  if (w.depth >= live) w = walk{w.k + 1, 0};
  return w;
}

/* Adds elements i and i+1 of a row, of which `left` exist, to `to`. */
static __device__ __forceinline__ void add_pair(int64_t *to, int left, int64_t first,
                                                int64_t second) {
  if (left > 1 && ((uintptr_t)to & 15) == 0) {
    fl_pair was = *(const fl_pair *)to;
    *(fl_pair *)to = fl_pair{was.first + first, was.second + second};
    return;
  }
  if (left > 0) to[0] += first;
  if (left > 1) to[1] += second;
}

/* Blocks: tiles of WIDE inputs; tiles of COLUMNS outputs. */
template <fl_precision P>
static FL_KERNEL_BOUNDS(THREADS, fl_blocks_resident(P)) void product_mix_by_columns(history f,
                                                                                    fl_rows rows,
                                                                                    fl_mixing m) {
  constexpr int MT = 2, NT = COLUMNS / 8, stage = (WIDE + COLUMNS) * FL_DEPTH;
  FL_SHARED_DYNAMIC(float, shared);
  int first = (int)blockIdx.x * WIDE, column = (int)blockIdx.y * COLUMNS, stages = 0;
  int warp_row = 16 * MT * ((int)threadIdx.x / 32);
  for (int k = 0; k < m.n; k++) stages += (rows.n[m.lane[k]] + FL_DEPTH - 1) / FL_DEPTH;
  fl_place at = fl_place_of<P>((int)threadIdx.x % 32);
  float acc[MT][NT][4] = {};
  int64_t sum[MT][NT][4] = {};
  walk copied = {0, 0}, computed = {0, 0};
  auto copy = [&](int k) {
    int lane = m.lane[copied.k], live = rows.n[lane];
    const float *x = fl_lane(f.x, lane), *dy = fl_lane(f.dy, lane);
    float *to = shared + k % FL_STAGES * stage, *narrow = to + WIDE * FL_DEPTH;
    if (f.even_x)
      fl_copy_columns<4, WIDE>(to, x, f.I, live, copied.depth, first, f.I);
    else
      fl_copy_columns<1, WIDE>(to, x, f.I, live, copied.depth, first, f.I);
    if (f.even_dy)
      fl_copy_columns<4, COLUMNS>(narrow, dy, f.O, live, copied.depth, column, f.O);
    else
      fl_copy_columns<1, COLUMNS>(narrow, dy, f.O, live, copied.depth, column, f.O);
    copied = advance(copied, live);
  };
  fl_pipeline(stages, copy, [&](int k) {
    const float *a = shared + k % FL_STAGES * stage, *b = a + WIDE * FL_DEPTH;
    int now = computed.k, live = rows.n[m.lane[now]];
    int left = min((int)FL_DEPTH, (live - computed.depth + 15) / 16 * 16);
    fl_stage_by_columns<P, WIDE, COLUMNS>(acc, a, warp_row, b, left, at);
    computed = advance(computed, live);
    if (computed.k == now) return;
    bool last = computed.k == m.n || m.acc[computed.k] != m.acc[now];
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
      for (int q = 0; q < 4; q++) {
#pragma unroll
        for (int i = 0; i < MT; i++) {
          sum[i][j][q] += llrint((double)acc[i][j][q] * m.factor[now]);
          acc[i][j][q] = 0;
        }
        if (!last) continue;
        int input = first + warp_row + MT * (8 * (q / 2) + at.g);
        int output = column + fl_column<NT>(j, 2 * at.t + q % 2);
        int64_t *to = m.acc[now] + (int64_t)output * f.I + input;
        add_pair(to, output < f.O ? f.I - input : 0, sum[0][j][q], sum[1][j][q]);
        sum[0][j][q] = sum[1][j][q] = 0;
      }
  });
}

template <fl_precision P>
static fl_status launch_mix(fl_dev *d, history f, fl_rows rows, const fl_mixing &m) {
  auto kernel = product_mix_by_columns<P>;
  int bytes = fl_pipeline_bytes(WIDE, COLUMNS, FL_STAGES * FL_DEPTH);
  dim3 grid((unsigned)fl_ceil_div(f.I, WIDE), (unsigned)fl_ceil_div(f.O, COLUMNS));
  FL_TRY(fl_allow_shared((const void *)kernel, bytes));
  FL_LAUNCH(kernel, grid, dim3(THREADS), bytes, d->stream, f, rows, m);
  return FL_LAUNCHED("products were mixed");
}

/* It is not cuBLAS, which would form every lane's product in memory first: here a lane's tile is
 * rounded and added up while it is in registers. */
fl_status fl_cuda_product_mix(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                              const double *factor, int64_t *const *acc) {
  FL_TRY(fl_cuda_enter(d));
  bool even_x = I % 4 == 0 && fl_span_even(x), even_dy = O % 4 == 0 && fl_span_even(dy);
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    fl_rows rows = fl_rows_of(b, c, lanes);
    double some[FL_GROUP];
    for (int k = 0; k < lanes; k++) some[k] = rows.n[k] > 0 ? factor[c + k] : 0;
    fl_mixing m = fl_mixing_of(lanes, some, acc + c);
    history f = {I, O, fl_cspan_from(x, c), fl_cspan_from(dy, c), even_x, even_dy};
    if (m.n == 0) continue;
    FL_TRY(
        fl_by_precision(d, [&](auto p) { return launch_mix<decltype(p)::value>(d, f, rows, m); }));
  }
  return FEDLANE_OK;
}

/* --- size and health ------------------------------------------------------------------------ */
/* A matrix of `width` floats a row for each lane, and where its columns' largest sums of squares
 * are: `blocks` a lane, one for every THREADS columns. */
typedef struct operand {
  int width, blocks;
  fl_cspan at;
  double *largest;
} operand;

typedef struct sizing {
  operand x, dy;
  int tiles, shares, parts; /* of rows; of x's columns; numbers a lane in `part` */
  double *part;             /* [lane, parts] */
} sizing;

static __device__ inline double larger(double a, double b) { return fl_product_larger(a, b); }
static __device__ inline double plus(double a, double b) { return a + b; }

/* One number a thread joined over the block, by halves; every thread gets it. */
template <typename F>
static __device__ double join_block(double value, F join) {
  FL_SHARED(double, all, [THREADS]);
  __syncthreads();
  all[threadIdx.x] = value;
  for (int away = THREADS / 2; away > 0; away /= 2) {
    __syncthreads();
    if ((int)threadIdx.x < away) all[threadIdx.x] = join(all[threadIdx.x], all[threadIdx.x + away]);
  }
  __syncthreads();
  return all[0];
}

/* n numbers joined by one block. */
template <typename F>
static __device__ double join_all(int n, const double *from, F join) {
  double value = 0;
  for (int i = (int)threadIdx.x; i < n; i += THREADS) value = join(value, from[i]);
  return join_block(value, join);
}

/* A column a thread. Blocks: those of x, then those of dy; lanes. */
static FL_KERNEL_BOUNDS(THREADS, 4) void product_columns(sizing s, fl_rows rows) {
  int lane = (int)blockIdx.y, block = (int)blockIdx.x;
  operand o = s.x;
  if (block >= o.blocks) {
    block -= o.blocks;
    o = s.dy;
  }
  int column = block * THREADS + (int)threadIdx.x, live = column < o.width ? rows.n[lane] : 0;
  const float *from = fl_lane(o.at, lane) + column;
  double sum = 0;
#pragma unroll 8
  for (int row = 0; row < live; row++) {
    double value = from[(int64_t)row * o.width];
    sum += value * value;
  }
  double largest = join_block(larger(0, sum), larger);
  if (threadIdx.x == 0) o.largest[(int64_t)lane * o.blocks + block] = largest;
}

/* 2^e that columns are divided by. */
static __device__ int exponent_of(operand o, int lane) {
  const double *from = o.largest + (int64_t)lane * o.blocks;
  return fl_product_exponent(join_all(o.blocks, from, larger));
}

/* Floats k .. k+FL_DEPTH-1, but those from `end` on, of rows row .. row+ROWS-1 as a tile by rows,
 * times scale; zero from row `live` on. */
static __device__ __forceinline__ void copy_scaled(float *tile, const float *from, int pitch,
                                                   int live, int row, int k, int end, float scale) {
  int column = (int)threadIdx.x % FL_DEPTH;
#pragma unroll
  for (int r = (int)threadIdx.x / FL_DEPTH; r < ROWS; r += THREADS / FL_DEPTH) {
    bool in = row + r < live && k + column < end;
    tile[fl_by_rows(r, column)] = in ? scale * from[(int64_t)(row + r) * pitch + k + column] : 0.0f;
  }
}

/* gram += the inner products of rows row .. and rows other .. over columns begin .. end-1. */
static __device__ void add_gram(float (&gram)[1][ROWS / 8][4], const float *from, int pitch,
                                int live, int row, int other, int begin, int end, float scale) {
  FL_SHARED(float, a, [ROWS * FL_DEPTH]);
  FL_SHARED(float, b, [ROWS * FL_DEPTH]);
  fl_place at = fl_place_of<FL_MATH_FP32>((int)threadIdx.x % 32);
#pragma unroll 1
  for (int k = begin; k < end; k += FL_DEPTH) {
    __syncthreads();
    copy_scaled(a, from, pitch, live, row, k, end, scale);
    if (other != row) copy_scaled(b, from, pitch, live, other, k, end, scale);
    __syncthreads();
    fl_stage_by_rows<FL_MATH_FP32>(gram, a, 16 * ((int)threadIdx.x / 32), other != row ? b : a, at);
  }
}

/* Blocks: shares of x's columns, then pairs of tiles of rows, the second not before the first;
 * lanes. */
static FL_KERNEL_BOUNDS(THREADS, 3) void product_gram(sizing s, fl_rows rows) {
  int lane = (int)blockIdx.y, live = rows.n[lane], i = 0, j = (int)blockIdx.x / s.shares;
  int begin = (int)blockIdx.x % s.shares * SHARE;
  for (int left = s.tiles; j >= left; left--, i++) j -= left;
  j += i;
  double sum = 0;
  if (j * ROWS < live) {
    float x[1][ROWS / 8][4] = {}, dy[1][ROWS / 8][4] = {};
    float scale_x = ldexpf(1, -exponent_of(s.x, lane));
    float scale_dy = ldexpf(1, -exponent_of(s.dy, lane));
    add_gram(x, fl_lane(s.x.at, lane), s.x.width, live, i * ROWS, j * ROWS, begin,
             min(begin + SHARE, s.x.width), scale_x);
    add_gram(dy, fl_lane(s.dy.at, lane), s.dy.width, live, i * ROWS, j * ROWS, 0, s.dy.width,
             scale_dy);
#pragma unroll
    for (int n = 0; n < ROWS / 8; n++)
#pragma unroll
      for (int q = 0; q < 4; q++) sum += (double)x[0][n][q] * (double)dy[0][n][q];
  }
  sum = join_block(i == j ? sum : 2 * sum, plus);
  if (threadIdx.x == 0) s.part[(int64_t)lane * s.parts + blockIdx.x] = sum;
}

static FL_KERNEL_BOUNDS(THREADS, 4) void product_join(sizing s, fl_rows rows, fl_measure *out) {
  int lane = (int)blockIdx.y;
  double sum2 = join_all(s.parts, s.part + (int64_t)lane * s.parts, plus);
  double x = join_all(s.x.blocks, s.x.largest + (int64_t)lane * s.x.blocks, larger);
  double dy = join_all(s.dy.blocks, s.dy.largest + (int64_t)lane * s.dy.blocks, larger);
  int e = fl_product_exponent(x) + fl_product_exponent(dy);
  if (threadIdx.x == 0) out[lane] = fl_product_size(rows.n[lane], x, dy, ldexp(sum2, 2 * e));
}

fl_status fl_cuda_product_measure(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                  bool norm, fl_measure *out) {
  FL_TRY(fl_cuda_enter(d));
  int tiles = (int)fl_ceil_div(b.B, ROWS), shares = (int)fl_ceil_div(I, SHARE);
  sizing s = {{I, (int)fl_ceil_div(I, THREADS), x, NULL},
              {O, (int)fl_ceil_div(O, THREADS), dy, NULL},
              tiles,
              shares,
              norm ? tiles * (tiles + 1) / 2 * shares : 0,
              (double *)d->workspace};
  int numbers = s.parts + s.x.blocks + s.dy.blocks;
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, numbers * (int64_t)sizeof(double));
    fl_rows rows = fl_rows_of(b, c, lanes);
    s.x.at = fl_cspan_from(x, c);
    s.dy.at = fl_cspan_from(dy, c);
    s.x.largest = s.part + (int64_t)lanes * s.parts;
    s.dy.largest = s.x.largest + (int64_t)lanes * s.x.blocks;
    FL_LAUNCH(product_columns, dim3((unsigned)(s.x.blocks + s.dy.blocks), (unsigned)lanes), THREADS,
              0, d->stream, s, rows);
    if (norm)
      FL_LAUNCH(product_gram, dim3((unsigned)s.parts, (unsigned)lanes), THREADS, 0, d->stream, s,
                rows);
    FL_LAUNCH(product_join, dim3(1, (unsigned)lanes), THREADS, 0, d->stream, s, rows, out + c);
  }
  return FL_LAUNCHED("a product's measure was queued");
}
