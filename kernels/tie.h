/* Ties: the way between a device of this process and one of another, perhaps on another machine.
 * A backend that has them names its functions in fl_ops (`tie`). A tie has two sides; both open it
 * under one id, which they exchange by other means, and what one sends the other must receive, in
 * the same order and with the same number of bytes. Nothing here waits. One thread at a time uses a
 * tie. What travels is neither encrypted nor checked beyond what the hardware does. */
#ifndef FL_TIE_H
#define FL_TIE_H

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FL_TIE_ID = 128 }; /* bytes of an id */

typedef struct fl_tie fl_tie;
struct fl_dev;

typedef struct fl_tie_ops {
  const char *name; /* of the library that does it, for people: "NCCL" */
  /* Its version, which must be the same on both sides; 0 and a sentence in *why: there is none. */
  int (*version)(const char **why);
  /* A new id. Only the process that made it may be side 0. Errors: DEVICE. */
  fl_status (*make)(unsigned char *id);
  /* Begins to open; done when `look` says so. side: 0 or 1. Errors: DEVICE, MEMORY. */
  fl_status (*open)(struct fl_dev *d, const unsigned char *id, int side, fl_tie **out);
  /* Queues that the bytes at `at` (device) go to the other side (send), or come from it, behind
   * what is queued on the device. Not while the tie is busy. Errors: DEVICE. */
  fl_status (*move)(fl_tie *tie, bool send, void *at, int64_t bytes);
  /* Whether it still opens or moves, or the device has other work. Errors: DEVICE, after which it
   * is of no use any more. */
  fl_status (*look)(fl_tie *tie, bool *busy);
  /* Ends it, in the midst of whatever it does; what was moved then is anything. Accepts NULL; nulls
   * *tie. */
  void (*close)(fl_tie **tie);
} fl_tie_ops;

#ifdef __cplusplus
}
#endif
#endif
