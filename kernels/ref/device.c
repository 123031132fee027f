#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ref.h"

struct fl_dev {
  int index;
};

int fl_ref_count(const char **why) {
  (void)why;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

fl_status fl_ref_open(const fl_dev_options *options, fl_dev **out) {
  if (options->precision != FL_MATH_FP32)
    return fl_fail(FEDLANE_UNSUPPORTED, "device 'ref' computes in precision fp32 only");
  fl_dev *d = malloc(sizeof *d);
  if (!d) return fl_fail(FEDLANE_MEMORY, "no memory for a device");
  d->index = options->index;
  *out = d;
  return FEDLANE_OK;
}

void fl_ref_close(fl_dev **dev) {
  if (!dev) return;
  free(*dev);
  *dev = NULL;
}

static int64_t pages(int kind) { return (int64_t)sysconf(kind) * sysconf(_SC_PAGESIZE); }

fl_status fl_ref_room(fl_dev *d, int64_t *bytes) {
  (void)d;
  *bytes = pages(_SC_AVPHYS_PAGES);
  return FEDLANE_OK;
}

fl_status fl_ref_alloc(fl_dev *d, int64_t bytes, void **out) {
  (void)d;
  int64_t most = pages(_SC_PHYS_PAGES);
  void *at = NULL;
  /* The kernel promises more memory than there is; refuse before it is touched. */
  if (bytes >= 0 && bytes <= most) at = aligned_alloc(64, ((size_t)bytes / 64 + 1) * 64);
  if (!at)
    return fl_fail(FEDLANE_MEMORY, "no memory for %lld bytes; this machine has %lld",
                   (long long)bytes, (long long)most);
  *out = at;
  return FEDLANE_OK;
}

void fl_ref_release(fl_dev *d, void **at) {
  (void)d;
  if (!at) return;
  free(*at);
  *at = NULL;
}

static fl_status copy(void *dst, const void *src, int64_t bytes) {
  if (bytes > 0) memcpy(dst, src, (size_t)bytes);
  return FEDLANE_OK;
}

fl_status fl_ref_upload(fl_dev *d, void *dst, const void *src, int64_t bytes) {
  (void)d;
  return copy(dst, src, bytes);
}

fl_status fl_ref_download(fl_dev *d, void *dst, const void *src, int64_t bytes) {
  (void)d;
  return copy(dst, src, bytes);
}

fl_status fl_ref_sync(fl_dev *d) {
  (void)d;
  return FEDLANE_OK;
}
