/* A worker: trains clients of a population that it reads itself for a coordinator. */
#ifndef FL_WORK_H
#define FL_WORK_H

#include "run.h"
#include "session.h"

typedef struct fl_work_options {
  const char *address, *name;
  fl_security security;
  int n_override; /* "key.path=value" that may differ from the coordinator's: data.path and what
                     never changes the weights */
  const char *const *override;
  const atomic_int *stop; /* becomes other than 0: leave */
  /* Told of what happens, for people; NULL: nobody. */
  void (*tell)(void *of, const char *sentence);
  void *of;
} fl_work_options;

/* Works until the coordinator's run is complete, however often it is lost and found again. Errors:
 * STOPPED after *stop; USAGE when the coordinator refuses it, or an override changes what is
 * trained; those of opening a run. */
fl_status fl_worker_run(const fl_work_options *options);

#endif
