/* What the `fedlane` program needs of a run beyond the public interface. */
#ifndef FL_RUN_H
#define FL_RUN_H

#include <stddef.h>

#include "config.h"

enum { FL_OPEN_DRY = 2 }; /* flag of fedlane_open: plan the run and write nothing */

/* The configuration of an open run; owned by the run. */
const fl_config *fl_run_config(const fedlane_run *run);
/* Rounds already done: 0, or those of the checkpoint that the run went on from. */
int fl_run_round(const fedlane_run *run);
/* Writes the plan as text (population, model, bytes a lane, lanes seated at once) into text[size],
 * cut when it does not fit. Errors: none of its own; those of asking the device for its memory. */
fl_status fl_run_describe(fedlane_run *run, char *text, size_t size);

#endif
