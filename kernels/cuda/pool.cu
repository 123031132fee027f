/* Pooling of images with channels fastest: a thread takes V = 4 neighbouring channels of one pixel,
 * or one where channels are no multiple of 4. Time is bytes over bandwidth; what several windows or
 * pixels read is found in the L1 cache. Max of 2 x 2 on 64 channels of 28 x 28, 50 lanes of 10
 * rows: forward 125 MB (42 us at 3 TB/s), backward 251 MB (84 us). */
#include <math.h>

#include "block.h"
#include "cuda.h"
#include "window.h"

enum { THREADS = 256 };

/* What element block `e` of an image of `size` is: pixel (h, w) of image row, first channel. */
typedef struct spot {
  int row, h, w, channel;
} spot;

template <int V>
static __device__ inline spot spot_of(fl_image size, int e) {
  int vectors = size.channels / V, pixel = e / vectors;
  spot at = {0, 0, 0, (e - pixel * vectors) * V};
  int line = pixel / size.width;
  at.w = pixel - line * size.width;
  at.row = line / size.height;
  at.h = line - at.row * size.height;
  return at;
}

static __device__ inline int64_t element(fl_image size, spot at, int h, int w) {
  return (((int64_t)at.row * size.height + h) * size.width + w) * size.channels + at.channel;
}

template <int V>
static __device__ inline void read(const float *at, float (&out)[V]) {
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
static __device__ inline void write(float *at, const float (&v)[V]) {
  if constexpr (V == 4)
    *(float4 *)at = make_float4(v[0], v[1], v[2], v[3]);
  else
    *at = v[0];
}

/* One byte a channel. */
template <int V>
static __device__ inline void read_bytes(const uint8_t *at, uint8_t (&out)[V]) {
  if constexpr (V == 4) {
    uint32_t all = *(const uint32_t *)at;
    for (int v = 0; v < 4; v++) out[v] = (uint8_t)(all >> 8 * v);
  } else {
    out[0] = *at;
  }
}

/* The first largest of a window, or its mean; a NaN is larger than everything. */
template <int V>
static FL_KERNEL_BOUNDS(THREADS, 3) void pool_fwd_windows(fl_sides s, fl_rows rows, fl_pooling kind,
                                                          fl_cspan x, fl_span y) {
  int e = (int)(blockIdx.x * THREADS + threadIdx.x);
  spot at = spot_of<V>(s.out, e);
  if (at.row >= rows.n[blockIdx.y]) return;
  const float *xs = fl_lane(x, (int)blockIdx.y);
  float out[V], in[V];
  bool max = kind == FL_POOL_MAX;
  for (int v = 0; v < V; v++) out[v] = max ? -INFINITY : 0;
  int top = at.h * s.stride_h - s.pad_h, left = at.w * s.stride_w - s.pad_w;
  for (int h = top < 0 ? 0 : top; h < min(top + s.kernel_h, s.in.height); h++)
    for (int w = left < 0 ? 0 : left; w < min(left + s.kernel_w, s.in.width); w++) {
      read<V>(xs + element(s.in, at, h, w), in);
      for (int v = 0; v < V; v++)
        if (!max)
          out[v] += in[v];
        else if (in[v] > out[v] || in[v] != in[v])
          out[v] = in[v];
    }
  float share = max ? 1 : 1.0f / (float)(s.kernel_h * s.kernel_w);
  for (int v = 0; v < V; v++) out[v] *= share;
  write<V>(fl_lane_out(y, (int)blockIdx.y) + element(s.out, at, at.h, at.w), out);
}

/* For max, the gradient of window (h, w) in dy is kept for the channels whose first largest element
 * is the pixel `at`: one that is not less than the window's result y (a NaN is not less), where all
 * that come before it are. */
template <int V>
static __device__ inline void keep_first(const fl_sides &s, spot at, int h, int w, const float *xs,
                                         const float (&y)[V], float (&dy)[V]) {
  float in[V];
  read<V>(xs + element(s.in, at, at.h, at.w), in);
  for (int v = 0; v < V; v++)
    if (in[v] < y[v]) dy[v] = 0;
  int top = h * s.stride_h - s.pad_h, left = w * s.stride_w - s.pad_w;
  for (int i = top < 0 ? 0 : top; i <= at.h; i++)
    for (int j = left < 0 ? 0 : left; j < min(left + s.kernel_w, s.in.width); j++) {
      if (i == at.h && j >= at.w) return;
      read<V>(xs + element(s.in, at, i, j), in);
      for (int v = 0; v < V; v++)
        if (!(in[v] < y[v])) dy[v] = 0;
    }
}

/* A thread gathers what the windows that hold its pixel send back, in scan order. */
template <int V>
static FL_KERNEL_BOUNDS(THREADS, 3) void pool_bwd_gather(fl_sides s, fl_rows rows, fl_pooling kind,
                                                         fl_cspan x, fl_cspan y, fl_cspan dy,
                                                         fl_span dx) {
  int e = (int)(blockIdx.x * THREADS + threadIdx.x);
  spot at = spot_of<V>(s.in, e);
  if (at.row >= rows.n[blockIdx.y]) return;
  const float *xs = fl_lane(x, (int)blockIdx.y), *ys = fl_lane(y, (int)blockIdx.y);
  const float *dys = fl_lane(dy, (int)blockIdx.y);
  bool max = kind == FL_POOL_MAX;
  float sum[V] = {}, share = max ? 1 : 1.0f / (float)(s.kernel_h * s.kernel_w);
  int below = at.h + s.pad_h, right = at.w + s.pad_w;
  int h = below < s.kernel_h ? 0 : (below - s.kernel_h) / s.stride_h + 1;
  for (; h <= min(below / s.stride_h, s.out.height - 1); h++) {
    int w = right < s.kernel_w ? 0 : (right - s.kernel_w) / s.stride_w + 1;
    for (; w <= min(right / s.stride_w, s.out.width - 1); w++) {
      int64_t window = element(s.out, at, h, w);
      float gradient[V], result[V];
      read<V>(dys + window, gradient);
      if (max) {
        read<V>(ys + window, result);
        keep_first<V>(s, at, h, w, xs, result, gradient);
      }
      for (int v = 0; v < V; v++) sum[v] += gradient[v];
    }
  }
  for (int v = 0; v < V; v++) sum[v] *= share;
  write<V>(fl_lane_out(dx, (int)blockIdx.y) + element(s.in, at, at.h, at.w), sum);
}

/* A thread's pixels and channels of dx: dy where the mask names the pixel's place in its window, 0
 * elsewhere and in the last row or column that no window holds. */
template <int V>
static FL_KERNEL_BOUNDS(THREADS, 3) void pool_relu_bwd_scatter(fl_window s, fl_rows rows,
                                                               fl_cspan mask, fl_cspan dy,
                                                               fl_span dx) {
  int e = (int)(blockIdx.x * THREADS + threadIdx.x);
  fl_image cells = {s.in.channels, (s.in.height + 1) / 2, (s.in.width + 1) / 2};
  spot at = spot_of<V>(cells, e);
  if (at.row >= rows.n[blockIdx.y]) return;
  float gradient[V] = {};
  uint8_t kept[V];
  for (int v = 0; v < V; v++) kept[v] = 4;
  if (at.h < s.out.height && at.w < s.out.width) {
    int64_t window = element(s.out, at, at.h, at.w);
    const float *places = fl_lane(mask, (int)blockIdx.y);
    read<V>(fl_lane(dy, (int)blockIdx.y) + window, gradient);
    read_bytes<V>(reinterpret_cast<const uint8_t *>(places) + window, kept);
  }
  float *dxs = fl_lane_out(dx, (int)blockIdx.y);
  for (int place = 0; place < 4; place++) {
    int h = 2 * at.h + place / 2, w = 2 * at.w + place % 2;
    if (h >= s.in.height || w >= s.in.width) continue;
    float out[V];
    for (int v = 0; v < V; v++) out[v] = kept[v] == place ? gradient[v] : 0;
    write<V>(dxs + element(s.in, at, h, w), out);
  }
}

/* Errors: UNSUPPORTED for more than 2^31 elements a lane. */
static fl_status check(fl_batch b, const fl_window *s) {
  if (b.B * fl_image_size(s->in) <= INT32_MAX - THREADS &&
      b.B * fl_image_size(s->out) <= INT32_MAX - THREADS)
    return FEDLANE_OK;
  return fl_fail(
      FEDLANE_UNSUPPORTED,
      "%d images of %d x %d x %d are too many for pooling on cuda: at most 2^31 elements", b.B,
      s->in.channels, s->in.height, s->in.width);
}

fl_status fl_cuda_pool_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                           fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  FL_TRY(check(b, s));
  bool vectors = s->in.channels % 4 == 0 && fl_span_even(x) && fl_span_even(fl_const(y));
  auto kernel = vectors ? pool_fwd_windows<4> : pool_fwd_windows<1>;
  int64_t blocks = fl_ceil_div(b.B * fl_image_size(s->out) / (vectors ? 4 : 1), THREADS);
  for (int first = 0; first < b.C; first += FL_GROUP) {
    int lanes = min(b.C - first, (int)FL_GROUP);
    FL_LAUNCH(kernel, dim3((unsigned)blocks, (unsigned)lanes), dim3(THREADS), 0, d->stream,
              fl_sides_of(s), fl_rows_of(b, first, lanes), kind, fl_cspan_from(x, first),
              fl_span_from(y, first));
  }
  return FL_LAUNCHED("a pooling was queued");
}

fl_status fl_cuda_pool_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                           fl_cspan y, fl_cspan dy, fl_span dx) {
  FL_TRY(fl_cuda_enter(d));
  FL_TRY(check(b, s));
  bool vectors = s->in.channels % 4 == 0 && fl_span_even(x) && fl_span_even(y) &&
                 fl_span_even(dy) && fl_span_even(fl_const(dx));
  auto kernel = vectors ? pool_bwd_gather<4> : pool_bwd_gather<1>;
  int64_t blocks = fl_ceil_div(b.B * fl_image_size(s->in) / (vectors ? 4 : 1), THREADS);
  for (int first = 0; first < b.C; first += FL_GROUP) {
    int lanes = min(b.C - first, (int)FL_GROUP);
    FL_LAUNCH(kernel, dim3((unsigned)blocks, (unsigned)lanes), dim3(THREADS), 0, d->stream,
              fl_sides_of(s), fl_rows_of(b, first, lanes), kind, fl_cspan_from(x, first),
              fl_cspan_from(y, first), fl_cspan_from(dy, first), fl_span_from(dx, first));
  }
  return FL_LAUNCHED("a gradient of pooling was queued");
}

/* Of 64 channels of 28 x 28, 50 lanes of 10 rows: 25 MB of dy, 6 MB of masks and 100 MB of dx (44
 * us at 3 TB/s), each byte once; pool_bwd and act_bwd together move 552 MB. */
fl_status fl_cuda_pool_relu_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan mask,
                                fl_cspan dy, fl_span dx) {
  FL_TRY(fl_cuda_enter(d));
  FL_TRY(check(b, s));
  bool vectors = s->in.channels % 4 == 0 && fl_span_even(dy) && fl_span_even(fl_const(dx));
  auto kernel = vectors ? pool_relu_bwd_scatter<4> : pool_relu_bwd_scatter<1>;
  int64_t cells = (int64_t)b.B * ((s->in.height + 1) / 2) * ((s->in.width + 1) / 2);
  int64_t blocks = fl_ceil_div(cells * s->in.channels / (vectors ? 4 : 1), THREADS);
  for (int first = 0; first < b.C; first += FL_GROUP) {
    int lanes = min(b.C - first, (int)FL_GROUP);
    FL_LAUNCH(kernel, dim3((unsigned)blocks, (unsigned)lanes), dim3(THREADS), 0, d->stream, *s,
              fl_rows_of(b, first, lanes), fl_cspan_from(mask, first), fl_cspan_from(dy, first),
              fl_span_from(dx, first));
  }
  return FL_LAUNCHED("a gradient of pooling was queued");
}
