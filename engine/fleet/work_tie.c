#include "fleet/work_tie.h"

#include <string.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static fl_status offer(fl_work_tie *t, const char *why) {
  const char *none = why;
  int version = why ? 0 : t->tied.ops->version(&none);
  if (version) none = "";
  fl_message m = {.kind = FL_MESSAGE_offer,
                  .offer = {.version = (uint64_t)version, .why = {none, strlen(none)}}};
  return fl_session_say(t->session, &m);
}

fl_status fl_work_tie_begin(fl_work_tie *t, fl_session *session, fedlane_run *run,
                            double patience) {
  static const char no_gpu[] = "its device is no NVIDIA GPU";
  const fl_tie_ops *ops = run->devices.ops->tie;
  fl_work_tie_end(t);
  *t = (fl_work_tie){.tied.ops = ops,
                     .session = session,
                     .dev = run->server.dev,
                     .patience = patience > 0 ? patience : 10};
  if (run->config->fleet.sums == FL_SUMS_ZEROMQ) return FEDLANE_OK;
  if (!ops && run->config->fleet.sums == FL_SUMS_AUTO) return FEDLANE_OK;
  return offer(t, ops ? NULL : no_gpu);
}

void fl_work_tie_end(fl_work_tie *t) { fl_tied_close(&t->tied); }

bool fl_work_tie_holds(const fl_work_tie *t) { return t->tied.tie != NULL; }

static bool enough(void *of) {
  const fl_work_tie *t = of;
  bool over = false;
  fl_status status = fl_session_listen(t->session, &over); /* what fails here fails again there */
  return status != FEDLANE_OK || over || (t->until > 0 && now() > t->until);
}

/* What has never worked is taken back. */
static bool broke(fl_work_tie *t) {
  (void)offer(t, t->used ? NULL : "it has not reached the coordinator's device");
  return false;
}

void fl_work_tie_accepted(fl_work_tie *t, const unsigned char *id) {
  memcpy(t->id, id, sizeof t->id);
  t->accepted = true;
}

void fl_work_tie_open(fl_work_tie *t) {
  if (!t->accepted) return;
  t->accepted = t->used = false;
  t->until = now() + 2 * t->patience;
  if (fl_tied_open(&t->tied, t->dev, t->id, 1) != FEDLANE_OK) broke(t);
}

/* Waits here until the tie is ready, so that the coordinator need not. */
static bool ready(fl_work_tie *t) {
  if (!t->tied.tie) return false;
  bool is = fl_tied_ready(&t->tied, enough, t);
  t->until = 0;
  return is || broke(t);
}

static bool move(fl_work_tie *t, bool send, void *at, int64_t bytes) {
  bool moved = fl_tied_move(&t->tied, send, at, bytes, enough, t);
  t->used = t->used || moved;
  return moved || broke(t);
}

bool fl_work_tie_fetch(fl_work_tie *t, uint64_t round, uint64_t vector, float *at, int64_t n) {
  if (!ready(t) || fl_session_ask_tied(t->session, round, vector) != FEDLANE_OK) return false;
  return move(t, false, at, n * (int64_t)sizeof *at);
}

bool fl_work_tie_send(fl_work_tie *t, const int64_t *at, int64_t n) {
  return ready(t) && move(t, true, (void *)(uintptr_t)at, n * (int64_t)sizeof *at);
}
