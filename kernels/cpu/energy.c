#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu.h"

enum { DOMAINS = 64 }; /* intel-rapl:0 .. are looked at */

static int open_file(const char *folder, int domain, const char *name) {
  char path[512];
  int n = snprintf(path, sizeof path, "%s/intel-rapl:%d/%s", folder, domain, name);
  return n < (int)sizeof path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
}

/* The start of a file as a string; false when it cannot be read. */
static bool read_start(int file, char *out, size_t size) {
  ssize_t n = pread(file, out, size - 1, 0);
  out[n > 0 ? n : 0] = 0;
  return n > 0;
}

static bool read_count(int file, int64_t *out) {
  char text[32], *end;
  if (!read_start(file, text, sizeof text)) return false;
  *out = strtoll(text, &end, 10);
  return end != text && *out >= 0;
}

/* A domain's package: what a name other than package-... counts is counted there as well, or is the
 * whole machine. */
static bool is_package(const char *folder, int domain) {
  char name[32] = "";
  int file = open_file(folder, domain, "name");
  bool is = file >= 0 && read_start(file, name, sizeof name) && strncmp(name, "package", 7) == 0;
  if (file >= 0) close(file);
  return is;
}

static bool open_package(const char *folder, int domain, fl_package *out) {
  int range = open_file(folder, domain, "max_energy_range_uj");
  bool known = range >= 0 && read_count(range, &out->range);
  if (range >= 0) close(range);
  *out = (fl_package){.file = open_file(folder, domain, "energy_uj"), .range = out->range};
  return out->file >= 0 && known && read_count(out->file, &out->last);
}

void fl_powercap_open(const char *folder, fl_powercap *out) {
  bool all = true;
  *out = (fl_powercap){0};
  for (int i = 0; i < DOMAINS && out->n < FL_PACKAGES; i++) {
    if (!is_package(folder, i)) continue;
    all = open_package(folder, i, &out->package[out->n++]) && all;
  }
  if (!all) fl_powercap_close(out); /* a part of the energy would be no answer */
}

void fl_powercap_close(fl_powercap *cap) {
  for (int i = 0; i < cap->n; i++)
    if (cap->package[i].file >= 0) close(cap->package[i].file);
  *cap = (fl_powercap){0};
}

fl_status fl_powercap_read(fl_powercap *cap, double *joules) {
  double sum = 0;
  if (cap->n == 0)
    return fl_fail(FEDLANE_UNSUPPORTED,
                   "the processor's energy cannot be read: no package's energy_uj in "
                   "/sys/class/powercap is readable");
  for (int i = 0; i < cap->n; i++) {
    fl_package *p = &cap->package[i];
    int64_t now;
    if (!read_count(p->file, &now))
      return fl_fail(FEDLANE_DEVICE, "the energy of processor package %d cannot be read", i);
    p->used += now - p->last + (now < p->last ? p->range : 0);
    p->last = now;
    sum += 1e-6 * (double)p->used;
  }
  *joules = sum;
  return FEDLANE_OK;
}

fl_status fl_cpu_energy(fl_dev *d, double *joules) {
  *joules = 0;
  return d->index == 0 ? fl_powercap_read(&d->powercap, joules) : FEDLANE_OK;
}
