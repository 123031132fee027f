/* Depthwise convolutions of images with channels fastest. A block takes 32 neighbouring channels,
 * whose filters it turns over into shared memory, tap by tap, so that neighbouring threads read
 * neighbouring numbers; what several windows see of the images is found in the L1 cache. */
#include "cuda.h"
#include "window.h"

enum {
  THREADS = 256,
  SLICE = 32,                        /* channels of a block */
  PIXELS = 64,                       /* of a block */
  TAPS_MOST = 48 * 1024 / 4 / SLICE, /* filters that fit into shared memory */
  TAPS = 9,                          /* of one block of the filters' gradients */
  SHARES = THREADS / SLICE,
};

template <int V>
static __device__ __forceinline__ void read(const float *at, float (&out)[V]) {
  if constexpr (V == 4) {
    float4 v = *(const float4 *)at;
    out[0] = v.x;
    out[1] = v.y;
    out[2] = v.z;
    out[3] = v.w;
  } else {
    out[0] = *at;
  }
}

template <int V>
static __device__ __forceinline__ void write(float *at, const float (&v)[V]) {
  if constexpr (V == 4)
    *(float4 *)at = make_float4(v[0], v[1], v[2], v[3]);
  else
    *at = v[0];
}

/* A pixel of one of a lane's images, counted through all of them. */
typedef struct spot {
  int image, h, w;
} spot;

static __device__ __forceinline__ spot spot_of(const fl_image &size, int n) {
  int row = n / size.width, image = row / size.height;
  spot at = {image, row - image * size.height, n - row * size.width};
  return at;
}

static __device__ __forceinline__ int64_t element(const fl_image &size, int image, int h, int w) {
  return (((int64_t)image * size.height + h) * size.width + w) * size.channels;
}

/* sum += what V channels of an output pixel see through their filters. */
template <int V>
static __device__ __forceinline__ void look(const fl_sides &s, spot at, const float *x,
                                            const float *filter, float (&sum)[V]) {
  int top = at.h * s.stride_h - s.pad_h, left = at.w * s.stride_w - s.pad_w;
  for (int kh = max(0, -top); kh < min(s.kernel_h, s.in.height - top); kh++)
    for (int kw = max(0, -left); kw < min(s.kernel_w, s.in.width - left); kw++) {
      float in[V], tap[V];
      read<V>(x + element(s.in, at.image, top + kh, left + kw), in);
      read<V>(filter + (kh * s.kernel_w + kw) * SLICE, tap);
      for (int v = 0; v < V; v++) sum[v] += in[v] * tap[v];
    }
}

/* sum += what the windows that hold an input pixel send back. */
template <int V>
static __device__ __forceinline__ void look_back(const fl_sides &s, spot at, const float *dy,
                                                 const float *filter, float (&sum)[V]) {
  int below = at.h + s.pad_h, right = at.w + s.pad_w;
  int h = below < s.kernel_h ? 0 : (below - s.kernel_h) / s.stride_h + 1;
  int first = right < s.kernel_w ? 0 : (right - s.kernel_w) / s.stride_w + 1;
  for (; h <= min(below / s.stride_h, s.out.height - 1); h++)
    for (int w = first; w <= min(right / s.stride_w, s.out.width - 1); w++) {
      float in[V], tap[V];
      int kh = below - h * s.stride_h, kw = right - w * s.stride_w;
      read<V>(dy + element(s.out, at.image, h, w), in);
      read<V>(filter + (kh * s.kernel_w + kw) * SLICE, tap);
      for (int v = 0; v < V; v++) sum[v] += in[v] * tap[v];
    }
}

/* The forward pass, or the gradient of the input: a thread takes V channels of some of the block's
 * pixels. Blocks: pixels by slices of channels, these fastest, by lanes. */
template <int V, bool BACK>
static FL_KERNEL_BOUNDS(THREADS, 3) void depthwise_pixels(fl_sides s, fl_rows rows, fl_cspan from,
                                                          fl_cspan w, fl_cspan bias, fl_span to) {
  constexpr int vectors = SLICE / V;
  FL_SHARED_DYNAMIC(float, filter);
  fl_image size = BACK ? s.in : s.out;
  int slices = (size.channels + SLICE - 1) / SLICE, lane = (int)blockIdx.y;
  int first = (int)blockIdx.x % slices * SLICE, begin = (int)blockIdx.x / slices * PIXELS;
  int channels = min((int)SLICE, size.channels - first), taps = s.kernel_h * s.kernel_w;
  int live = rows.n[lane] * size.height * size.width, end = min(begin + PIXELS, live);
  if (begin >= live) return;
  const float *ws = fl_lane(w, lane) + (int64_t)first * taps;
  for (int e = (int)threadIdx.x; e < channels * taps; e += THREADS)
    filter[e % taps * SLICE + e / taps] = ws[e];
  __syncthreads();
  int channel = (int)threadIdx.x % vectors * V;
  if (channel >= channels) return;
  const float *seen = fl_lane(from, lane) + first + channel, *add = fl_lane(bias, lane);
  float *out = fl_lane_out(to, lane) + first + channel;
  for (int n = begin + (int)threadIdx.x / vectors; n < end; n += THREADS / vectors) {
    float sum[V] = {};
    for (int v = 0; add && v < V; v++) sum[v] = add[first + channel + v];
    if constexpr (BACK)
      look_back<V>(s, spot_of(size, n), seen, filter + channel, sum);
    else
      look<V>(s, spot_of(size, n), seen, filter + channel, sum);
    write<V>(out + (int64_t)n * size.channels, sum);
  }
}

/* gw += scale * the gradient of TAPS taps of a slice's filters, and likewise gbias: a warp takes
 * every SHARES-th pixel of the lane's live images, and the warps' sums are added in their order.
 * Blocks: groups of taps by slices of channels, these fastest, by lanes. */
static FL_KERNEL_BOUNDS(THREADS, 4) void depthwise_weights(fl_sides s, fl_rows rows,
                                                           fl_factors scale, fl_cspan x,
                                                           fl_cspan dy, fl_span gw, fl_span gbias) {
  FL_SHARED(float, sums, [SHARES][TAPS + 1][SLICE]);
  int slices = (s.in.channels + SLICE - 1) / SLICE, lane = (int)blockIdx.y;
  int first = (int)blockIdx.x % slices * SLICE, tap = (int)blockIdx.x / slices * TAPS;
  int mine = (int)threadIdx.x % SLICE, share = (int)threadIdx.x / SLICE;
  int taps = s.kernel_h * s.kernel_w, live = rows.n[lane] * s.out.height * s.out.width;
  int down[TAPS], right[TAPS];
  float sum[TAPS + 1] = {};
#pragma unroll
  for (int t = 0; t < TAPS; t++) {
    down[t] = tap + t < taps ? (tap + t) / s.kernel_w : s.in.height + s.pad_h;
    right[t] = (tap + t) % s.kernel_w;
  }
  const float *xs = fl_lane(x, lane) + first + mine, *dys = fl_lane(dy, lane) + first + mine;
  for (int n = share; first + mine < s.in.channels && n < live; n += SHARES) {
    spot at = spot_of(s.out, n);
    int top = at.h * s.stride_h - s.pad_h, left = at.w * s.stride_w - s.pad_w;
    float g = dys[(int64_t)n * s.out.channels];
#pragma unroll
    for (int t = 0; t < TAPS; t++) {
      int h = top + down[t], w = left + right[t];
      bool inside = (unsigned)h < (unsigned)s.in.height && (unsigned)w < (unsigned)s.in.width;
      sum[t] += inside ? g * xs[element(s.in, at.image, h, w)] : 0;
    }
    sum[TAPS] += g;
  }
#pragma unroll
  for (int t = 0; t <= TAPS; t++) sums[share][t][mine] = sum[t];
  __syncthreads();
  for (int t = share; t <= TAPS; t += SHARES) {
    float total = 0;
    for (int k = 0; k < SHARES; k++) total += sums[k][t][mine];
    int64_t channel = first + mine;
    if (channel >= s.in.channels || live == 0) continue;
    if (t < TAPS && tap + t < taps)
      fl_lane_out(gw, lane)[channel * taps + tap + t] += scale.at[lane] * total;
    if (t == TAPS && tap == 0 && gbias.at)
      fl_lane_out(gbias, lane)[channel] += scale.at[lane] * total;
  }
}

/* Errors: UNSUPPORTED for more than 2^31 elements a lane, and for windows beyond TAPS_MOST. */
static fl_status check(fl_batch b, const fl_window *s) {
  if ((int64_t)fl_window_kernel_h(s) * s->kernel > TAPS_MOST)
    return fl_fail(FEDLANE_UNSUPPORTED,
                   "a depthwise window of %d x %d is too large for cuda: at most %d places",
                   fl_window_kernel_h(s), s->kernel, (int)TAPS_MOST);
  if (b.B * fl_image_size(s->in) <= INT32_MAX && b.B * fl_image_size(s->out) <= INT32_MAX)
    return FEDLANE_OK;
  return fl_fail(FEDLANE_UNSUPPORTED,
                 "%d images of %d x %d x %d are too many for a depthwise convolution on cuda: at "
                 "most 2^31 elements",
                 b.B, s->in.channels, s->in.height, s->in.width);
}

static unsigned slices_of(const fl_window *s) {
  return (unsigned)fl_ceil_div(s->in.channels, SLICE);
}

template <int V, bool BACK>
static fl_status launch(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan from, fl_cspan w,
                        fl_cspan bias, fl_span to) {
  fl_image size = BACK ? s->in : s->out;
  int64_t tiles = fl_ceil_div((int64_t)b.B * size.height * size.width, PIXELS);
  size_t bytes = sizeof(float) * SLICE * (size_t)fl_window_kernel_h(s) * (size_t)s->kernel;
  for (int first = 0; first < b.C; first += FL_GROUP) {
    int lanes = min(b.C - first, (int)FL_GROUP);
    FL_LAUNCH((depthwise_pixels<V, BACK>), dim3((unsigned)tiles * slices_of(s), (unsigned)lanes),
              dim3(THREADS), bytes, d->stream, fl_sides_of(s), fl_rows_of(b, first, lanes),
              fl_cspan_from(from, first), fl_cspan_from(w, first), fl_cspan_from(bias, first),
              fl_span_from(to, first));
  }
  return FL_LAUNCHED("a depthwise convolution was queued");
}

static bool in_vectors(const fl_window *s, fl_cspan from, fl_span to) {
  return s->in.channels % 4 == 0 && fl_span_even(from) && fl_span_even(fl_const(to));
}

/* For 3 x 3 on 64 channels of 32 x 32, 50 lanes of 10 rows: 262 MB (87 us at 3 TB/s). */
fl_status fl_cuda_depthwise_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                                fl_cspan bias, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  FL_TRY(check(b, s));
  if (in_vectors(s, x, y)) return launch<4, false>(d, b, s, x, w, bias, y);
  return launch<1, false>(d, b, s, x, w, bias, y);
}

/* As many bytes as forward. */
fl_status fl_cuda_depthwise_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                     fl_cspan w, fl_span dx) {
  const fl_cspan none = {NULL, 0};
  FL_TRY(fl_cuda_enter(d));
  FL_TRY(check(b, s));
  if (in_vectors(s, dy, dx)) return launch<4, true>(d, b, s, dy, w, none, dx);
  return launch<1, true>(d, b, s, dy, w, none, dx);
}

/* As many bytes as forward up to 9 taps, and as many again for each 9 more. */
fl_status fl_cuda_depthwise_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                        fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias) {
  FL_TRY(fl_cuda_enter(d));
  FL_TRY(check(b, s));
  unsigned groups = (unsigned)fl_ceil_div(fl_window_kernel_h(s) * s->kernel, TAPS);
  for (int first = 0; first < b.C; first += FL_GROUP) {
    int lanes = min(b.C - first, (int)FL_GROUP);
    FL_LAUNCH(depthwise_weights, dim3(groups * slices_of(s), (unsigned)lanes), dim3(THREADS), 0,
              d->stream, fl_sides_of(s), fl_rows_of(b, first, lanes),
              fl_factors_of(scale, first, lanes), fl_cspan_from(x, first), fl_cspan_from(dy, first),
              fl_span_from(gw, first), fl_span_from(gbias, first));
  }
  return FL_LAUNCHED("a gradient of depthwise filters was queued");
}
