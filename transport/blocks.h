/* The ledger of a round: which units are free, with whom, trained, and done. It knows nothing of
 * messages, so it is tested by itself. */
#ifndef FL_BLOCKS_H
#define FL_BLOCKS_H

#include <stdbool.h>

#include "fleet.h"

typedef enum fl_block_state {
  FL_BLOCK_OUT,     /* with a peer */
  FL_BLOCK_TRAINED, /* reported, and in a sum that the peer has not sent */
  FL_BLOCK_DONE,    /* taken */
  FL_BLOCK_LOST,    /* taken back: its units are free again, or given up */
} fl_block_state;

typedef struct fl_block {
  fl_block_state state;
  int peer;
  uint64_t first, count; /* units, from 0 */
  int64_t cost;
  fl_report report; /* with units as the peer counts them; arrays owned */
} fl_block;

typedef struct fl_range {
  uint64_t first, count;
} fl_range;

typedef struct fl_blocks {
  uint64_t n;          /* units */
  uint64_t done, gone; /* taken; given up */
  const int32_t *cost;
  int64_t free_cost; /* of the units that are free */
  fl_range *free;    /* the last is dealt from first */
  int n_free, room_free;
  fl_block *block; /* by number */
  int n_block, room_block;
} fl_blocks;

/* cost [n] is the caller's, and stays. Errors: MEMORY. */
fl_status fl_blocks_open(fl_blocks *blocks, uint64_t n, const int32_t *cost);
void fl_blocks_close(fl_blocks *blocks);
/* Units that are free. */
uint64_t fl_blocks_left(const fl_blocks *blocks);
/* Deals neighbouring units of this cost at most, but at least `least` (1 or more) of them as far as
 * there are, and at most `most`, to a peer. *block is its number, -1 when nothing is free. */
fl_status fl_blocks_deal(fl_blocks *blocks, int peer, int64_t cost, uint64_t least, uint64_t most,
                         int *block);
/* Deals one unit, which must be free. */
fl_status fl_blocks_deal_unit(fl_blocks *blocks, int peer, uint64_t unit, int *block);
/* The block of a number if it is with this peer in this state, else NULL. */
fl_block *fl_blocks_of(fl_blocks *blocks, uint64_t block, int peer, fl_block_state state);
/* A trained block is taken. */
void fl_blocks_done(fl_blocks *blocks, fl_block *block);
/* A block that is out or trained is taken back: its units are free again; with `forever` given up.
 */
fl_status fl_blocks_lose(fl_blocks *blocks, fl_block *block, bool forever);

#endif
