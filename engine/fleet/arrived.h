/* Sums as they have arrived in a chunk. */
#ifndef FL_ARRIVED_H
#define FL_ARRIVED_H

#include "mix.h"
#include "port.h"

/* Whether a chunk is of a level of one of so many updates, as int64 sums, and its body as long as
 * it should be. */
bool fl_arrived_is_sum(const fl_chunk *about, const fl_blob *body, uint64_t updates);
/* Whether its sums can be those of clients of this weight. scratch: FL_CHUNK_BYTES, aligned. */
bool fl_arrived_fits(const fl_mix *mix, const fl_chunk *about, const fl_blob *body, int64_t weight,
                     int64_t *scratch);
/* Adds them to their level of mix[update]; back: takes them off again, to the bit. Errors: MEMORY,
 * of the backend. */
fl_status fl_arrived_add(fl_mix *mix, const fl_chunk *about, const fl_blob *body, bool back,
                         int64_t *scratch);

#endif
