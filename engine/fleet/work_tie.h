/* A worker's tie to its coordinator: offered, opened when a round begins, used while it holds. One
 * that has been of use and breaks is offered again, for the next round. Whatever it cannot move
 * goes by the session, in chunks. */
#ifndef FL_WORK_TIE_H
#define FL_WORK_TIE_H

#include "fleet/tied.h"
#include "run.h"
#include "session.h"

typedef struct fl_work_tie {
  fl_tied tied;
  fl_session *session;
  fl_dev *dev;
  double patience, until; /* until: when opening is given up; 0: it is not waited for */
  bool used;              /* something has travelled over it */
  bool accepted;          /* there is an id to open it under */
  unsigned char id[FL_TIE_ID];
} fl_work_tie;

/* For a session that begins: offers to open one where the run's device can, and its fleet.sums is
 * not zeromq. */
fl_status fl_work_tie_begin(fl_work_tie *tie, fl_session *session, fedlane_run *run,
                            double patience);
void fl_work_tie_end(fl_work_tie *tie);
/* The coordinator opens its side, */
void fl_work_tie_accepted(fl_work_tie *tie, const unsigned char *id);
/* and so does the worker, for a round that begins. */
void fl_work_tie_open(fl_work_tie *tie);
/* Whether it is worth trying. */
bool fl_work_tie_holds(const fl_work_tie *tie);
/* A vector of the round's version into n floats at `at` (device); sums from there. False: it has
 * broken, or there is none. */
bool fl_work_tie_fetch(fl_work_tie *tie, uint64_t round, uint64_t vector, float *at, int64_t n);
bool fl_work_tie_send(fl_work_tie *tie, const int64_t *at, int64_t n);

#endif
