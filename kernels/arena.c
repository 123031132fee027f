#include "arena.h"

void *fl_arena_take(fl_arena *arena, int64_t bytes) {
  int64_t at = arena->used, end = at + (bytes + 63) / 64 * 64;
  if (arena->base && end > arena->size) return NULL;
  arena->used = end;
  return arena->base ? arena->base + at : NULL;
}

fl_status fl_arena_open(fl_arena *arena, const fl_ops *ops, fl_dev *dev) {
  void *base = NULL;
  arena->size = arena->used;
  arena->used = 0;
  arena->ops = ops;
  arena->dev = dev;
  FL_TRY(ops->alloc(dev, arena->size > 0 ? arena->size : 64, &base));
  arena->base = (char *)base;
  return FEDLANE_OK;
}

void fl_arena_close(fl_arena *arena) {
  void *base = arena->base;
  if (base) arena->ops->release(arena->dev, &base);
  arena->base = NULL;
  arena->size = arena->used = 0;
}
