/* A few threads that share out a job, again and again, with little time in between.
 *
 * Who waits looks for some microseconds whether there is something to do, and then sleeps, so that
 * on a machine with other work nobody takes turns in waiting. The caller of a job takes what no
 * other has begun when it is done with its own, so that a thread that wakes late, or has no core
 * to run on, or is not there any more in a forked process, is waited for only in the midst of
 * work. */
#ifndef FL_TEAM_H
#define FL_TEAM_H

#include "ops.h"

typedef struct fl_team fl_team;

/* Part i of a job. Parts may run at the same time, each in any thread of the team. */
typedef void (*fl_job_part)(void *job, int i);

/* n >= 1: parts of each job; starts n - 1 threads, which take no signals. Errors: MEMORY when they
 * cannot be started. */
fl_status fl_team_open(int n, fl_team **out);
void fl_team_close(fl_team **team);
/* Does all n parts and returns when they are done. One job at a time; what a part wrote is seen by
 * the caller and by later jobs. Cost: a few microseconds; some tens more when threads slept. */
void fl_team_do(fl_team *team, fl_job_part part, void *job);

#endif
