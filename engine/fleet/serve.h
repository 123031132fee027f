/* A run whose clients are trained by a fleet: the host of transport/fleet.h. */
#ifndef FL_SERVE_H
#define FL_SERVE_H

#include "fleet.h"
#include "run.h"

typedef struct fl_serving fl_serving;

/* Has a run listen where its configuration's `fleet` section says, and train there from its next
 * round on. Errors: USAGE when the algorithm does not go with the fleet, or as fl_port_bind. */
fl_status fl_serving_open(fedlane_run *run);
/* done: the run is complete, so peers go; else they come back to the next coordinator. */
void fl_serving_close(fedlane_run *run, bool done);
/* The address that peers connect to. */
const char *fl_serving_address(const fl_serving *serving);
/* Says in one line how weights and sums travel to and from the peers that are there. */
void fl_serving_say(const fl_serving *serving, char *text, size_t size);
/* Answers peers until as many take work as fleet.peers asks for; when no round is left, for the few
 * seconds in which they come back to hear so. Errors: STOPPED. */
fl_status fl_serving_wait(fedlane_run *run);
/* Draws the cohort of the round after those done: of the population, or of the real clients that
 * take work, for which it waits. Errors: STOPPED. */
fl_status fl_serving_draw(fedlane_run *run);
/* Sums what real clients have told of the round; false: there are none, and the cohort knows. */
bool fl_serving_collect(const fedlane_run *run, fedlane_metrics *metrics);
/* Trains the cohort that has been drawn; its sums are then in the first station's. Fills in bytes
 * and what was left out. Errors: STOPPED when the run is to stop before the round is complete. */
fl_status fl_serving_train(fedlane_run *run, fedlane_metrics *metrics);
/* XXH3 of what decides the clients' examples: the data and how they are dealt. Never 0. */
uint64_t fl_run_people(const fedlane_run *run);

#endif
