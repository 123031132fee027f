/* Real clients, as their coordinator sees them: who takes part in a round, and what comes of what
 * they send. */
#ifndef FL_CLIENTS_H
#define FL_CLIENTS_H

#include "fleet.h"
#include "run.h"

enum {
  FL_CLIENT_EXAMPLES = 1 << 24, /* that a client's update may count for */
  FL_CLIENT_COHORT = 1 << 14,   /* clients of a round where examples are their weight */
};

/* The clients of the round. Arrays of the cohort's capacity, by unit. */
typedef struct fl_clients {
  uint64_t *ready; /* [room] sessions of all that take work */
  int room;
  uint64_t *who; /* sessions of those that were drawn */
  int64_t *examples, *steps;
  float *update; /* [P] of one of them */
} fl_clients;

/* Errors: USAGE when the algorithm, the sampler or the cohort does not go with real clients. */
fl_status fl_clients_open(const fedlane_run *run, fl_clients **out);
void fl_clients_close(fl_clients **clients);
/* Waits until fleet.peers take work, and draws the cohort from all that do, in the order of their
 * names. Errors: STOPPED. */
fl_status fl_clients_draw(fedlane_run *run, fl_fleet *fleet, fl_clients *clients);
/* Takes a client's update into the sums, or says why not. */
fl_status fl_clients_take(fedlane_run *run, fl_clients *clients, const fl_upload *upload,
                          fl_cause *cause);
/* Sums what they have told. */
void fl_clients_collect(const fedlane_run *run, const fl_clients *clients, fedlane_metrics *m);

#endif
