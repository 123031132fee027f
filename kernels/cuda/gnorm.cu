/* Group normalisation of images with channels fastest. A group of one image is `each` neighbouring
 * floats of every pixel. A team of one warp sums a small group, a block of 8 warps a large one; the
 * size follows from the shape, and sums are taken in a fixed tree. Statistics are those of float
 * arithmetic on deviations from the mean, in two passes; the second pass reads from the cache. */
#include "block.h"
#include "cuda.h"

enum {
  THREADS = 256,
  SMALL = 1024,  /* elements of the largest group that one warp sums */
  CHANNELS = 32, /* of a block that sums over rows and pixels */
  LINES = 16,    /* its warps */
};

typedef struct form {
  int channels, pixels, groups, each; /* each: channels a group */
} form;

static form form_of(fl_image s, int groups) {
  form f = {s.channels, s.height * s.width, groups, s.channels / groups};
  return f;
}

/* Sums of one value a thread over the team, known to all of it. shared: THREADS / 32 floats. */
template <int TEAM>
static __device__ inline float team_sum(float value, float *shared) {
  value = fl_warp_sum(value);
  if constexpr (TEAM > 32) {
    int warp = (int)threadIdx.x / 32;
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[warp] = value;
    __syncthreads();
    value = 0;
    for (int k = 0; k < TEAM / 32; k++) value += shared[k];
  }
  return value;
}

/* One group of one image, and the elements of it that this thread takes. */
typedef struct group {
  int64_t at, stat; /* where it starts in the activations, and in the statistics */
  int channel, n, mine;
} group;

template <int TEAM>
static __device__ inline group group_of(const form &f) {
  int number = (int)blockIdx.x * (THREADS / TEAM) + (int)threadIdx.x / TEAM;
  int image = number / f.groups, g = number - image * f.groups;
  group out = {(int64_t)image * f.pixels * f.channels + g * f.each, 2 * (int64_t)number, g * f.each,
               f.pixels * f.each, (int)threadIdx.x % TEAM};
  return out;
}

/* The teams of a block beyond the lane's last live group leave; a block of one team does as one. */
template <int TEAM>
static __device__ inline bool dead(const form &f, int rows) {
  return (int)blockIdx.x * (THREADS / TEAM) + (int)threadIdx.x / TEAM >= rows * f.groups;
}

/* Calls use(element, channel) for each of the thread's elements of the group. */
template <int TEAM, typename F>
static __device__ inline void each_element(const form &f, group g, F use) {
  for (int k = g.mine; k < g.n; k += TEAM) {
    int pixel = k / f.each, channel = k - pixel * f.each;
    use(g.at + (int64_t)pixel * f.channels + channel, g.channel + channel);
  }
}

template <int TEAM>
static FL_KERNEL_BOUNDS(THREADS, 4) void gnorm_fwd_teams(form f, fl_rows rows, fl_cspan x,
                                                         fl_cspan w, fl_cspan bias, fl_span y,
                                                         fl_span stat) {
  FL_SHARED(float, shared, [THREADS / 32]);
  int lane = (int)blockIdx.y;
  if (dead<TEAM>(f, rows.n[lane])) return;
  group g = group_of<TEAM>(f);
  const float *xs = fl_lane(x, lane), *ws = fl_lane(w, lane), *bs = fl_lane(bias, lane);
  float *ys = fl_lane_out(y, lane), *keep = fl_lane_out(stat, lane) + g.stat, sum = 0, square = 0;
  each_element<TEAM>(f, g, [&](int64_t i, int) { sum += xs[i]; });
  float mean = team_sum<TEAM>(sum, shared) / (float)g.n;
  each_element<TEAM>(f, g, [&](int64_t i, int) { square += (xs[i] - mean) * (xs[i] - mean); });
  float inverse = 1 / sqrtf(team_sum<TEAM>(square, shared) / (float)g.n + 1e-5f);
  each_element<TEAM>(f, g, [&](int64_t i, int channel) {
    ys[i] = (xs[i] - mean) * inverse * ws[channel] + bs[channel];
  });
  if (g.mine == 0) {
    keep[0] = mean;
    keep[1] = inverse;
  }
}

/* With n = (x - mean) / deviation and g = dy * w: dx = (g - mean(g) - n * mean(g*n)) / deviation.
 */
template <int TEAM>
static FL_KERNEL_BOUNDS(THREADS, 4) void gnorm_bwd_data_teams(form f, fl_rows rows, fl_cspan x,
                                                              fl_cspan w, fl_cspan stat,
                                                              fl_cspan dy, fl_span dx) {
  FL_SHARED(float, shared, [THREADS / 32]);
  int lane = (int)blockIdx.y;
  if (dead<TEAM>(f, rows.n[lane])) return;
  group g = group_of<TEAM>(f);
  const float *xs = fl_lane(x, lane), *ws = fl_lane(w, lane), *dys = fl_lane(dy, lane);
  const float *keep = fl_lane(stat, lane) + g.stat;
  float *dxs = fl_lane_out(dx, lane), mean = keep[0], inverse = keep[1], sum = 0, product = 0;
  each_element<TEAM>(f, g, [&](int64_t i, int channel) {
    float flow = dys[i] * ws[channel];
    sum += flow;
    product += flow * ((xs[i] - mean) * inverse);
  });
  sum = team_sum<TEAM>(sum, shared) / (float)g.n;
  product = team_sum<TEAM>(product, shared) / (float)g.n;
  each_element<TEAM>(f, g, [&](int64_t i, int channel) {
    dxs[i] = inverse * (dys[i] * ws[channel] - sum - (xs[i] - mean) * inverse * product);
  });
}

/* A block sums 32 channels over all live rows and pixels: each warp every 16th pixel, then the
 * warps' sums in order. */
static FL_KERNEL_BOUNDS(CHANNELS *LINES,
                        2) void gnorm_bwd_weights_columns(form f, fl_rows rows, fl_cspan x,
                                                          fl_cspan stat, fl_cspan dy,
                                                          fl_factors scale, fl_span gw,
                                                          fl_span gbias) {
  FL_SHARED(float, shared, [2][LINES][CHANNELS]);
  int lane = (int)blockIdx.y, line = (int)threadIdx.y, mine = (int)threadIdx.x;
  int channel = (int)blockIdx.x * CHANNELS + mine;
  const float *xs = fl_lane(x, lane), *dys = fl_lane(dy, lane), *stats = fl_lane(stat, lane);
  float weight = 0, shift = 0;
  for (int row = 0; channel < f.channels && row < rows.n[lane]; row++) {
    const float *keep = stats + 2 * ((int64_t)row * f.groups + channel / f.each);
    float mean = keep[0], inverse = keep[1], product = 0, sum = 0;
    for (int pixel = line; pixel < f.pixels; pixel += LINES) {
      int64_t i = ((int64_t)row * f.pixels + pixel) * f.channels + channel;
      product += (xs[i] - mean) * inverse * dys[i];
      sum += dys[i];
    }
    weight += product;
    shift += sum;
  }
  shared[0][line][mine] = weight;
  shared[1][line][mine] = shift;
  __syncthreads();
  if (line > 1 || channel >= f.channels || rows.n[lane] == 0) return;
  float total = 0;
  for (int k = 0; k < LINES; k++) total += shared[line][k][mine];
  fl_lane_out(line ? gbias : gw, lane)[channel] += scale.at[lane] * total;
}

/* Blocks for all groups of a lane's B images. */
static unsigned blocks_of(const form *f, int B, bool small) {
  return (unsigned)fl_ceil_div((int64_t)B * f->groups, small ? THREADS / 32 : 1);
}

fl_status fl_cuda_gnorm_fwd(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x, fl_cspan w,
                            fl_cspan bias, fl_span y, fl_span stat) {
  FL_TRY(fl_cuda_enter(d));
  form f = form_of(s, groups);
  bool small = f.pixels * f.each <= SMALL;
  auto kernel = small ? gnorm_fwd_teams<32> : gnorm_fwd_teams<THREADS>;
  for (int first = 0; first < b.C; first += FL_GROUP) {
    int lanes = min(b.C - first, (int)FL_GROUP);
    FL_LAUNCH(kernel, dim3(blocks_of(&f, b.B, small), (unsigned)lanes), dim3(THREADS), 0, d->stream,
              f, fl_rows_of(b, first, lanes), fl_cspan_from(x, first), fl_cspan_from(w, first),
              fl_cspan_from(bias, first), fl_span_from(y, first), fl_span_from(stat, first));
  }
  return FL_LAUNCHED("a group norm was queued");
}

fl_status fl_cuda_gnorm_bwd_data(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                 fl_cspan w, fl_cspan stat, fl_cspan dy, fl_span dx) {
  FL_TRY(fl_cuda_enter(d));
  form f = form_of(s, groups);
  bool small = f.pixels * f.each <= SMALL;
  auto kernel = small ? gnorm_bwd_data_teams<32> : gnorm_bwd_data_teams<THREADS>;
  for (int first = 0; first < b.C; first += FL_GROUP) {
    int lanes = min(b.C - first, (int)FL_GROUP);
    FL_LAUNCH(kernel, dim3(blocks_of(&f, b.B, small), (unsigned)lanes), dim3(THREADS), 0, d->stream,
              f, fl_rows_of(b, first, lanes), fl_cspan_from(x, first), fl_cspan_from(w, first),
              fl_cspan_from(stat, first), fl_cspan_from(dy, first), fl_span_from(dx, first));
  }
  return FL_LAUNCHED("a gradient of a group norm was queued");
}

fl_status fl_cuda_gnorm_bwd_weights(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                    fl_cspan stat, fl_cspan dy, fl_coef scale, fl_span gw,
                                    fl_span gbias) {
  FL_TRY(fl_cuda_enter(d));
  form f = form_of(s, groups);
  unsigned blocks = (unsigned)fl_ceil_div(s.channels, CHANNELS);
  for (int first = 0; first < b.C; first += FL_GROUP) {
    int lanes = min(b.C - first, (int)FL_GROUP);
    FL_LAUNCH(gnorm_bwd_weights_columns, dim3(blocks, (unsigned)lanes), dim3(CHANNELS, LINES), 0,
              d->stream, f, fl_rows_of(b, first, lanes), fl_cspan_from(x, first),
              fl_cspan_from(stat, first), fl_cspan_from(dy, first),
              fl_factors_of(scale, first, lanes), fl_span_from(gw, first),
              fl_span_from(gbias, first));
  }
  return FL_LAUNCHED("a gradient of a group norm was queued");
}
