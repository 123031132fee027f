#include "arena.h"

#include <stdlib.h>

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
    base = aligned_alloc(64, (size_t)size);
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
