/* The backends of this build, and how `device:` in a configuration becomes open devices. */
#ifndef FL_BACKEND_H
#define FL_BACKEND_H

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const fl_catalogue fl_backends;
extern const fl_ops fl_ref_ops; /* plain loops in double: the oracle */
extern const fl_ops fl_cpu_ops; /* oneDNN */
/* CUDA, in builds that define FL_HAS_CUDA; those that define FL_CUDA_ON_HOST too run its kernels on
 * the host, as the device `cuda-on-host` (docs/cuda-on-host.md). */
extern const fl_ops fl_cuda_ops;

enum { FL_DEVICES_MAX = 256 };

/* The devices that lanes live on. CPU backends: one device a worker thread. */
typedef struct fl_devices {
  const fl_ops *ops;
  int n;
  fl_dev *dev[FL_DEVICES_MAX];
  int together;     /* lanes that one op call should cover: 1 on a CPU, where a lane walks all its
                       steps while its weights are in cache; 0 (all) on a GPU */
  char passed[256]; /* auto: why the GPU before it was not taken, a sentence; else empty */
} fl_devices;

/* Opens what `device` names: auto | cpu | ref | cuda (the first GPU) | cuda:0,1 | cuda:all.
 * threads: CPU worker threads, 0 for as many as the machine has; ignored by other backends.
 * Errors: USAGE for a name that is not a device of this build, DEVICE when it cannot be opened. */
fl_status fl_devices_open(const char *device, fl_precision precision, int threads, fl_devices *out);
/* What `auto` does: the first of the kinds that can be opened. A kind of host devices is the last
 * one that is tried. Errors: those of the last one tried. */
fl_status fl_devices_open_first(const fl_catalogue *kinds, fl_precision precision, int threads,
                                fl_devices *out);
void fl_devices_close(fl_devices *devices);

#ifdef __cplusplus
}
#endif
#endif
