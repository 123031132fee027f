/* Resident convolutions, stride 1, directly in fp32 from images in shared memory: a thread keeps a
 * few neighbouring pixels times OC channels (or the window's row of K weights times OC channels) in
 * registers, so that an fp32 unit gets 8 to 12 products of every float4 that is read. Images stream
 * through two buffers: while one stage is worked on, the next is copied. */
#ifndef FL_CUDA_RESIDENT_CONV_H
#define FL_CUDA_RESIDENT_CONV_H

#include "resident.h"
#include "tile.h"

enum {
  FL_SLACK = 32, /* floats that may be read past the last row */
};

static inline FL_HD int fl_planes_floats(const fl_planes &p, int n) {
  return n * p.plane + FL_SLACK;
}

/* Floats of one tap's filters of a group of OC channels. */
static inline FL_HD constexpr int fl_head_floats(int OC) { return OC <= 4 ? 4 : 8; }

static __device__ inline void resident_clear(float *at, int n) {
  for (int i = (int)threadIdx.x; i < n; i += FL_SEAT_THREADS) at[i] = 0;
}

/* Copies channels first .. first+n-1 of `images` images from image `image` on; those from `live` on
 * become zeros. V: floats a copy. */
template <int V>
static __device__ inline void resident_planes_of(float *to, const fl_planes &p, const float *from,
                                                 int image, int images, int live, int first,
                                                 int n) {
  int channels = p.size.channels, H = p.size.height, W = p.size.width;
  fl_stroll at = fl_stroll_begin(W / V, H);
  int ends = (live - image) * n; /* the first plane of a dead image */
  from += ((int64_t)image * channels + first) * H * W;
#pragma unroll 1
  for (; at.plane < images * n; fl_stroll_on(&at)) {
    int plane = at.plane;
    if (n < channels) plane += plane / n * (channels - n);
    const float *src = from + ((int64_t)plane * H + at.h) * W + V * at.w;
    fl_copy<V>(to + at.plane * p.plane + (at.h + p.pad) * p.pitch + p.pad + V * at.w,
               at.plane < ends ? src : NULL, from);
  }
}

static __device__ inline void resident_planes(float *to, const fl_planes &p, const float *from,
                                              int image, int images, int live, int first, int n) {
  if (p.size.width % 4 == 0 && p.pad % 4 == 0 && fl_even(from))
    resident_planes_of<4>(to, p, from, image, images, live, first, n);
  else
    resident_planes_of<1>(to, p, from, image, images, live, first, n);
}

/* Filters by tap and group of OC channels of the result: forward as they are; data: turned around,
 * with the roles of the channels exchanged. */
template <int K, int OC>
static __device__ inline void resident_filters(float *to, const float *w, int O, int I, int heads,
                                               bool data) {
  for (int e = (int)threadIdx.x; e < O * I * K * K; e += FL_SEAT_THREADS) {
    int o = e / (I * K * K), i = e / (K * K) % I, tap = e % (K * K);
    int result = data ? i : o, place = data ? o * K * K + K * K - 1 - tap : i * K * K + tap;
    to[(place * heads + result / OC) * fl_head_floats(OC) + result % OC] = w[e];
  }
}

template <int OC>
static __device__ inline void resident_taps(const float *at, float (&w)[OC]) {
  static_assert(OC == 4 || OC == 6, "aligned groups of filters");
  fl_read<4>(at, w);
  if constexpr (OC == 6) fl_read<2>(at + 4, w + 4);
}

/* Floats of shared memory that filters take, and that one stage takes. */
static inline FL_HD int resident_filter_floats(const fl_task &f) {
  int K = f.call.window.kernel;
  return f.in.size.channels * K * K * f.heads * fl_head_floats(f.head);
}

static inline FL_HD int resident_stage_floats(const fl_task &f) {
  return fl_planes_floats(f.in, f.group * f.channels);
}

/* Results of one thread: 2 rows of 4 pixels of OC channels. */
template <int OC>
struct resident_unit {
  float at[OC][2][4];
};

/* Adds what `channels` channels contribute: windows whose corner is at `from`. */
template <int K, int OC>
static __device__ inline void resident_windows(resident_unit<OC> &sum, const fl_planes &p,
                                               const float *from, const float *filter, int heads,
                                               int channels) {
#pragma unroll 1
  for (int c = 0; c < channels; c++, from += p.plane) {
    float above[8], below[8];
    fl_read<4>(from, above);
    fl_read<4>(from + 4, above + 4);
#pragma unroll 1
    for (int kh = 1; kh <= K; kh++) {
      fl_read<4>(from + kh * p.pitch, below);
      fl_read<4>(from + kh * p.pitch + 4, below + 4);
#pragma unroll
      for (int kw = 0; kw < K; kw++, filter += heads * fl_head_floats(OC)) {
        float w[OC];
        resident_taps<OC>(filter, w);
#pragma unroll
        for (int o = 0; o < OC; o++)
#pragma unroll
          for (int q = 0; q < 4; q++) {
            sum.at[o][0][q] += above[kw + q] * w[o];
            sum.at[o][1][q] += below[kw + q] * w[o];
          }
      }
#pragma unroll
      for (int q = 0; q < 8; q++) above[q] = below[q];
    }
  }
}

/* Relu and the largest of a window of 2 x 2; *place as in ops.h. */
static __device__ inline float resident_largest(float a, float b, float c, float d, int *place) {
  float in[4] = {a, b, c, d}, out = a;
  *place = 0;
#pragma unroll
  for (int k = 1; k < 4; k++)
    if (in[k] > out || in[k] != in[k]) {
      out = in[k];
      *place = k;
    }
  if (!(out > 0)) *place = 4;
  return out < 0 ? 0 : out;
}

/* What one thread has of a stage: pixel (h, w) of an image is the corner of its unit. */
typedef struct resident_spot {
  int w, h, image, head;
} resident_spot;

/* The number of a thread in disguise: what follows from it is computed where it is used, and takes
 * no registers elsewhere. */
static __device__ __forceinline__ int resident_thread() {
  int t = (int)threadIdx.x;
  asm volatile("" : "+r"(t));
  return t;
}

static __device__ inline resident_spot resident_spot_of(const fl_task &f, fl_image out) {
  int W = (out.width + 3) / 4, H = (out.height + 1) / 2, t = resident_thread();
  resident_spot at = {t % W * 4, t / W % H * 2, t / W / H % f.group, t / W / H / f.group};
  return at;
}

/* Relu, 2 x 2 max pooling, and what a unit's channel leaves of both. */
static __device__ inline void resident_put_pooled(const float (&v)[2][4], float *y, uint8_t *mask,
                                                  int left) {
#pragma unroll
  for (int q = 0; q < 4; q += 2) {
    int place;
    float largest = resident_largest(v[0][q], v[0][q + 1], v[1][q], v[1][q + 1], &place);
    if (q / 2 >= left) break;
    y[q / 2] = largest;
    mask[q / 2] = (uint8_t)place;
  }
}

/* A unit's channel, of which `high` rows and `wide` columns exist. was: where a relu behind the
 * result passes its gradient; NULL: everywhere. */
static __device__ inline void resident_put_plain(const float (&v)[2][4], float *y, const float *was,
                                                 bool relu, int pitch, int high, int wide) {
#pragma unroll
  for (int r = 0; r < 2; r++)
#pragma unroll
    for (int q = 0; q < 4; q++) {
      if (r >= high || q >= wide) continue;
      bool zero = was ? !(was[r * pitch + q] > 0) : relu && v[r][q] < 0;
      y[r * pitch + q] = zero ? 0 : v[r][q];
    }
}

template <int OC>
static __device__ inline void resident_put_unit(const fl_task &f, const fl_now &now, int first,
                                                resident_unit<OC> &sum) {
  const fl_call &c = f.call;
  bool data = c.op == FL_CALL_CONV_BWD_DATA;
  fl_image out = data ? c.window.in : c.window.out;
  resident_spot at = resident_spot_of(f, out);
  const float *bias = data ? NULL : fl_lane(c.in[2], now.lane), *was = NULL;
  float *y = fl_lane_out(c.out[0], now.lane);
  int half = c.pooled ? 2 : 1, H = out.height / half, W = out.width / half, channel = at.head * OC;
  int i = (((first + at.image) * out.channels + channel) * H + at.h / half) * W + at.w / half;
  if (at.head >= f.heads || first + at.image >= now.live) return;
  if (data && c.relu) was = fl_lane(c.in[2], now.lane) + i;
  uint8_t *mask = (uint8_t *)fl_lane_out(c.out[1], now.lane);
#pragma unroll
  for (int o = 0; o < OC; o++, i += H * W) {
    if (channel + o >= out.channels) break;
    float add = bias ? bias[channel + o] : 0;
#pragma unroll
    for (int q = 0; q < 8; q++) sum.at[o][q / 4][q % 4] += add;
    if (!c.pooled)
      resident_put_plain(sum.at[o], y + i, was ? was + o * H * W : NULL, c.relu, W, H - at.h,
                         W - at.w);
    else if (at.h / 2 < H)
      resident_put_pooled(sum.at[o], y + i, mask + i, W - at.w / 2);
  }
}

/* y, or dx from dy with turned filters. A thread keeps one unit of one image of a stage; a unit's
 * sums stay in registers while the channels of the input come by, and begin anew with each group of
 * images: in one loop over all stages they would be spilled once a stage. */
template <int K, int OC>
static __device__ __attribute__((noinline)) void resident_conv(const fl_task &f,
                                                               const fl_now &now) {
  const fl_call &c = f.call;
  float *filters = fl_room(now);
  resident_clear(filters, resident_filter_floats(f) + 2 * resident_stage_floats(f));
  __syncthreads();
  resident_filters<K, OC>(filters, fl_lane(c.in[1], now.lane), c.window.out.channels,
                          c.window.in.channels, f.heads, c.op == FL_CALL_CONV_BWD_DATA);
  auto buffer = [&](int stage) {
    return fl_room(now) + resident_filter_floats(f) + stage % 2 * resident_stage_floats(f);
  };
  auto copy = [&](int stage, int image, int channel) {
    if (image < now.live)
      resident_planes(buffer(stage), f.in, fl_lane(c.in[0], now.lane), image, f.group, now.live,
                      channel, min(f.channels, f.in.size.channels - channel));
    fl_cp_async_commit();
  };
  fl_image to = c.op == FL_CALL_CONV_BWD_DATA ? c.window.in : c.window.out;
  int channels = f.in.size.channels, stage = 0;
  copy(0, 0, 0);
#pragma unroll 1
  for (int image = 0; image < now.live; image += f.group) {
    resident_unit<OC> sum = {};
#pragma unroll 1
    for (int channel = 0, next; channel < channels; channel = next, stage++) {
      next = min(channel + f.channels, channels);
      fl_cp_async_wait<0>();
      __syncthreads(); /* the stage has arrived, and nobody reads the one before any more */
      copy(stage + 1, next < channels ? image : image + f.group, next < channels ? next : 0);
      resident_spot at = resident_spot_of(f, to);
      int n = next - channel;
      if (at.head < f.heads)
        resident_windows<K, OC>(
            sum, f.in, buffer(stage) + at.image * n * f.in.plane + at.h * f.in.pitch + at.w,
            fl_room(now) + (channel * K * K * f.heads + at.head) * fl_head_floats(OC), f.heads, n);
    }
    resident_put_unit<OC>(f, now, image, sum);
  }
}

/* Floats of one stage of images: dy, then x. */
static inline FL_HD int resident_sums_floats(const fl_task &f) {
  return f.group * f.out.size.channels * f.out.plane +
         fl_planes_floats(f.in, f.group * f.in.size.channels);
}

/* gw += scale * sum over images and pixels of dy times x. Thread t keeps the K weights of one row
 * of a window of one input channel, for OC outputs, over one share of the images' rows; the input
 * channel after the last is all ones and gives the bias. Shares are added up in order. */
template <int K, int OC>
static __device__ __attribute__((noinline)) void resident_conv_sums(const fl_task &f,
                                                                    const fl_now &now) {
  const fl_call &c = f.call;
  int I = c.window.in.channels, O = c.window.out.channels, H = c.window.out.height;
  int rows = I * K + 1, chains = f.heads * rows, shares = FL_SEAT_THREADS / chains;
  int t = (int)threadIdx.x, chain = t % chains, share = t / chains;
  int head = chain / rows, channel = chain % rows / K, kh = chain % rows % K;
  int stages = (now.live + f.group - 1) / f.group, size = resident_sums_floats(f);
  bool ones = channel == I;
  const float *x = fl_lane(c.in[0], now.lane), *dy = fl_lane(c.in[1], now.lane);
  float *one = fl_room(now), *buffer = one + FL_SLACK, acc[OC][K] = {};
  resident_clear(buffer, 2 * size);
  if (t < FL_SLACK) one[t] = 1;
  __syncthreads();
  auto copy = [&](int s) {
    float *to = buffer + s % 2 * size;
    if (s < stages) {
      resident_planes(to, f.out, dy, s * f.group, f.group, now.live, 0, O);
      resident_planes(to + f.group * O * f.out.plane, f.in, x, s * f.group, f.group, now.live, 0,
                      I);
    }
    fl_cp_async_commit();
  };
  copy(0);
#pragma unroll 1
  for (int s = 0; s < stages; s++) {
    fl_cp_async_wait<0>();
    __syncthreads(); /* stage s has arrived, and nobody reads stage s - 1 any more */
    copy(s + 1);
    const float *dys = buffer + s % 2 * size, *xs = dys + f.group * O * f.out.plane;
#pragma unroll 1
    for (int row = share; share < shares && row < f.group * H; row += shares) {
      int image = row / H, h = row % H, next = ones ? 0 : 4;
      const float *d = dys + (image * O + head * OC) * f.out.plane + h * f.out.pitch;
      const float *from = xs + (image * I + channel) * f.in.plane + (h + kh) * f.in.pitch;
      if (ones) from = one;
      float v[8];
      fl_read<4>(from, v);
#pragma unroll 1
      for (int w = 0; w < c.window.out.width; w += 4) {
        from += next;
        fl_read<4>(from, v + 4);
#pragma unroll
        for (int o = 0; o < OC; o++) {
          float four[4];
          fl_read<4>(d + o * f.out.plane + w, four);
#pragma unroll
          for (int q = 0; q < 4; q++)
#pragma unroll
            for (int kw = 0; kw < K; kw++) acc[o][kw] += four[q] * v[q + kw];
        }
#pragma unroll
        for (int q = 0; q < 4; q++) v[q] = v[q + 4];
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int e = 0; e < OC * K; e++)
    if (share < shares) buffer[(share * OC * K + e) * chains + chain] = acc[e / K][e % K];
  __syncthreads();
  float *gw = fl_lane_out(c.out[0], now.lane), *gbias = fl_lane_out(c.out[1], now.lane);
  for (int e = t; e < O * I * K * K + (gbias ? O : 0); e += FL_SEAT_THREADS) {
    int bias = e - O * I * K * K, o = bias < 0 ? e / (I * K * K) : bias;
    int at = bias < 0 ? e / K % (I * K) : I * K, kw = bias < 0 ? e % K : 0;
    float *to = bias < 0 ? gw + e : gbias + bias, sum = 0;
    for (int s = 0; s < shares; s++)
      sum += buffer[(s * OC * K + o % OC * K + kw) * chains + o / OC * rows + at];
    *to = fmaf(c.a, sum, *to);
  }
}

#endif
