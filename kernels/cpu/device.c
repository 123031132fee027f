#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "cpu.h"

int fl_cpu_count(const char **why) {
  (void)why;
  return omp_get_num_procs();
}

fl_status fl_cpu_open(const fl_dev_options *options, fl_dev **out) {
  if (options->precision != FL_MATH_FP32)
    return fl_fail(FEDLANE_UNSUPPORTED, "device 'cpu' computes in precision fp32 only");
  fl_dev *d = calloc(1, sizeof *d);
  if (!d) return fl_fail(FEDLANE_MEMORY, "no memory for a cpu device");
  d->index = options->index;
  if (d->index == 0) fl_powercap_open("/sys/class/powercap", &d->powercap);
  fl_status status = fl_nn_open(&d->nn);
  if (status != FEDLANE_OK) fl_cpu_close(&d);
  *out = d;
  return status;
}

void fl_cpu_close(fl_dev **dev) {
  fl_dev *d = *dev;
  if (!d) return;
  fl_nn_close(&d->nn);
  fl_powercap_close(&d->powercap);
  free(d->scratch);
  free(d);
  *dev = NULL;
}

fl_status fl_cpu_room(fl_dev *d, int64_t *bytes) {
  (void)d;
  long long kib = -1;
  char line[128];
  FILE *file = fopen("/proc/meminfo", "r");
  while (file && kib < 0 && fgets(line, sizeof line, file))
    if (sscanf(line, "MemAvailable: %lld kB", &kib) != 1) kib = -1;
  if (file) fclose(file);
  if (kib < 0) return fl_fail(FEDLANE_DEVICE, "/proc/meminfo does not tell MemAvailable");
  *bytes = (int64_t)kib * 1024;
  return FEDLANE_OK;
}

fl_status fl_cpu_alloc(fl_dev *d, int64_t bytes, void **out) {
  (void)d;
  *out = fl_host_block(bytes);
  if (*out) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no %lld bytes of memory left", (long long)bytes);
}

void fl_cpu_release(fl_dev *d, void **at) {
  (void)d;
  free(*at);
  *at = NULL;
}

fl_status fl_cpu_upload(fl_dev *d, void *dst, const void *src, int64_t bytes) {
  (void)d;
  if (bytes > 0) memcpy(dst, src, (size_t)bytes);
  return FEDLANE_OK;
}

fl_status fl_cpu_download(fl_dev *d, void *dst, const void *src, int64_t bytes) {
  return fl_cpu_upload(d, dst, src, bytes);
}

fl_status fl_cpu_sync(fl_dev *d) {
  (void)d;
  return FEDLANE_OK;
}

fl_status fl_cpu_scratch(fl_dev *d, int64_t bytes, void **out) {
  if (bytes > d->scratch_bytes) {
    free(d->scratch);
    d->scratch_bytes = 0;
    d->scratch = fl_host_block(bytes);
    if (!d->scratch)
      return fl_fail(FEDLANE_MEMORY, "no %lld bytes of scratch memory left", (long long)bytes);
    d->scratch_bytes = bytes;
  }
  *out = d->scratch;
  return FEDLANE_OK;
}
