/* An arena: memory planned first, taken once, handed out in order, freed as a whole.
 *
 *     plan:   fl_arena a = {0};           every take only counts
 *             fl_arena_take(&a, bytes);
 *     place:  fl_arena_open(&a, ops, dev) reserves what was counted
 *             fl_arena_take(&a, bytes)    the same takes again give the addresses */
#ifndef FL_ARENA_H
#define FL_ARENA_H

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Host memory, 64-byte aligned, contents undefined, for free(); NULL when there is none. Blocks
 * from half a huge page on are made of whole ones, so that reads far apart find their addresses. */
void *fl_host_block(int64_t bytes);

typedef struct fl_arena {
  const fl_ops *ops;
  fl_dev *dev;
  char *base; /* NULL while planning */
  int64_t size, used;
} fl_arena;

/* The next `bytes`, 64-byte aligned; NULL while planning. Taking more than was planned is a fault
 * of the caller and returns NULL. */
void *fl_arena_take(fl_arena *arena, int64_t bytes);
/* Reserves arena->used bytes and starts handing them out from the beginning. ops NULL: ordinary
 * host memory, dev is then not used. Contents are undefined. Errors: MEMORY. */
fl_status fl_arena_open(fl_arena *arena, const fl_ops *ops, fl_dev *dev);
void fl_arena_close(fl_arena *arena);

#ifdef __cplusplus
}
#endif
#endif
