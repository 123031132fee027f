#include "arena.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *fl_host_block(int64_t bytes) {
  const int64_t huge = 2 << 20;
  int64_t machine = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  if (bytes < 0 || bytes > machine) return NULL;
  int64_t align = bytes >= huge / 2 ? huge : 64;
  int64_t size = (bytes > 0 ? bytes + align - 1 : align) / align * align;
  void *at = aligned_alloc((size_t)align, (size_t)size);
  if (at && align == huge) madvise(at, (size_t)size, MADV_HUGEPAGE);
  return at;
}

void *fl_arena_take(fl_arena *arena, int64_t bytes) {
  int64_t at = arena->used, end = at + (bytes + 63) / 64 * 64;
  if (arena->base && end > arena->size) return NULL;
  arena->used = end;
  return arena->base ? arena->base + at : NULL;
}

fl_status fl_arena_open(fl_arena *arena, const fl_ops *ops, fl_dev *dev) {
  void *base = NULL;
  int64_t size = arena->used > 0 ? arena->used : 64;
  if (ops)
    FL_TRY(ops->alloc(dev, size, &base));
  else
    base = fl_host_block(size);
  if (!base) return fl_fail(FEDLANE_MEMORY, "no %lld bytes of host memory", (long long)size);
  *arena = (fl_arena){.ops = ops, .dev = dev, .base = (char *)base, .size = size};
  return FEDLANE_OK;
}

void fl_arena_close(fl_arena *arena) {
  void *base = arena->base;
  if (base && arena->ops)
    arena->ops->release(arena->dev, &base);
  else
    free(base);
  *arena = (fl_arena){0};
}
