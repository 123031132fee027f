/* A relay: a worker to its coordinator and a coordinator to peers of its own, among which there may
 * be further relays. It reads no data: what the run is goes down as it came, and one sum comes up
 * for all that its peers have trained. */
#ifndef FL_RELAY_H
#define FL_RELAY_H

#include "session.h"

typedef struct fl_relay_options {
  const char *address, *name; /* of the coordinator; what it calls the relay */
  const char *listen;         /* address for the relay's own peers */
  fl_security security;   /* own: for both sides; server: the coordinator's; allow: the peers' */
  const atomic_int *stop; /* becomes other than 0: leave */
  /* Told of what happens, for people; NULL: nobody. */
  void (*tell)(void *of, const char *sentence);
  void *of;
} fl_relay_options;

/* Relays until the coordinator's run is complete, however often that is lost and found again. It
 * takes work while it has peers; after a while without any it leaves its blocks to others. Errors:
 * STOPPED after *stop; USAGE when the coordinator refuses it; those of listening. Memory: the
 * model's vectors as floats, the sums as 64-bit integers, and for a block what its clients keep. */
fl_status fl_relay_run(const fl_relay_options *options);

#endif
