/* A peer's side of a fleet: worker, client or relay. It joins, takes work, fetches the model, and
 * sends what it has; it answers pings by itself whenever one of these functions is called. One
 * thread at a time uses a session. */
#ifndef FL_SESSION_H
#define FL_SESSION_H

#include <stdatomic.h>

#include "port.h"

typedef struct fl_session fl_session;

typedef struct fl_session_options {
  fl_peer_kind kind;
  const char *name;  /* what the coordinator's log calls it: 1 to 64 bytes of UTF-8 */
  uint64_t examples; /* of a client */
  fl_security security;
  double patience;        /* seconds of silence after which the connection is made anew; 0: 10 */
  const atomic_int *stop; /* becomes other than 0: give up; NULL: never */
  /* Told when nobody answers for long, or there is no place; NULL: nobody. */
  void (*tell)(void *of, const char *sentence);
  void *of;
} fl_session_options;

/* Connects; the coordinator need not be there yet. Errors: USAGE, as fl_port_connect or of the
 * name.
 */
fl_status fl_session_open(const char *address, const fl_session_options *options, fl_session **out);
/* Frees it; `leave` says goodbye first. Accepts NULL; nulls *session. */
void fl_session_close(fl_session **session, bool leave);

/* Says hello until it is welcome, at most `seconds` (0: as long as it takes): once a second, and
 * ever less often, up to the patience, where it is told that there is no place. *welcome, its texts
 * ended by 0, is good until the next join. Errors: STOPPED; USAGE with the coordinator's sentence
 * when it refuses this peer; IO when the time is over. */
fl_status fl_session_join(fl_session *session, double seconds, const fl_welcome **welcome);
/* From now on the session says by itself, in a thread of its own, that it lives. */
fl_status fl_session_ready(fl_session *session, uint64_t lanes, uint64_t people, uint64_t credit);

typedef enum fl_event_kind {
  FL_EVENT_NONE,     /* the time is over */
  FL_EVENT_WORK,     /* .work */
  FL_EVENT_COLLECT,  /* .collect */
  FL_EVENT_RECEIVED, /* .received */
  FL_EVENT_CANCEL,   /* .cancel */
  FL_EVENT_ACCEPT,   /* .id: the other side of a tie opens */
  FL_EVENT_DONE,     /* the run is complete */
  FL_EVENT_LOST,     /* the coordinator does not know this session any more: join */
} fl_event_kind;

typedef struct fl_event {
  fl_event_kind kind;
  union {
    fl_work work;
    fl_collect collect;
    fl_received received;
    fl_cancel cancel;
    unsigned char id[FL_TIE_BYTES];
  };
} fl_event;

/* The next thing to do, waiting at most `seconds`. Errors: STOPPED; USAGE when the coordinator ends
 * the session for good, with its sentence. */
fl_status fl_session_next(fl_session *session, double seconds, fl_event *out);

/* Fetches a vector of a round's version into out [elements]. Events that arrive meanwhile wait for
 * fl_session_next. *got is false when the round or the session is over. Errors: as above. */
fl_status fl_session_fetch(fl_session *session, uint64_t round, uint64_t vector, float *out,
                           bool *got);
/* The same for n vectors that follow each other, out[i] [elements] each. */
fl_status fl_session_fetch_all(fl_session *session, uint64_t round, uint64_t vector, uint64_t n,
                               float *const *out, bool *got);
/* Asks for a vector of a round's version over the tie. */
fl_status fl_session_ask_tied(fl_session *session, uint64_t round, uint64_t vector);
/* Reads what there is, for somebody who waits for a tie; events wait for fl_session_next. *over:
 * the tie will move nothing any more: the coordinator has ended it, or the round that was last
 * fetched, or has said nothing for twice the patience, or the session is lost. Errors: as
 * fl_session_next. */
fl_status fl_session_listen(fl_session *session, bool *over);
/* Sends a message: its session number is filled in. */
fl_status fl_session_say(fl_session *session, fl_message *message);
/* Begins an upload by its `update`. */
fl_status fl_session_begin(fl_session *session, fl_update *about);
/* Sends one stream of it in chunks. x: int64 [elements] of FL_PAYLOAD_SUM, else floats. Waits while
 * the coordinator does not take what was sent before. *sent is false when the session is lost. */
fl_status fl_session_stream(fl_session *session, const fl_update *about, uint64_t stream,
                            const void *x, bool *sent);
/* Bytes of frames sent and received so far. */
void fl_session_bytes(const fl_session *session, int64_t *up, int64_t *down);

#endif
