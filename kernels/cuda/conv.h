/* What the convolution kernels share: where the pixels that a window sees are.
 *
 * All three products of a convolution are computed without ever writing the matrix of windows: the
 * blocks copy its elements from the images as they need them (implicit GEMM). */
#ifndef FL_CUDA_CONV_H
#define FL_CUDA_CONV_H

#include "tile.h"

enum { FL_IMAGE_SIDE = 0x3fff }; /* most rows or columns of an image: corners take 16 bits */

/* One convolution. Pixel (h, w) of the image `to` sees, through place (kh, kw) of the window, pixel
 * (h*step_h - top + kh, w*step_w - left + kw) of the image `from`, if that is inside. With side 2
 * the image `to` is pooled: its pixel (h, w) holds the largest of pixels (2*h, 2*w) ..
 * (2*h+1, 2*w+1). */
typedef struct fl_conv {
  fl_image to, from;
  int rows, columns; /* of the window */
  int step_h, step_w, top, left;
  int side; /* 1 or 2 */
} fl_conv;

static inline FL_HD int fl_conv_depth(const fl_conv *s) {
  return s->rows * s->columns * s->from.channels;
}

/* A layer's convolution as it is defined. */
static inline fl_conv fl_conv_of(const fl_window *w) {
  fl_conv s = {w->out,
               w->in,
               fl_window_kernel_h(w),
               w->kernel,
               fl_window_stride_h(w),
               w->stride,
               fl_window_pad_h(w),
               w->pad,
               1};
  return s;
}

/* UNSUPPORTED for images that do not fit the kernels' 32-bit and 16-bit numbers. */
static inline fl_status fl_conv_check(const fl_window *w, int B) {
  int most = w->in.height > w->in.width ? w->in.height : w->in.width;
  if (w->out.height > most) most = w->out.height;
  if (w->out.width > most) most = w->out.width;
  int64_t in = (int64_t)w->in.height * w->in.width, out = (int64_t)w->out.height * w->out.width;
  int64_t pixels = B * (in > out ? in : out);
  if (most <= FL_IMAGE_SIDE && pixels <= INT32_MAX / 2) return FEDLANE_OK;
  return fl_fail(FEDLANE_UNSUPPORTED,
                 "a batch of %d images of %d x %d is too large for a convolution on cuda: at most "
                 "%d x %d, and 2^30 pixels",
                 B, w->in.height, w->in.width, FL_IMAGE_SIDE, FL_IMAGE_SIDE);
}

/* --- where the pixels of a window are ------------------------------------------------------- */
/* Pixel (h, w) of one of a lane's images. */
typedef struct fl_pixel {
  int image, h, w;
} fl_pixel;

static __device__ __forceinline__ fl_pixel fl_pixel_of(const fl_image &size, int n) {
  int row = n / size.width, image = row / size.height;
  fl_pixel at = {image, row - image * size.height, n - row * size.width};
  return at;
}

/* What a pixel sees: the first pixel of its image in `from`, and the window's corner. */
typedef struct fl_corner {
  int image;
  int16_t h, w;
} fl_corner;

static __device__ __forceinline__ fl_corner fl_corner_of(const fl_conv &s, fl_pixel at, bool live) {
  fl_corner out = {0, -FL_IMAGE_SIDE - 1, 0}; /* outside through every place of the window */
  if (!live) return out;
  out.image = at.image * s.from.height * s.from.width;
  out.h = (int16_t)(at.h * s.step_h - s.top);
  out.w = (int16_t)(at.w * s.step_w - s.left);
  return out;
}

/* The pixel of `from` through (kh, kw), or -1. */
static __device__ __forceinline__ int fl_corner_pixel(const fl_conv &s, fl_corner at, int kh,
                                                      int kw) {
  int h = at.h + kh, w = at.w + kw;
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
    if (++at->kw == s.columns) {
      at->kw = 0;
      at->kh++;
    }
  }
}

#endif
