/* The coordinator's side of a fleet: peers and their sessions, blocks of work, uploads.
 *
 * It knows numbers, kinds and bytes, and never what a weight means: that is the host's, the engine
 * of `fedlane serve` or a relay, which it asks for vectors and hands complete uploads. A round's
 * units are dealt in blocks, larger ones to peers that have been faster. Work that a peer does not
 * bring back, because it died, is slow, leaves or is cut off, goes to others; what it sends after
 * that is known by its numbers and left out. One thread at a time uses a fleet. */
#ifndef FL_FLEET_H
#define FL_FLEET_H

#include <stdatomic.h>

#include "port.h"

/* X(name, text): why something that arrived was left out. */
#define FL_CAUSE_LIST(X)                                      \
  X(none, "")                                                 \
  X(corrupt, "messages that could not be read")               \
  X(stranger, "messages under a session of another key")      \
  X(stale, "messages of a session or round that is over")     \
  X(shape, "updates or messages of the wrong shape")          \
  X(nonfinite, "updates that are not finite")                 \
  X(oversized, "updates too large, in bytes or in magnitude") \
  X(unfinished, "uploads that stopped half-way")              \
  X(twice, "chunks or updates that were there already")       \
  X(late, "units not in by the deadline")                     \
  X(refused, "blocks that a peer did not take")               \
  X(lost, "peers that went without a word")                   \
  X(slow, "peers whose work was given to others")             \
  X(rate, "peers that sent messages too fast")                \
  X(tie, "uploads by NCCL that were sent again by ZeroMQ")

typedef enum fl_cause {
#define FL_CAUSE_ENUM(name, text) FL_CAUSE_##name,
  FL_CAUSE_LIST(FL_CAUSE_ENUM)
#undef FL_CAUSE_ENUM
      FL_CAUSES
} fl_cause;

/* The name of a cause, such as "corrupt", and its text. */
const char *fl_cause_name(fl_cause cause);
const char *fl_cause_text(fl_cause cause);

/* What the run is, as peers are told. Texts are copied. */
typedef struct fl_fleet_about {
  const char *config, *digest, *layout;
  uint64_t elements, vectors, updates, own; /* as in fl_welcome */
  uint64_t people;                          /* that peers must have read; 0: the same */
  bool clients; /* peers are clients, a unit each; else workers and relays */
} fl_fleet_about;

typedef struct fl_fleet_limits {
  int64_t memory; /* bytes of chunks that wait for the rest of their uploads; 0: 2 GiB */
  int peers;      /* 0: 65,536 */
  double rate;    /* messages a second from a peer, over some seconds; 0: 20,000 */
} fl_fleet_limits;

/* What a peer reported of a block. Arrays of `count`. */
typedef struct fl_report {
  uint64_t first, count;
  double *loss;
  int64_t *hit;
  uint8_t *good;
} fl_report;

/* A chunk that waits for the rest of its upload. */
typedef struct fl_stretch {
  fl_chunk about;
  fl_blob *body;
} fl_stretch;

/* An upload: as announced, or, when it is taken, with all of its stretches: no gaps, none twice. */
typedef struct fl_upload {
  fl_update about;
  int n_report, n_stretch;
  const fl_report *report;
  const fl_stretch *stretch;
  int n_tied; /* streams that come over the tie, in this order, once the upload is taken */
  const uint32_t *tied;
  const char *name; /* of the peer */
  uint64_t session; /* its */
} fl_upload;

/* What the fleet asks of its host. A failure ends the round with it. */
typedef struct fl_fleet_host {
  void *of;
  /* A vector of the round's version, or from `vectors` on one that a unit's client keeps, as floats
   * [elements] in host memory; good until the next call. */
  fl_status (*vector)(void *of, uint64_t vector, const float **at);
  /* An upload has been announced: why it cannot be what it says. NULL, with mix and unmix: uploads
   * are looked at when they are whole. */
  fl_status (*check)(void *of, const fl_upload *upload, fl_cause *cause);
  /* A stretch of one that passed has come: says why it cannot be, or adds what can be taken off
   * again to the sums. The round's end sees only what was taken. */
  fl_status (*mix)(void *of, const fl_update *about, const fl_stretch *stretch, fl_cause *cause);
  /* Takes off what `mix` has added of a stretch. */
  fl_status (*unmix)(void *of, const fl_stretch *stretch);
  /* Takes a whole upload: all that `mix` has not added yet. Or leaves it out and says why, and is
   * asked to take off the rest; when the tie has broken, *cause is tie, and the peer sends all of
   * it again. */
  fl_status (*take)(void *of, const fl_upload *upload, fl_cause *cause);
  /* Asked some times a second while a round is in progress; NULL: not. */
  fl_status (*tick)(void *of);
  /* Ties of devices (kernels/tie.h); all NULL: there are none, and peers are told so.
   * A peer offers to open one, or takes its offer back (version 0): true: it is accepted, with id
   * [FL_TIE_BYTES]. */
  bool (*offered)(void *of, uint64_t session, const fl_offer *offer, unsigned char *id);
  /* Why a peer that is ready is refused; NULL: it is not. */
  const char *(*unfit)(void *of, uint64_t session);
  /* Sends a vector of the round's version over a peer's tie; false: that has come to an end. */
  bool (*send)(void *of, uint64_t session, uint64_t vector);
  /* A session has ended. */
  void (*gone)(void *of, uint64_t session);
} fl_fleet_host;

/* A round. */
typedef struct fl_fleet_job {
  fl_work work;           /* round, bits, epochs, batch, lr, deadline; the rest is the fleet's */
  uint64_t first, n;      /* units */
  const int32_t *cost;    /* [n] pieces of work, at least 1 */
  const uint64_t *who;    /* [n] sessions of clients; NULL: any worker */
  double quorum;          /* share of units without which a deadline does not end the round */
  const atomic_int *stop; /* becomes other than 0: give up */
} fl_fleet_job;

/* What happened since the last fl_fleet_tally. */
typedef struct fl_fleet_tally {
  int64_t bytes_up, bytes_down; /* of all frames */
  int64_t cause[FL_CAUSES];
  int peers;       /* that take work now */
  uint64_t lanes;  /* of all of them */
  uint64_t people; /* that they must have read; 0: not known, and there was none yet */
} fl_fleet_tally;

typedef struct fl_fleet fl_fleet;

/* Listens. Errors: as fl_port_bind. */
fl_status fl_fleet_open(const char *address, const fl_port_options *options,
                        const fl_fleet_about *about, const fl_fleet_limits *limits,
                        const fl_fleet_host *host, fl_fleet **out);
const char *fl_fleet_address(const fl_fleet *fleet);
/* Answers peers until `n` take work; STOPPED when *stop becomes other than 0. */
fl_status fl_fleet_wait(fl_fleet *fleet, int n, const atomic_int *stop);
/* Answers peers for so many seconds. Errors: STOPPED. */
fl_status fl_fleet_answer(fl_fleet *fleet, double seconds, const atomic_int *stop);
/* Sessions of peers that take work, in the order of their names; returns how many there are. When
 * that is more than `room`, what is written is of no use. */
int fl_fleet_clients(fl_fleet *fleet, int room, uint64_t *session);
/* Has all units trained and taken, or, after the deadline, a quorum of them. Units of clients that
 * are lost or refuse are given up. Errors: STOPPED, the host's; what peers do is never one. */
fl_status fl_fleet_train(fl_fleet *fleet, const fl_fleet_job *job);
void fl_fleet_tell(fl_fleet *fleet, fl_fleet_tally *tally);
/* Says goodbye: `code` of fl_bye_code, why as a sentence. Accepts NULL; nulls *fleet. */
void fl_fleet_close(fl_fleet **fleet, fl_bye_code code, const char *why);

#endif
