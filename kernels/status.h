/* Errors: a status travels up, the sentence that explains it waits in the thread. */
#ifndef FL_STATUS_H
#define FL_STATUS_H

#include "fedlane.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef fedlane_status fl_status;

#if defined(__GNUC__)
#define FL_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#else
#define FL_PRINTF(text, first)
#endif

/* Keeps a sentence (printf form; it names the value and what is allowed) for fedlane_error() and
 * returns status. Replaces the thread's earlier sentence. Texts past 16 KiB are cut. */
#define fl_fail(status, ...) fl_fail_at(__FILE__, __LINE__, status, __VA_ARGS__)
fl_status fl_fail_at(const char *file, int line, fl_status status, const char *format, ...)
    FL_PRINTF(4, 5);

/* The source position of the thread's last failure, such as "engine/run.c:120"; "" if none. */
const char *fl_fail_place(void);

/* Returns from the caller when `call` fails. */
#define FL_TRY(call)                                         \
  do {                                                       \
    fl_status fl_try_status_ = (call);                       \
    if (fl_try_status_ != FEDLANE_OK) return fl_try_status_; \
  } while (0)

/* Jumps to the caller's `done:` label when `call` fails; needs a local `fl_status status`. */
#define FL_GO(call)                      \
  do {                                   \
    status = (call);                     \
    if (status != FEDLANE_OK) goto done; \
  } while (0)

#ifdef __cplusplus
}
#endif
#endif
