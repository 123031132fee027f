/* One side of a tie (kernels/tie.h), and how long it is waited for. */
#ifndef FL_TIED_H
#define FL_TIED_H

#include "ops.h"

typedef struct fl_tied {
  const fl_tie_ops *ops;
  fl_tie *tie; /* NULL: there is none */
} fl_tied;

/* Begins to open it, in place of the one that there is. */
fl_status fl_tied_open(fl_tied *tied, fl_dev *dev, const unsigned char *id, int side);
void fl_tied_close(fl_tied *tied);
/* Waits until it is open and all that is queued on the device is done. `enough` is asked all the
 * while, and says true when nothing is to be expected any more. False: the tie has come to an end,
 * by that or by a failure of its own, and is closed. */
bool fl_tied_ready(fl_tied *tied, bool (*enough)(void *of), void *of);
/* The same, then moves bytes of device memory. */
bool fl_tied_move(fl_tied *tied, bool send, void *at, int64_t bytes, bool (*enough)(void *of),
                  void *of);

#endif
