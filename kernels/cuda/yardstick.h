/* The GPU vendor's own product of square matrices: what other kernels are measured against. For C
 * and C++. */
#ifndef FL_YARDSTICK_H
#define FL_YARDSTICK_H

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fl_yardstick fl_yardstick;

/* A handle on a device of the cuda backend: float32 where the device has precision fp32, else TF32.
 * Errors: UNSUPPORTED where cuBLAS cannot be loaded, DEVICE when it fails; *out is then NULL. */
fl_status fl_yardstick_open(fl_dev *d, fl_yardstick **out);
void fl_yardstick_close(fl_yardstick **yardstick);
/* c = a b, (device) [n, n] each; queued on the device's stream. 2*n*n*n flop. */
fl_status fl_yardstick_multiply(fl_yardstick *yardstick, int n, const float *a, const float *b,
                                float *c);

#ifdef __cplusplus
}
#endif
#endif
