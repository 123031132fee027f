/* What convolutions of few channels in planes share: images inside a border of zeros, so that
 * nothing looks beyond an edge, and how many planes are worked on together. */
#ifndef FL_CPU_NARROW_H
#define FL_CPU_NARROW_H

#include "cpu.h"

enum { FL_PLANES_TOGETHER = 6 };

/* How many of `left` planes, or channels, are taken together. */
static inline int fl_planes_some(int left) {
  return left >= FL_PLANES_TOGETHER ? FL_PLANES_TOGETHER : left >= 2 ? 2 : 1;
}

/* An image of n channels in planes. Rows first .. end-1 are not border; pitch and size: floats a
 * row, and a plane. */
typedef struct fl_planes {
  int n, first, end;
  int64_t pitch, size;
  float *at;
} fl_planes;

/* at stays NULL. */
fl_planes fl_planes_of(fl_image s, int border, int64_t pitch);
/* How long `at` must be: a vector may be read from anywhere in a row, so some floats follow the
 * last plane. */
int64_t fl_planes_floats(const fl_planes *p);
/* Copies an image in the private order inside the border. */
void fl_planes_take(const fl_planes *p, fl_image s, const float *from);
/* The device's scratch memory, of which the first `zeros` floats are cleared. Errors: MEMORY. */
fl_status fl_planes_room(fl_dev *d, int64_t zeros, int64_t others, float **out);

#endif
