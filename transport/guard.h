/* The guard: ZeroMQ asks it (ZAP, RFC 27) about the key of everyone who knocks at a bound
 * port. */
#ifndef FL_GUARD_H
#define FL_GUARD_H

#include "keys.h"

typedef struct fl_guard fl_guard;

/* Stands at the doors of a ZeroMQ context, before any socket is bound: a thread that lets in the
 * keys of the list and reads the list again when it has changed, a second later at most. `allow`
 * must outlive the context. */
fl_status fl_guard_open(void *context, fl_allow *allow, fl_guard **out);
/* The context must have been shut down. */
void fl_guard_close(fl_guard **guard);

/* Gives a socket its pair of keys; server: the key to expect at the other end, or NULL: it is one
 * that peers connect to. */
fl_status fl_guard_arm(void *socket, const fl_key_pair *own, const char *server);

#endif
