/* NCCL, where the build knows its header: a library that is loaded when it is wanted. */
#ifndef FL_NCCL_LIBRARY_H
#define FL_NCCL_LIBRARY_H

#include "device.h"

#if __has_include(<nccl.h>)
#define WITH_NCCL
#include <nccl.h>

static inline void *fl_nccl_open() { return fl_library_open("libnccl.so.2"); }

/* *out = the function of that name; false: there is none. */
template <typename F>
static bool fl_nccl_find(void *library, const char *name, F *out) {
  *out = (F)fl_library_symbol(library, name);
  return *out != NULL;
}
#endif

#endif
