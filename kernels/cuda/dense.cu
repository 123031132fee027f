/* Dense layers: a product a lane, on the tiles and warp arithmetic of tile.h.
 *
 *   forward   y[b, o] = sum_i w[o, i] x[b, i]         both operands by rows, depth I
 *   data      dx[b, i] = sum_o w[o, i] dy[b, o]       both by columns, depth O
 *   weights   gw[o, i] += scale sum_b x[b, i] dy[b, o]  both by columns, depth the live rows
 *
 * Batches are small and weights large, so the weights (or their sums) are the long side of each
 * tile and stream through once: 4 bytes a weight forward and for data, 8 for weights, which at 3
 * TB/s outweighs the arithmetic up to about 64 rows. A forward pass of one lane has too few tiles
 * to fill a device; its depth is cut into shares, whose sums go through the workspace and are added
 * up in order. A lane's shape alone decides its shares.
 *
 * Lanes that share one copy of w are one product, whose row r is row r % B of lane r / B: a tile of
 * w then serves up to 64 rows of any lanes. Shares, and the order in a share, remain those of a
 * lane, and no result knows which tile its row is in, so that sharing is invisible bit for bit. */
#include "dense.h"

enum {
  THREADS = FL_DENSE_THREADS,
  WARPS = FL_DENSE_WARPS,
  WIDE = FL_DENSE_WIDE,
  SUM_COLUMNS = 64,  /* output features of a tile of weight sums */
  BLOCKS = 32,       /* wanted of one lane's forward pass */
  SHARE_LEAST = 256, /* input features of a share */
};

/* Finds row r of the product of lanes first .. first+together-1: false when it is dead. */
static __device__ __forceinline__ bool find_row(const fl_rows &rows, int first, int together, int B,
                                                int r, int *lane, int *row) {
  *lane = first + r / B;
  *row = r % B;
  return r < together * B && *row < rows.n[*lane];
}

/* --- forward -------------------------------------------------------------------------------- */
typedef struct forward {
  int I, O, B, together;    /* together: lanes of one product */
  int tiles, shares, share; /* share: input features of one */
  fl_cspan x, w, bias;
  fl_span y;
  float *part; /* [lane, share, B, O]; used when shares > 1 */
  bool even;
} forward;

/* Where the sums of a lane over a share go: [B, O]. */
static __device__ __forceinline__ float *sums_of(const forward &f, int lane, int share) {
  if (f.shares == 1) return fl_lane_out(f.y, lane);
  return f.part + ((int64_t)lane * f.shares + share) * f.B * f.O;
}

/* Sums of a tile of outputs over one share of the inputs. Blocks: tiles, then shares; products;
 * tiles of rows. */
template <fl_precision P, int MT, int NT>
static FL_KERNEL_BOUNDS(THREADS, fl_blocks_resident(P)) void dense_fwd_by_rows(forward f,
                                                                               fl_rows rows) {
  constexpr int M = 16 * MT * WARPS, N = 8 * NT, stage = (M + N) * FL_DEPTH;
  FL_SHARED_DYNAMIC(float, shared);
  FL_SHARED(const float *, from, [N]);
  FL_SHARED(float *, to, [N]);
  int product = (int)blockIdx.y * f.together, thread = (int)threadIdx.x, warp = thread / 32;
  int o = (int)blockIdx.x % f.tiles * M, share = (int)blockIdx.x / f.tiles, lane, row;
  bool live = thread < N &&
              find_row(rows, product, f.together, f.B, (int)blockIdx.z * N + thread, &lane, &row);
  if (thread < N) from[thread] = live ? fl_lane(f.x, lane) + (int64_t)row * f.I : NULL;
  if (thread < N) to[thread] = live ? sums_of(f, lane, share) + (int64_t)row * f.O : NULL;
  if (!__syncthreads_or(live)) return;
  int first = share * f.share, end = min(f.I, first + f.share);
  const float *w = fl_lane(f.w, product) + (int64_t)o * f.I;
  float acc[MT][NT][4] = {};
  fl_place at = fl_place_of<P>((int)threadIdx.x % 32);
  auto copy = [&](int k) {
    float *wide = shared + k % FL_STAGES * stage, *narrow = wide + M * FL_DEPTH;
    int depth = first + k * FL_DEPTH;
    auto w_row = [&](int n) { return o + n < f.O ? w + (int64_t)n * f.I : NULL; };
    auto x_row = [&](int n) { return from[n]; };
    if (f.even) {
      fl_copy_rows<4, M>(wide, w, w_row, depth, end);
      fl_copy_rows<4, N>(narrow, w, x_row, depth, end);
    } else {
      fl_copy_rows<1, M>(wide, w, w_row, depth, end);
      fl_copy_rows<1, N>(narrow, w, x_row, depth, end);
    }
  };
  fl_pipeline((end - first + FL_DEPTH - 1) / FL_DEPTH, copy, [&](int k) {
    const float *a = shared + k % FL_STAGES * stage;
    fl_stage_by_rows<P>(acc, a, 16 * MT * warp, a + M * FL_DEPTH, at);
  });
  const float *bias = f.shares > 1 ? NULL : fl_lane(f.bias, product);
  o += 16 * MT * warp + at.g;
  float add[2 * MT];
#pragma unroll
  for (int ih = 0; ih < 2 * MT; ih++) add[ih] = bias && o + 8 * ih < f.O ? bias[o + 8 * ih] : 0;
#pragma unroll
  for (int je = 0; je < 2 * NT; je++) {
    float *y = to[8 * (je / 2) + 2 * at.t + je % 2];
    if (!y) continue;
#pragma unroll
    for (int ih = 0; ih < 2 * MT; ih++)
      if (o + 8 * ih < f.O) y[o + 8 * ih] = acc[ih / 2][je / 2][2 * (ih % 2) + je % 2] + add[ih];
  }
}

/* Adds the shares up in order. */
static FL_KERNEL_BOUNDS(256, 4) void dense_fwd_join(forward f, fl_rows rows) {
  int lane = (int)blockIdx.y, all = f.B * f.O, i = (int)blockIdx.x * 256 + (int)threadIdx.x;
  if (i >= rows.n[lane] * f.O) return;
  const float *part = f.part + (int64_t)lane * f.shares * all + i, *bias = fl_lane(f.bias, lane);
  float sum = bias ? bias[i % f.O] : 0;
#pragma unroll 8
  for (int s = 0; s < f.shares; s++) sum += part[(int64_t)s * all];
  fl_lane_out(f.y, lane)[i] = sum;
}

template <fl_precision P, int MT, int NT>
static fl_status launch_forward(fl_dev *d, int lanes, forward f, fl_rows rows) {
  auto kernel = dense_fwd_by_rows<P, MT, NT>;
  int bytes = fl_pipeline_bytes(16 * MT * WARPS, 8 * NT, f.share);
  dim3 grid((unsigned)(f.tiles * f.shares), (unsigned)(lanes / f.together),
            (unsigned)fl_ceil_div((int64_t)f.B * f.together, 8 * NT));
  FL_TRY(fl_allow_shared((const void *)kernel, bytes));
  FL_LAUNCH(kernel, grid, dim3(THREADS), bytes, d->stream, f, rows);
  if (f.shares > 1)
    FL_LAUNCH(dense_fwd_join, dim3((unsigned)fl_ceil_div(f.B * f.O, 256), (unsigned)lanes),
              dim3(256), 0, d->stream, f, rows);
  return FL_LAUNCHED("a dense layer was queued");
}

/* The fewest columns of 8 rows that hold a product's rows, up to 64 rows a tile. */
static int row_tiles(int rows) { return rows <= 16 ? 2 : rows <= 32 ? 4 : 8; }

template <fl_precision P>
static fl_status choose_forward(fl_dev *d, int lanes, forward f, fl_rows rows) {
  int tiles = row_tiles(f.B * f.together);
  if (f.O <= 16 * WARPS) {
    if (tiles == 2) return launch_forward<P, 1, 2>(d, lanes, f, rows);
    if (tiles == 4) return launch_forward<P, 1, 4>(d, lanes, f, rows);
    return launch_forward<P, 1, 8>(d, lanes, f, rows);
  }
  if (tiles == 2) return launch_forward<P, 2, 2>(d, lanes, f, rows);
  if (tiles == 4) return launch_forward<P, 2, 4>(d, lanes, f, rows);
  return launch_forward<P, 2, 8>(d, lanes, f, rows);
}

/* Cuts I into shares so that one lane has about BLOCKS blocks. */
static void share_out(forward *f) {
  int M = f->O <= 16 * WARPS ? 16 * WARPS : 32 * WARPS;
  f->tiles = (f->O + M - 1) / M;
  int blocks = f->tiles * (int)fl_ceil_div(f->B, 8 * row_tiles(f->B));
  int shares = blocks >= BLOCKS ? 1 : BLOCKS / blocks;
  if (shares > f->I / SHARE_LEAST) shares = f->I / SHARE_LEAST;
  if (shares < 1) shares = 1;
  f->share = (int)fl_ceil_div(f->I, (int64_t)shares * FL_DEPTH) * FL_DEPTH;
  f->shares = (int)fl_ceil_div(f->I, f->share);
}

/* Bytes, of 50 lanes of 10 rows with I = 12544, O = 128. Each with its own w: 321 MB of w and 26 MB
 * of x and y, all from memory. Sharing w: 6 MB of w from memory and 51 MB of it, 8 row tiles, from
 * the L2 cache, where the same tiles of each lane would read 321 MB; 25 MB of x; 8 MB of partial
 * sums, written and read either way. 1.6 Gflop.
 * It is not cuBLAS: its algorithm, and so the order of its sums, may change with the number of
 * rows, and a lane's bits may not depend on how many lanes there are. */
fl_status fl_cuda_dense_fwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan w,
                            fl_cspan bias, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  forward all = {I, O, b.B, 1, 0, 0, 0, x, w, bias, y, d->workspace, false};
  bool together = w.stride == 0 && bias.stride == 0;
  all.even = I % 4 == 0 && fl_span_even(x) && fl_span_even(w);
  share_out(&all);
  int64_t bytes = all.shares > 1 ? (int64_t)all.shares * b.B * O * (int64_t)sizeof(float) : 0;
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, bytes);
    fl_rows rows = fl_rows_of(b, c, lanes);
    forward f = all;
    f.together = together ? lanes : 1;
    f.x = fl_cspan_from(x, c);
    f.w = fl_cspan_from(w, c);
    f.bias = fl_cspan_from(bias, c);
    f.y = fl_span_from(y, c);
    FL_TRY(fl_by_precision(
        d, [&](auto p) { return choose_forward<decltype(p)::value>(d, lanes, f, rows); }));
  }
  return FEDLANE_OK;
}

/* --- backward ------------------------------------------------------------------------------- */
typedef struct backward {
  int I, O, B, together; /* together: lanes of one product */
  fl_cspan wide, dy;     /* wide: w for data, x for weights */
  fl_span out, gbias;    /* out: dx or gw */
  bool even;
} backward;

/* gbias, once a lane: thread n adds up column n of the stage. */
static __device__ __forceinline__ float add_column(float sum, const float *tile) {
  for (int k = 0; k < FL_DEPTH; k++) sum += tile[fl_by_columns(SUM_COLUMNS, k, (int)threadIdx.x)];
  return sum;
}

/* Results i and i+1 of a row of out, of which `left` exist. even: aligned to 8 bytes. */
static __device__ __forceinline__ float2 read_pair(const float *from, int left, bool even) {
  float2 v = {0, 0};
  if (even && left > 0) return *(const float2 *)from;
  if (left > 0) v.x = from[0];
  if (left > 1) v.y = from[1];
  return v;
}

static __device__ __forceinline__ void write_pair(float *to, int left, bool even, float2 v) {
  if (even && left > 0) {
    *(float2 *)to = v;
    return;
  }
  if (left > 0) to[0] = v.x;
  if (left > 1) to[1] = v.y;
}

/* Writes a warp's results, or adds scale times them: from input `first` on, column n to the row
 * that starts at out[n], NULL for none. Sums are read many at a time, because the writes between
 * would hold the next reads up. */
template <int MT, int NT, bool SUMS>
static __device__ __forceinline__ void write_results(const float (&acc)[MT][NT][4], fl_place at,
                                                     float *const *out, int I, int first, bool even,
                                                     float scale) {
  static_assert(MT == 2, "results come in pairs");
  constexpr int some = NT < 4 ? NT : 4;
#pragma unroll
  for (int j = 0; j < NT; j += some) {
    float2 old[some][4];
    float *to[some][4];
    int left[some][4];
#pragma unroll
    for (int q = 0; q < 4 * some; q++) {
      int i = first + 2 * (8 * (q % 4 / 2) + at.g);
      float *row = out[fl_column<NT>(j + q / 4, 2 * at.t + q % 2)];
      to[q / 4][q % 4] = row ? row + i : NULL;
      left[q / 4][q % 4] = row ? I - i : 0;
      if (SUMS) old[q / 4][q % 4] = read_pair(to[q / 4][q % 4], left[q / 4][q % 4], even);
    }
#pragma unroll
    for (int q = 0; q < 4 * some; q++) {
      float2 v = {acc[0][j + q / 4][q % 4], acc[1][j + q / 4][q % 4]}, was = old[q / 4][q % 4];
      if (SUMS) v = float2{fmaf(scale, v.x, was.x), fmaf(scale, v.y, was.y)};
      write_pair(to[q / 4][q % 4], left[q / 4][q % 4], even, v);
    }
  }
}

/* out[n, i] for WIDE inputs i and 8*NT columns n: the rows of dx, or (SUMS) the outputs of gw, to
 * which scale times the product is added. Blocks: tiles of inputs; products; tiles of columns. */
template <fl_precision P, int NT, bool SUMS>
static FL_KERNEL_BOUNDS(THREADS,
                        fl_blocks_resident(P)) void dense_bwd_by_columns(backward f, fl_rows rows,
                                                                         fl_factors scale) {
  constexpr int MT = 2, N = 8 * NT, W = N < 32 ? 32 : N, stage = (WIDE + W) * FL_DEPTH;
  FL_SHARED_DYNAMIC(float, shared);
  FL_SHARED(const float *, from, [N]);
  FL_SHARED(float *, to, [N]);
  int product = (int)blockIdx.y * f.together, thread = (int)threadIdx.x;
  int first = (int)blockIdx.x * WIDE, column = (int)blockIdx.z * N;
  int depth = SUMS ? rows.n[product] : f.O, n = column + thread, lane = product, row = n;
  bool live = thread < N && (SUMS ? depth > 0 && n < f.O
                                  : find_row(rows, product, f.together, f.B, n, &lane, &row));
  if (thread < N) from[thread] = live && !SUMS ? fl_lane(f.dy, lane) + (int64_t)row * f.O : NULL;
  if (thread < N) to[thread] = live ? fl_lane_out(f.out, lane) + (int64_t)row * f.I : NULL;
  if (!__syncthreads_or(live)) return;
  const float *wide = fl_lane(f.wide, product), *dy = fl_lane(f.dy, product);
  bool even_dy = f.even && f.O % 4 == 0;
  float acc[MT][NT][4] = {}, column_sum = 0;
  fl_place at = fl_place_of<P>(thread % 32);
  float *gbias = SUMS && blockIdx.x == 0 && thread < N ? fl_lane_out(f.gbias, product) : NULL;
  auto copy = [&](int k) {
    float *tile = shared + k % FL_STAGES * stage, *narrow = tile + WIDE * FL_DEPTH;
    if (f.even)
      fl_copy_columns<4, WIDE>(tile, wide, f.I, depth, k * FL_DEPTH, first, f.I);
    else
      fl_copy_columns<1, WIDE>(tile, wide, f.I, depth, k * FL_DEPTH, first, f.I);
    if (!SUMS)
      fl_copy_turned<W, N>(narrow, wide, from, depth, k * FL_DEPTH);
    else if (even_dy)
      fl_copy_columns<4, W>(narrow, dy, f.O, depth, k * FL_DEPTH, column, f.O);
    else
      fl_copy_columns<1, W>(narrow, dy, f.O, depth, k * FL_DEPTH, column, f.O);
  };
  fl_pipeline((depth + FL_DEPTH - 1) / FL_DEPTH, copy, [&](int k) {
    const float *a = shared + k % FL_STAGES * stage, *b = a + WIDE * FL_DEPTH;
    int left = min((int)FL_DEPTH, (depth - k * FL_DEPTH + 15) / 16 * 16);
    fl_stage_by_columns<P, WIDE, W>(acc, a, 16 * MT * (thread / 32), b, left, at);
    if (gbias) column_sum = add_column(column_sum, b);
  });
  if (gbias && column + thread < f.O)
    gbias[column + thread] = fmaf(scale.at[product], column_sum, gbias[column + thread]);
  write_results<MT, NT, SUMS>(acc, at, to, f.I, first + 16 * MT * (thread / 32), f.even,
                              scale.at[product]);
}

template <fl_precision P, int NT, bool SUMS>
static fl_status launch_backward(fl_dev *d, int lanes, backward f, fl_rows rows, fl_factors scale) {
  auto kernel = dense_bwd_by_columns<P, NT, SUMS>;
  int bytes = fl_pipeline_bytes(WIDE, 8 * NT < 32 ? 32 : 8 * NT, SUMS ? f.B : f.O);
  dim3 grid((unsigned)fl_ceil_div(f.I, WIDE), (unsigned)(lanes / f.together),
            (unsigned)fl_ceil_div(SUMS ? f.O : (int64_t)f.B * f.together, 8 * NT));
  FL_TRY(fl_allow_shared((const void *)kernel, bytes));
  FL_LAUNCH(kernel, grid, dim3(THREADS), bytes, d->stream, f, rows, scale);
  return FL_LAUNCHED("a dense layer's gradient was queued");
}

template <fl_precision P>
static fl_status choose_backward(fl_dev *d, int lanes, bool sums, backward f, fl_rows rows,
                                 fl_factors scale) {
  int tiles = row_tiles(f.B * f.together);
  if (sums) return launch_backward<P, SUM_COLUMNS / 8, true>(d, lanes, f, rows, scale);
  if (tiles == 2) return launch_backward<P, 2, false>(d, lanes, f, rows, scale);
  if (tiles == 4) return launch_backward<P, 4, false>(d, lanes, f, rows, scale);
  return launch_backward<P, 8, false>(d, lanes, f, rows, scale);
}

static fl_status go_back(fl_dev *d, fl_batch b, bool sums, backward all, fl_coef scale) {
  FL_TRY(fl_cuda_enter(d));
  all.even = all.I % 4 == 0 && fl_span_even(all.wide) && fl_span_even(all.dy) &&
             fl_span_even(fl_const(all.out));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    fl_rows rows = fl_rows_of(b, c, lanes);
    fl_factors factors = fl_factors_of(scale, c, lanes);
    backward f = all;
    f.together = !sums && all.wide.stride == 0 ? lanes : 1;
    f.wide = fl_cspan_from(all.wide, c);
    f.dy = fl_cspan_from(all.dy, c);
    f.out = fl_span_from(all.out, c);
    f.gbias = fl_span_from(all.gbias, c);
    FL_TRY(fl_by_precision(d, [&](auto p) {
      return choose_backward<decltype(p)::value>(d, lanes, sums, f, rows, factors);
    }));
  }
  return FEDLANE_OK;
}

/* Bytes, as above: 321 MB of w and 26 MB of dx and dy; sharing w, 6 MB of w from memory and 51 MB
 * of it from the L2 cache. */
fl_status fl_cuda_dense_bwd_data(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                                 fl_span dx) {
  backward f = {I, O, b.B, 1, w, dy, dx, {NULL, 0}, false};
  return go_back(d, b, false, f, fl_all(1));
}

fl_status fl_cuda_dense_bwd_weights(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                    fl_coef scale, fl_span gw, fl_span gbias) {
  backward f = {I, O, b.B, 1, x, dy, gw, gbias, false};
  return go_back(d, b, true, f, scale);
}
