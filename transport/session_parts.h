/* What the files of a peer's side share. */
#ifndef FL_SESSION_PARTS_H
#define FL_SESSION_PARTS_H

#include "pulse.h"
#include "session.h"

enum { FL_EVENTS = 256 };

struct fl_session {
  fl_port *port;
  fl_session_options options;
  char *name;
  double patience;
  uint64_t number; /* of the session; 0: none */
  fl_welcome welcome;
  char *text[4]; /* config, digest, layout, pipeline; owned */
  bool joined, refused, done, lost;
  char why[512];
  double heard;
  bool crowded;        /* it was told that there is no place, since it was last welcome */
  double every, knock; /* seconds between hellos when there is none; when the next one is due */
  fl_event event[FL_EVENTS]; /* that wait, the first to come at `first` */
  int first, n_event;
  int64_t up, down;
  _Atomic double spoken; /* when it last said something */
  fl_pulse *pulse;
  bool untied; /* the coordinator has ended the tie since it last accepted one */
  /* The vectors that are being fetched. */
  float *const *into;
  uint64_t round, vector, n, chunks; /* the first, and how many; chunks of each */
  uint64_t asked, got;               /* chunks of all of them */
  uint8_t *have;                     /* [n * chunks] */
  bool over;                         /* their round is */
};

/* Sends a message. body is taken over. */
fl_sent fl_session_post(fl_session *session, bool pipeline, double seconds,
                        const fl_message *message, fl_blob *body);
/* Reads all that is there, waiting at most so long for the first. */
fl_status fl_session_look(fl_session *session, double seconds);
/* session_moves.c. A chunk of the vectors that are being fetched; others are of no use any more.
 * One that has come to harm is not sent again in this session. */
void fl_session_take_chunk(fl_session *session, const fl_chunk *chunk, const fl_blob *body);

#endif
