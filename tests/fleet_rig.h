/* A fleet for tests: a coordinator in a thread of its own, workers in others, and peers made by
 * hand that say whatever a test likes. */
#ifndef FL_FLEET_RIG_H
#define FL_FLEET_RIG_H

#include <pthread.h>
#include <stdatomic.h>

#include "fleet.h"
#include "fleet/work.h"

enum { FL_FLEET_RIG_WORKERS = 8 };

typedef enum fl_fleet_rig_link {
  FL_FLEET_RIG_LOOPBACK,
  FL_FLEET_RIG_IPC,
  FL_FLEET_RIG_TCP,
  FL_FLEET_RIG_LINKS
} fl_fleet_rig_link;

typedef struct fl_fleet_rig_worker {
  pthread_t thread;
  fl_work_options options;
  const char *override[4];
  atomic_int stop;
  fl_status status;
  char why[512]; /* why it failed */
  int waits;     /* times that it has told of waiting for a place */
} fl_fleet_rig_worker;

typedef struct fl_fleet_rig {
  fedlane_run *run;
  char address[320];
  uint64_t people;
  float *expected; /* [P] what the run leaves when it trains by itself */
  int64_t P;
  pthread_t thread;
  fl_status status;
  int64_t left_out[FL_CAUSES]; /* over all rounds */
  int64_t up, down;            /* bytes */
  fl_fleet_rig_worker worker[FL_FLEET_RIG_WORKERS];
  int n_worker;
} fl_fleet_rig;

/* Trains `text` here, for what is expected, and has a coordinator listen for it. */
void fl_fleet_rig_open(fl_fleet_rig *rig, const char *text, fl_fleet_rig_link link, int n,
                       const char *const *override);
/* Starts the rounds, in a thread: they begin when as many peers are there as fleet.peers says. */
void fl_fleet_rig_start(fl_fleet_rig *rig);
/* Starts a worker with at most two overrides, NULL: none; they stay the caller's. */
fl_fleet_rig_worker *fl_fleet_rig_work(fl_fleet_rig *rig, const char *a, const char *b);
/* The same at another address than the coordinator's own. */
fl_fleet_rig_worker *fl_rig_work_at(fl_fleet_rig *rig, const char *address, const char *a);
/* The same with keys. */
fl_fleet_rig_worker *fl_rig_work_with(fl_fleet_rig *rig, const fl_security *security);
/* Waits for the worker's end: its status. */
fl_status fl_fleet_rig_join(fl_fleet_rig_worker *worker);
/* Waits for the rounds, which may take two minutes, and all workers, asserts that the weights are
 * those expected, frees. */
void fl_fleet_rig_close(fl_fleet_rig *rig);

/* Seconds, of a clock that is never set. */
double fl_fleet_rig_now(void);

/* A peer by hand. */
typedef struct fl_hand {
  fl_port *port;
  uint64_t session, people; /* as in ready */
  uint64_t units;           /* bit u: unit u has been reported since it was welcome; u below 64 */
  fl_letter letter;         /* the last one, whose bytes `message` points into */
  fl_message message;
} fl_hand;

/* Connects and says nothing. security: NULL: none. */
void fl_hand_open(fl_hand *hand, const char *address, const fl_security *security);
void fl_hand_close(fl_hand *hand);
/* Sends a message as it is; body: bytes of a chunk, or NULL. */
void fl_hand_say(fl_hand *hand, const fl_message *message, const void *body, size_t n);
/* Waits for a message of this kind, answering nothing, passing others over; false: it did not come
 * in time. */
bool fl_hand_hear(fl_hand *hand, fl_message_kind kind, double seconds);
/* Waits for work as a peer does that is ready: answers pings, and joins again when its session has
 * ended. */
bool fl_hand_work(fl_hand *hand, double seconds);
/* hello to welcome; false: refused. */
bool fl_hand_join(fl_hand *hand, uint64_t wire);
void fl_hand_ready(fl_hand *hand, uint64_t people);
/* Reports `work`, with zeros. */
void fl_hand_trained(fl_hand *hand, const fl_work *work);
/* Waits likewise, takes whatever work it is given and reports it, until the sum is asked for;
 * the blocks, their round and upload, and a weight of 1 a unit are then in *about, whose lists are
 * static. Returns false when that does not come. */
bool fl_hand_collect(fl_hand *hand, fl_update *about, fl_work *last);

#endif
