#include <dlfcn.h>
#include <string.h>

#include "cuda.h"

/* Looks a call up; what dlsym returns becomes a function by way of its bytes, as POSIX has it. */
template <typename F>
static bool find_call(void *library, const char *name, F *out) {
  void *at = dlsym(library, name);
  memcpy(out, &at, sizeof at);
  return at != NULL;
}

/* The driver's library, NULL when it is missing or lacks a call. */
static void *load(fl_nvml *out) {
  void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return NULL;
  if (find_call(library, "nvmlInit_v2", &out->init) &&
      find_call(library, "nvmlShutdown", &out->shutdown) &&
      find_call(library, "nvmlDeviceGetHandleByPciBusId_v2", &out->find) &&
      find_call(library, "nvmlDeviceGetTotalEnergyConsumption", &out->energy))
    return library;
  dlclose(library);
  return NULL;
}

void fl_meter_open(const fl_nvml *nvml, const char *bus_id, fl_meter *out) {
  unsigned long long now;
  *out = fl_meter{};
  if (nvml)
    out->nvml = *nvml;
  else if ((out->library = load(&out->nvml)) == NULL)
    return;
  if (out->nvml.init() != 0) {
    if (out->library) dlclose(out->library);
    *out = fl_meter{};
    return;
  }
  bool counts =
      out->nvml.find(bus_id, &out->device) == 0 && out->nvml.energy(out->device, &now) == 0;
  if (!counts) fl_meter_close(out);
}

void fl_meter_close(fl_meter *meter) {
  if (meter->nvml.shutdown) (void)meter->nvml.shutdown();
  if (meter->library) dlclose(meter->library);
  *meter = fl_meter{};
}

fl_status fl_meter_read(const fl_meter *meter, double *joules) {
  unsigned long long millijoules = 0;
  if (!meter->device)
    return fl_fail(FEDLANE_UNSUPPORTED, "this GPU's energy cannot be read: NVML does not count it");
  int error = meter->nvml.energy(meter->device, &millijoules);
  if (error != 0)
    return fl_fail(FEDLANE_DEVICE, "the GPU's energy cannot be read: NVML's error %d", error);
  *joules = 1e-3 * (double)millijoules;
  return FEDLANE_OK;
}

fl_status fl_cuda_energy(fl_dev *d, double *joules) { return fl_meter_read(&d->meter, joules); }
