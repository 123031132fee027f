#include <math.h>

#include "rows.h"

enum { THREADS = 256, CHANNELS = 128 }; /* channels of one launch of gather */

/* The part of a source that one launch covers: channels first .. first+n-1. */
typedef struct part {
  int first, n;
  float shift[CHANNELS], scale[CHANNELS];
} part;

/* Value `at`, of channel k of the part, of the data. */
static __device__ inline float scaled(const fl_source *source, const part *part, int64_t at,
                                      int k) {
  float x = source->bytes ? ((const uint8_t *)source->x)[at] : ((const float *)source->x)[at];
  return (x - part->shift[k]) * part->scale[k];
}

/* Channel k of the part at (h, w) of the scaled image, which is 0 around its edges. */
static __device__ inline float pixel(const fl_source *source, const part *part, int64_t example,
                                     int k, int h, int w) {
  fl_image s = source->image;
  if (h < 0 || h >= s.height || w < 0 || w >= s.width) return 0;
  return scaled(source, part,
                ((example * s.channels + part->first + k) * s.height + h) * s.width + w, k);
}

/* A block makes one row: its image or sequence, and with the first channels its labels and targets.
 * Steps are to a sequence what pixels are to an image, but the data have them outside. */
static FL_KERNEL_BOUNDS(THREADS, 4) void gather_rows(fl_rows rows, int B, fl_source source,
                                                     part part, const int32_t *index,
                                                     int64_t index_stride, fl_keys keys, fl_span x,
                                                     int32_t *label, fl_span target) {
  int lane = blockIdx.y, row = blockIdx.x, T = source.n_target, L = source.n_label;
  fl_image s = source.image;
  int places = s.steps > 0 ? s.steps : s.height * s.width;
  bool live = row < rows.n[lane];
  int64_t example = live ? index[lane * index_stride + row] : -1;
  float *image = fl_lane_out(x, lane) + (int64_t)row * places * s.channels;
  fl_key key = fl_keys_at(&keys, lane);
  fl_cut cut = fl_draw_cut(&source, &key, row);
  for (int i = threadIdx.x; i < places * part.n; i += THREADS) {
    int k = i % part.n, at = i / part.n, h = at / s.width, w = at % s.width;
    int column = cut.flip ? s.width - 1 - w : w;
    float v = 0;
    if (live && s.steps > 0)
      v = scaled(&source, &part, (example * places + at) * s.channels + part.first + k, k);
    else if (live)
      v = pixel(&source, &part, example, k, h + cut.down, column + cut.right);
    image[(int64_t)at * s.channels + part.first + k] = v;
  }
  if (part.first > 0) return;
  for (int i = threadIdx.x; label && i < L; i += THREADS)
    label[((int64_t)lane * B + row) * L + i] = live ? source.label[example * L + i] : -1;
  for (int t = threadIdx.x; target.at && t < T; t += THREADS)
    fl_lane_out(target, lane)[(int64_t)row * T + t] = live ? source.target[example * T + t] : 0;
}

static part part_of(const fl_source *source, int first) {
  part part = {first, source->image.channels - first, {0}, {0}};
  if (part.n > CHANNELS) part.n = CHANNELS;
  for (int k = 0; k < part.n; k++) {
    part.shift[k] = source->shift[first + k];
    part.scale[k] = source->scale[first + k];
  }
  return part;
}

fl_status fl_cuda_gather(fl_dev *d, fl_batch b, const fl_source *source, const int32_t *index,
                         int64_t index_stride, const fl_draw *draw, fl_span x, int32_t *label,
                         fl_span target) {
  FL_TRY(fl_cuda_enter(d));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    for (int first = 0; first < source->image.channels; first += CHANNELS)
      FL_LAUNCH(gather_rows, dim3((unsigned)b.B, (unsigned)lanes), THREADS, 0, d->stream,
                fl_rows_of(b, c, lanes), b.B, *source, part_of(source, first),
                index + c * index_stride, index_stride, fl_keys_of(draw, c, lanes),
                fl_span_from(x, c), label ? label + (int64_t)c * b.B * source->n_label : NULL,
                fl_span_from(target, c));
  }
  return FL_LAUNCHED("a batch was gathered");
}

static dim3 grid_of(int64_t n, int lanes) {
  return dim3((unsigned)fl_ceil_div(n, 4 * THREADS), (unsigned)lanes);
}

/* A pair of normal numbers, cosine first, from a pair of words. */
static __device__ inline float2 normal_pair(uint32_t first, uint32_t second, float deviation) {
  float radius = deviation * sqrtf(-2 * logf(fl_unit_float(first)));
  float2 on_circle;
  sincosf(6.28318530717958647692f * fl_unit_float(second), &on_circle.y, &on_circle.x);
  return float2{radius * on_circle.x, radius * on_circle.y};
}

static FL_KERNEL_BOUNDS(THREADS, 4) void normal_vec4(int64_t n, fl_keys keys, fl_factors deviation,
                                                     fl_span x, bool even) {
  int64_t quad = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (4 * quad >= n) return;
  float *xs = fl_lane_out(x, blockIdx.y);
  fl_key key = fl_keys_at(&keys, blockIdx.y);
  fl_words words = fl_rng_block(&key, (uint32_t)quad);
  float2 low = normal_pair(words.v[0], words.v[1], deviation.at[blockIdx.y]);
  float2 high = normal_pair(words.v[2], words.v[3], deviation.at[blockIdx.y]);
  float4 v = fl_load4(xs, 4 * quad, n, even);
  fl_store4(xs, 4 * quad, n, even, float4{v.x + low.x, v.y + low.y, v.z + high.x, v.w + high.y});
}

fl_status fl_cuda_normal(fl_dev *d, int C, int64_t n, const fl_draw *draw, fl_coef deviation,
                         fl_span x) {
  FL_TRY(fl_cuda_enter(d));
  for (int c = 0, lanes; n > 0 && c < C; c += lanes) {
    lanes = fl_group(C - c, 0);
    FL_LAUNCH(normal_vec4, grid_of(n, lanes), THREADS, 0, d->stream, n, fl_keys_of(draw, c, lanes),
              fl_factors_of(deviation, c, lanes), fl_span_from(x, c), fl_span_even(fl_const(x)));
  }
  return FL_LAUNCHED("normal noise was queued");
}

/* Product and sum round one after the other, so that every backend draws the same weights. */
static FL_KERNEL_BOUNDS(THREADS, 4) void uniform_vec4(int64_t n, fl_keys keys, float lo, float hi,
                                                      fl_span x, bool even) {
  int64_t quad = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (4 * quad >= n) return;
  fl_key key = fl_keys_at(&keys, blockIdx.y);
  fl_words words = fl_rng_block(&key, (uint32_t)quad);
  float v[4];
#pragma unroll
  for (int e = 0; e < 4; e++) v[e] = __fadd_rn(lo, __fmul_rn(hi - lo, fl_unit_float(words.v[e])));
  fl_store4(fl_lane_out(x, blockIdx.y), 4 * quad, n, even, float4{v[0], v[1], v[2], v[3]});
}

fl_status fl_cuda_uniform(fl_dev *d, int C, int64_t n, const fl_draw *draw, float lo, float hi,
                          fl_span x) {
  FL_TRY(fl_cuda_enter(d));
  for (int c = 0, lanes; n > 0 && c < C; c += lanes) {
    lanes = fl_group(C - c, 0);
    FL_LAUNCH(uniform_vec4, grid_of(n, lanes), THREADS, 0, d->stream, n, fl_keys_of(draw, c, lanes),
              lo, hi, fl_span_from(x, c), fl_span_even(fl_const(x)));
  }
  return FL_LAUNCHED("uniform numbers were queued");
}
