/* What lies below a relay: a fleet of its own, seen through in a thread of its own, so that peers
 * are answered while the relay waits for its coordinator.
 *
 * The relay hands it one block at a time. The block, and the model, are the fleet's until it comes
 * back; so are the sums, to which it adds what its peers send. */
#ifndef FL_BELOW_H
#define FL_BELOW_H

#include "fleet.h"
#include "mix.h"

/* A block of the coordinator's, and what has become of it. Arrays of the work's `count`. */
typedef struct fl_relayed {
  fl_work work;
  int32_t *cost;
  float
      *own; /* [count][own][elements] vectors that clients keep; the new ones once it is trained */
  double *loss;
  int64_t *hit;
  uint8_t *good;
} fl_relayed;

/* Vectors and reports are 0, all costs 1. Errors: MEMORY. */
fl_status fl_relayed_open(const fl_work *work, const fl_welcome *welcome, fl_relayed **out);
void fl_relayed_close(fl_relayed **block);

typedef struct fl_below fl_below;

/* Listens, for peers of the run that `welcome` describes. Errors: as fl_fleet_open. */
fl_status fl_below_open(const char *address, const fl_security *security, const fl_welcome *welcome,
                        fl_below **out);
/* Says goodbye to the peers. Accepts NULL; nulls *below. */
void fl_below_close(fl_below **below, fl_bye_code code, const char *why);
const char *fl_below_address(const fl_below *below);

/* Sums start at nothing. bits: of fl_work. Only while there is no block. Errors: USAGE, MEMORY. */
fl_status fl_below_begin(fl_below *below, uint64_t bits);
/* The fleet shall train this block; there must be none. model [vectors][elements]. */
void fl_below_give(fl_below *below, fl_relayed *block, const float *model);
/* Gives the block up, if there is one; the sums are then of no use. Waits for less than a second,
 * after which nothing that was given is used. */
void fl_below_give_up(fl_below *below);
/* A block that has been trained, and whose sums are in, or NULL; and what has happened. Errors:
 * those of the fleet, which has ended. */
fl_status fl_below_look(fl_below *below, fl_relayed **block, fl_fleet_tally *tally);
/* The sums of an update. Only while there is no block. */
const fl_mix *fl_below_sums(const fl_below *below, uint64_t update);

#endif
