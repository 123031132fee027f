#include "backend.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `auto` takes the first that can be opened: a GPU, but never one that the host pretends to be. */
static const fl_record *const entry[] = {
#if defined(FL_HAS_CUDA) && !defined(FL_CUDA_ON_HOST)
    &fl_cuda_ops.record,
#endif
    &fl_cpu_ops.record,
    &fl_ref_ops.record,
#ifdef FL_CUDA_ON_HOST
    &fl_cuda_ops.record,
#endif
};

const fl_catalogue fl_backends = {"backend", "computes on a kind of device", entry,
                                  FL_COUNT(entry)};

/* Whether `device` is `name`, alone or followed by ":which"; *which is then NULL or what follows.
 */
static bool names(const char *device, const char *name, const char **which) {
  size_t n = strlen(name);
  if (strncmp(device, name, n) != 0 || (device[n] != 0 && device[n] != ':')) return false;
  *which = device[n] == ':' ? device + n + 1 : NULL;
  return true;
}

static fl_status unknown(const char *device) {
  const char *name[FL_COUNT(entry) + 1] = {"auto"}, *which;
  char list[256] = "auto";
  if (names(device, "cuda", &which))
    return fl_fail(FEDLANE_UNSUPPORTED, "device is '%s', but this build of fedlane has no CUDA",
                   device);
  for (int i = 0; i < FL_COUNT(entry); i++) {
    size_t used = strlen(list);
    name[i + 1] = entry[i]->name;
    snprintf(list + used, sizeof list - used, ", %s", entry[i]->name);
  }
  const char *nearest = fl_nearest(device, FL_COUNT(name), name);
  if (nearest) return fl_fail(FEDLANE_USAGE, "no device '%s'; did you mean '%s'?", device, nearest);
  return fl_fail(FEDLANE_USAGE, "no device '%s'; this build has %s", device, list);
}

/* The kind of device that is named, and which of them. */
static fl_status choose(const char *device, const fl_ops **out, const char **which) {
  for (int i = 0; i < FL_COUNT(entry); i++) {
    const fl_ops *ops = (const fl_ops *)entry[i];
    if (!names(device, entry[i]->name, which)) continue;
    if (*which && ops->host)
      return fl_fail(FEDLANE_USAGE, "device is '%s'; only GPUs are counted out after a ':'",
                     device);
    *out = ops;
    return FEDLANE_OK;
  }
  return unknown(device);
}

/* The numbers of `which` ("0,2", "all"; NULL: the first device) of n devices into index [n]. */
static fl_status pick(const char *device, const char *which, int n, int *index, int *n_index) {
  bool taken[FL_DEVICES_MAX] = {false};
  *n_index = 0;
  if (!which) index[(*n_index)++] = 0;
  if (!which) return FEDLANE_OK;
  bool all = strcmp(which, "all") == 0;
  for (int i = 0; all && i < n; i++) index[(*n_index)++] = i;
  for (const char *at = which; !all; at++) {
    char *end = (char *)(uintptr_t)at;
    long number = isdigit((unsigned char)*at) ? strtol(at, &end, 10) : -1;
    if (end == at || (*end != 0 && *end != ','))
      return fl_fail(FEDLANE_USAGE,
                     "device is '%s'; after the ':' comes 'all' or numbers such as 0,1", device);
    if (number >= n)
      return fl_fail(FEDLANE_DEVICE, "device is '%s', but the devices here are 0 .. %d", device,
                     n - 1);
    if (taken[number])
      return fl_fail(FEDLANE_USAGE, "device is '%s', which names %ld twice", device, number);
    taken[number] = true;
    index[(*n_index)++] = (int)number;
    if (*end == 0) break;
    at = end;
  }
  return FEDLANE_OK;
}

static fl_status open_each(const int *index, int n, fl_precision precision, fl_devices *out) {
  for (int i = 0; i < n; i++) {
    fl_dev_options options = {index[i], precision};
    fl_status status = out->ops->open(&options, &out->dev[i]);
    if (status != FEDLANE_OK) {
      fl_devices_close(out);
      return status;
    }
    out->n = i + 1;
  }
  return FEDLANE_OK;
}

/* Opens devices of one kind. device: as the user wrote it; which: see pick(). */
static fl_status open_kind(const fl_ops *ops, const char *device, const char *which,
                           fl_precision precision, int threads, fl_devices *out) {
  const char *why = "";
  int index[FL_DEVICES_MAX], n = threads, most = ops->count(&why);
  memset(out, 0, sizeof *out);
  if (most == 0) return fl_fail(FEDLANE_DEVICE, "device '%s' cannot be opened: %s", device, why);
  if (most > FL_DEVICES_MAX) most = FL_DEVICES_MAX;
  if (!ops->host) FL_TRY(pick(device, which, most, index, &n));
  if (ops->host && n == 0) n = most;
  for (int i = 0; ops->host && i < n; i++) index[i] = i;
  if (precision == FL_MATH_AUTO) precision = ops->host ? FL_MATH_FP32 : FL_MATH_TF32;
  out->ops = ops;
  out->together = ops->host ? 1 : 0;
  return open_each(index, n, precision, out);
}

fl_status fl_devices_open_first(const fl_catalogue *kinds, fl_precision precision, int threads,
                                fl_devices *out) {
  char passed[sizeof out->passed] = "";
  fl_status status = fl_fail(FEDLANE_DEVICE, "there is no kind of device");
  for (int i = 0; i < kinds->n; i++) {
    const fl_ops *ops = (const fl_ops *)kinds->entry[i];
    status = open_kind(ops, kinds->entry[i]->name, NULL, precision, threads, out);
    if (status == FEDLANE_OK) memcpy(out->passed, passed, sizeof passed);
    if (status == FEDLANE_OK || ops->host) return status;
    snprintf(passed, sizeof passed, "%s", fedlane_error());
  }
  return status;
}

fl_status fl_devices_open(const char *device, fl_precision precision, int threads,
                          fl_devices *out) {
  const fl_ops *ops = NULL;
  const char *which = NULL;
  memset(out, 0, sizeof *out);
  if (threads < 0 || threads > FL_DEVICES_MAX)
    return fl_fail(FEDLANE_USAGE, "threads is %d; it must lie in 0 .. %d", threads, FL_DEVICES_MAX);
  if (strcmp(device, "auto") == 0)
    return fl_devices_open_first(&fl_backends, precision, threads, out);
  FL_TRY(choose(device, &ops, &which));
  return open_kind(ops, device, which, precision, threads, out);
}

void fl_devices_close(fl_devices *devices) {
  if (!devices) return;
  for (int i = 0; i < devices->n; i++) devices->ops->close(&devices->dev[i]);
  memset(devices, 0, sizeof *devices);
}
