#include "blocks.h"

#include <stdlib.h>
#include <string.h>

/* Makes room for one more item of `size` bytes. */
static fl_status grow(void **at, int n, int *room, size_t size) {
  if (n < *room) return FEDLANE_OK;
  int more = *room ? 2 * *room : 16;
  void *larger = realloc(*at, (size_t)more * size);
  if (!larger) return fl_fail(FEDLANE_MEMORY, "no memory for the blocks of a round");
  *at = larger;
  *room = more;
  return FEDLANE_OK;
}

static int64_t cost_of(const fl_blocks *b, uint64_t first, uint64_t count) {
  int64_t sum = 0;
  for (uint64_t i = first; i < first + count; i++) sum += b->cost[i];
  return sum;
}

static fl_status set_free(fl_blocks *b, uint64_t first, uint64_t count) {
  void *at = b->free;
  FL_TRY(grow(&at, b->n_free, &b->room_free, sizeof *b->free));
  b->free = at;
  b->free[b->n_free++] = (fl_range){first, count};
  b->free_cost += cost_of(b, first, count);
  return FEDLANE_OK;
}

fl_status fl_blocks_open(fl_blocks *b, uint64_t n, const int32_t *cost) {
  memset(b, 0, sizeof *b);
  b->n = n;
  b->cost = cost;
  return n > 0 ? set_free(b, 0, n) : FEDLANE_OK;
}

static void close_report(fl_report *r) {
  free(r->loss);
  free(r->hit);
  free(r->good);
  memset(r, 0, sizeof *r);
}

void fl_blocks_close(fl_blocks *b) {
  for (int i = 0; i < b->n_block; i++) close_report(&b->block[i].report);
  free(b->block);
  free(b->free);
  memset(b, 0, sizeof *b);
}

uint64_t fl_blocks_left(const fl_blocks *b) {
  uint64_t n = 0;
  for (int i = 0; i < b->n_free; i++) n += b->free[i].count;
  return n;
}

static fl_status add(fl_blocks *b, int peer, uint64_t first, uint64_t count, int *block) {
  void *at = b->block;
  FL_TRY(grow(&at, b->n_block, &b->room_block, sizeof *b->block));
  b->block = at;
  int64_t cost = cost_of(b, first, count);
  b->free_cost -= cost;
  *block = b->n_block++;
  b->block[*block] = (fl_block){.peer = peer, .first = first, .count = count, .cost = cost};
  return FEDLANE_OK;
}

fl_status fl_blocks_deal(fl_blocks *b, int peer, int64_t cost, uint64_t least, uint64_t most,
                         int *block) {
  *block = -1;
  if (b->n_free == 0) return FEDLANE_OK;
  fl_range *from = &b->free[b->n_free - 1];
  uint64_t count = 0;
  if (most > from->count) most = from->count;
  for (int64_t sum = 0; count < most; count++) {
    sum += b->cost[from->first + count];
    if (count >= least && sum > cost) break;
  }
  FL_TRY(add(b, peer, from->first, count, block));
  from->first += count;
  from->count -= count;
  if (from->count == 0) b->n_free--;
  return FEDLANE_OK;
}

fl_status fl_blocks_deal_unit(fl_blocks *b, int peer, uint64_t unit, int *block) {
  for (int i = 0; i < b->n_free; i++) {
    fl_range all = b->free[i];
    if (unit < all.first || unit >= all.first + all.count) continue;
    FL_TRY(add(b, peer, unit, 1, block));
    b->free[i] = b->free[--b->n_free];
    int64_t kept = b->free_cost;
    if (unit > all.first) FL_TRY(set_free(b, all.first, unit - all.first));
    if (unit + 1 < all.first + all.count)
      FL_TRY(set_free(b, unit + 1, all.first + all.count - unit - 1));
    b->free_cost = kept;
    return FEDLANE_OK;
  }
  return fl_fail(FEDLANE_INTERNAL, "unit %llu is not free", (unsigned long long)unit);
}

fl_block *fl_blocks_of(fl_blocks *b, uint64_t block, int peer, fl_block_state state) {
  if (block >= (uint64_t)b->n_block) return NULL;
  fl_block *one = &b->block[block];
  return one->peer == peer && one->state == state ? one : NULL;
}

void fl_blocks_done(fl_blocks *b, fl_block *block) {
  block->state = FL_BLOCK_DONE;
  b->done += block->count;
  close_report(&block->report);
}

fl_status fl_blocks_lose(fl_blocks *b, fl_block *block, bool forever) {
  block->state = FL_BLOCK_LOST;
  close_report(&block->report);
  if (!forever) return set_free(b, block->first, block->count);
  b->gone += block->count;
  return FEDLANE_OK;
}
