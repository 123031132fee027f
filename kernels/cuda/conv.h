/* What the convolution kernels share: where the pixels that a window sees are.
 *
 * All three products of a convolution are computed without ever writing the matrix of windows: the
 * blocks copy its elements from the images as they need them (implicit GEMM). */
#ifndef FL_CUDA_CONV_H
#define FL_CUDA_CONV_H

#include "tile.h"

enum { FL_IMAGE_SIDE = 0x3fff }; /* most rows or columns of an image: corners take 16 bits */

/* One convolution. Pixel (h, w) of the image `to` sees, through place (kh, kw) of the window, pixel
 * ((h*step - pad + kh) / spread, likewise) of the image `from`, if that is whole and inside. The
 * forward pass has spread 1; the gradient of the input is a convolution with step 1, spread the
 * layer's stride, and the filters turned around. */
typedef struct fl_conv {
  fl_image to, from;
  int kernel, step, spread, pad;
} fl_conv;

static inline FL_HD int fl_conv_depth(const fl_conv *s) {
  return s->kernel * s->kernel * s->from.channels;
}

/* UNSUPPORTED for images that do not fit the kernels' 32-bit and 16-bit numbers. */
static inline fl_status fl_conv_check(const fl_conv *s, int B) {
  int most = s->to.height > s->to.width ? s->to.height : s->to.width;
  if (s->from.height > most) most = s->from.height;
  if (s->from.width > most) most = s->from.width;
  int64_t pixels = (int64_t)B * most * most;
  if (most <= FL_IMAGE_SIDE && pixels <= INT32_MAX / 2) return FEDLANE_OK;
  return fl_fail(FEDLANE_UNSUPPORTED,
                 "a batch of %d images of %d x %d is too large for a convolution on cuda: at most "
                 "%d x %d, and 2^30 pixels",
                 B, s->from.height, s->from.width, FL_IMAGE_SIDE, FL_IMAGE_SIDE);
}

/* --- where the pixels of a window are ------------------------------------------------------- */
/* A pixel of `to`: the first pixel of its image in `from`, and the window's corner. */
typedef struct fl_corner {
  int image;
  int16_t h, w;
} fl_corner;

static __device__ __forceinline__ fl_corner fl_corner_of(const fl_conv &s, int pixel, int live) {
  fl_corner out = {0, -FL_IMAGE_SIDE - 1, 0}; /* outside through every place of the window */
  if (pixel >= live) return out;
  int row = pixel / s.to.width, w = pixel - row * s.to.width;
  int image = row / s.to.height, h = row - image * s.to.height;
  out.image = image * s.from.height * s.from.width;
  out.h = (int16_t)(h * s.step - s.pad);
  out.w = (int16_t)(w * s.step - s.pad);
  return out;
}

/* The pixel of `from` through (kh, kw), or -1. */
static __device__ __forceinline__ int fl_corner_pixel(const fl_conv &s, fl_corner at, int kh,
                                                      int kw) {
  int h = at.h + kh, w = at.w + kw;
  if (s.spread > 1) {
    if (h % s.spread || w % s.spread) return -1;
    h /= s.spread;
    w /= s.spread;
  }
  bool inside = (unsigned)h < (unsigned)s.from.height && (unsigned)w < (unsigned)s.from.width;
  return inside ? at.image + h * s.from.width + w : -1;
}

/* A step of depth of a window: tap after tap, within a tap channel after channel. */
typedef struct fl_tap {
  int channel, kh, kw;
} fl_tap;

static __device__ __forceinline__ void fl_tap_advance(const fl_conv &s, fl_tap *at, int by) {
  at->channel += by;
  while (at->channel >= s.from.channels) {
    at->channel -= s.from.channels;
    if (++at->kw == s.kernel) {
      at->kw = 0;
      at->kh++;
    }
  }
}

#endif
