#include "backend.h"

#include <stdio.h>
#include <string.h>

/* `auto` takes the first that can be opened. */
static const fl_record *const entry[] = {
    &fl_cpu_ops.record,
    &fl_ref_ops.record,
};

const fl_catalogue fl_backends = {"backend", "computes on a kind of device", entry,
                                  FL_COUNT(entry)};

static fl_status unknown(const char *device) {
  const char *name[FL_COUNT(entry) + 1] = {"auto"};
  char names[256] = "auto";
  if (strncmp(device, "cuda", 4) == 0 && (device[4] == 0 || device[4] == ':'))
    return fl_fail(FEDLANE_UNSUPPORTED, "device is '%s', but this build of fedlane has no CUDA",
                   device);
  for (int i = 0; i < FL_COUNT(entry); i++) {
    size_t used = strlen(names);
    name[i + 1] = entry[i]->name;
    snprintf(names + used, sizeof names - used, ", %s", entry[i]->name);
  }
  const char *nearest = fl_nearest(device, FL_COUNT(name), name);
  if (nearest) return fl_fail(FEDLANE_USAGE, "no device '%s'; did you mean '%s'?", device, nearest);
  return fl_fail(FEDLANE_USAGE, "no device '%s'; this build has %s", device, names);
}

static fl_status choose(const char *device, const fl_ops **out) {
  bool any = strcmp(device, "auto") == 0;
  const char *why = "";
  for (int i = 0; i < FL_COUNT(entry); i++) {
    const fl_ops *ops = (const fl_ops *)entry[i];
    if (!any && strcmp(device, entry[i]->name) != 0) continue;
    if (ops->count(&why) > 0) {
      *out = ops;
      return FEDLANE_OK;
    }
    if (!any) return fl_fail(FEDLANE_DEVICE, "device '%s' cannot be opened: %s", device, why);
  }
  return any ? fl_fail(FEDLANE_DEVICE, "no device can be opened: %s", why) : unknown(device);
}

fl_status fl_devices_open(const char *device, fl_precision precision, int threads,
                          fl_devices *out) {
  const char *why = "";
  memset(out, 0, sizeof *out);
  if (threads < 0 || threads > FL_DEVICES_MAX)
    return fl_fail(FEDLANE_USAGE, "threads is %d; it must lie in 0 .. %d", threads, FL_DEVICES_MAX);
  FL_TRY(choose(device, &out->ops));
  int n = threads > 0 ? threads : out->ops->count(&why);
  if (n > FL_DEVICES_MAX) n = FL_DEVICES_MAX;
  out->together = 1;
  for (int i = 0; i < n; i++) {
    fl_dev_options options = {i, precision};
    fl_status status = out->ops->open(&options, &out->dev[i]);
    if (status != FEDLANE_OK) {
      fl_devices_close(out);
      return status;
    }
    out->n = i + 1;
  }
  return FEDLANE_OK;
}

void fl_devices_close(fl_devices *devices) {
  if (!devices) return;
  for (int i = 0; i < devices->n; i++) devices->ops->close(&devices->dev[i]);
  memset(devices, 0, sizeof *devices);
}
