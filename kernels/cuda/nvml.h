/* A GPU's energy, counted by its driver and read through NVML. For C and C++.
 *
 * NVML is a library of the driver's, not of the toolkit's: it is looked for when a device is
 * opened, and its absence is no failure. The few calls that are needed are a table, which tests
 * replace. */
#ifndef FL_NVML_H
#define FL_NVML_H

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* NVML's calls of these names; each returns 0 when all is well. */
typedef struct fl_nvml {
  int (*init)(void);                           /* nvmlInit_v2; counts its callers */
  int (*shutdown)(void);                       /* nvmlShutdown */
  int (*find)(const char *bus_id, void **out); /* nvmlDeviceGetHandleByPciBusId_v2 */
  int (*energy)(void *device, unsigned long long *millijoules);
  /* nvmlDeviceGetTotalEnergyConsumption */
} fl_nvml;

/* One GPU's counter; zeros: there is none. */
typedef struct fl_meter {
  fl_nvml nvml;
  void *library, *device;
} fl_meter;

/* Finds the counter of the GPU at this place of the bus, such as "0000:3b:00.0": NVML counts out
 * all GPUs of the machine, the runtime only those that it may see, so numbers do not match. nvml:
 * the calls to use; NULL: those of the driver's library. *out stays without a counter where the
 * library, the GPU or its counter is missing. */
void fl_meter_open(const fl_nvml *nvml, const char *bus_id, fl_meter *out);
void fl_meter_close(fl_meter *meter);
/* Joules of the whole board since the driver was loaded. Errors: UNSUPPORTED without a counter,
 * DEVICE when it cannot be read. */
fl_status fl_meter_read(const fl_meter *meter, double *joules);

#ifdef __cplusplus
}
#endif
#endif
