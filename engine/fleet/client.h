/* A client of fedlane.h, for the program: it can be stopped by a signal. */
#ifndef FL_CLIENT_H
#define FL_CLIENT_H

#include <stdatomic.h>

#include "status.h"

typedef struct fl_join_options {
  const char *address;
  fedlane_client_options client; /* its examples are counted */
  fedlane_payload payload;
  int n_override; /* "key.path=value" over the coordinator's configuration, such as data.path */
  const char *const *override;
  const atomic_int *stop;
  /* Told of what happens, for people; NULL: nobody. */
  void (*tell)(void *of, const char *sentence);
  void *of;
} fl_join_options;

/* fedlane_client_join by address and client alone; all calls return STOPPED once *stop is other
 * than 0 (NULL: never), and tell of long waits. */
fl_status fl_client_join(const fl_join_options *options, fedlane_client **out);

/* A client that trains as the coordinator's configuration says, with all training examples of its
 * own data set, until the run is complete. Errors: STOPPED; as fedlane_client_next; those of
 * opening a run. */
fl_status fl_join_run(const fl_join_options *options);

#endif
