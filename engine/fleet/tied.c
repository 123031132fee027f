#include "fleet/tied.h"

#include <sched.h>
#include <time.h>

fl_status fl_tied_open(fl_tied *t, fl_dev *dev, const unsigned char *id, int side) {
  fl_tied_close(t);
  return t->ops->open(dev, id, side, &t->tie);
}

void fl_tied_close(fl_tied *t) {
  if (t->tie) t->ops->close(&t->tie);
}

/* Between two looks: others have their turn; after some of them it sleeps ever longer, so that a
 * side that waits for long leaves its core to others and hears the end hardly later. */
static void pause_after(int look) {
  enum { YIELDS = 256, PER_LOOK_NS = 64, MOST_NS = 1000000 };
  int ns = look < MOST_NS / PER_LOOK_NS ? look * PER_LOOK_NS : MOST_NS;
  if (look < YIELDS)
    sched_yield();
  else
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* A short while is waited for without asking, since the answer may cost a system call. */
static bool settle(fl_tied *t, bool (*enough)(void *of), void *of) {
  enum { LOOKS = 16 };
  bool busy = true;
  for (int i = 1; busy; i++) {
    if (t->ops->look(t->tie, &busy) != FEDLANE_OK) return false;
    if (busy && i % LOOKS == 0 && enough(of)) return false;
    if (busy) pause_after(i);
  }
  return true;
}

bool fl_tied_ready(fl_tied *t, bool (*enough)(void *of), void *of) {
  bool ready = t->tie && settle(t, enough, of);
  if (!ready) fl_tied_close(t);
  return ready;
}

bool fl_tied_move(fl_tied *t, bool send, void *at, int64_t bytes, bool (*enough)(void *of),
                  void *of) {
  bool done = fl_tied_ready(t, enough, of) && t->ops->move(t->tie, send, at, bytes) == FEDLANE_OK &&
              settle(t, enough, of);
  if (!done) fl_tied_close(t);
  return done;
}
