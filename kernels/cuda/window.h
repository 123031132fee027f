/* A window with its two directions spelt out, as the kernels of pooling and of depthwise
 * convolutions take it. */
#ifndef FL_CUDA_WINDOW_H
#define FL_CUDA_WINDOW_H

#include "ops.h"

typedef struct fl_sides {
  fl_image in, out;
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
} fl_sides;

static inline fl_sides fl_sides_of(const fl_window *s) {
  fl_sides out = {s->in,
                  s->out,
                  fl_window_kernel_h(s),
                  s->kernel,
                  fl_window_stride_h(s),
                  s->stride,
                  fl_window_pad_h(s),
                  s->pad};
  return out;
}

#endif
