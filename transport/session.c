#include "session_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double long_wait = 5;     /* seconds without an answer of which one is told */
static const double hello_seconds = 1; /* between hellos to which there is no answer */

static fl_message hello_of(const fl_session *s) {
  static const char program[] = "fedlane " FEDLANE_VERSION;
  return (fl_message){.kind = FL_MESSAGE_hello,
                      .hello = {.wire = FL_WIRE,
                                .session = s->number,
                                .peer = s->options.kind,
                                .examples = s->options.examples,
                                .name = {s->name, strlen(s->name)},
                                .program = {program, sizeof program - 1}}};
}

/* Whether a hello with this name can be said. */
static fl_status check_hello(const fl_session *s) {
  char scratch[512];
  size_t n;
  fl_message m = hello_of(s);
  return fl_wire_write(&m, sizeof scratch, scratch, &n);
}

fl_status fl_session_open(const char *address, const fl_session_options *options,
                          fl_session **out) {
  fl_session *s = calloc(1, sizeof *s);
  fl_status status;
  if (!s) return fl_fail(FEDLANE_MEMORY, "no memory for a session");
  s->options = *options;
  s->patience = options->patience > 0 ? options->patience : 10;
  s->every = hello_seconds / 2;
  fl_port_options port = {.security = options->security, .patience = s->patience};
  s->name = strdup(options->name);
  if (!s->name) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for a session");
    goto done;
  }
  FL_GO(check_hello(s));
  FL_GO(fl_port_connect(address, &port, &s->port));
  FL_GO(fl_pulse_open(s->port, &s->spoken, &s->pulse));
  *out = s;
  return FEDLANE_OK;
done:
  fl_session_close(&s, false);
  return status;
}

void fl_session_close(fl_session **session, bool leave) {
  fl_session *s = *session;
  if (!s) return;
  leave = leave && s->joined && !s->done && !s->lost; /* somebody is there */
  fl_pulse_close(&s->pulse);
  if (leave) {
    fl_message m = {.kind = FL_MESSAGE_leave};
    fl_session_say(s, &m);
  }
  fl_port_close(&s->port, leave ? 1 : 0);
  for (int i = 0; i < FL_COUNT(s->text); i++) free(s->text[i]);
  free(s->name);
  free(s->have);
  free(s);
  *session = NULL;
}

void fl_session_bytes(const fl_session *s, int64_t *up, int64_t *down) {
  *up = s->up;
  *down = s->down;
}

fl_sent fl_session_post(fl_session *s, bool pipeline, double seconds, const fl_message *m,
                        fl_blob *body) {
  char small[512], *head = small;
  size_t n = 0, room = fl_wire_room(m), size = body ? fl_blob_size(body) : 0;
  fl_sent sent = FL_SENT_GONE;
  if (room > sizeof small) head = malloc(room);
  if (head && fl_wire_write(m, room > sizeof small ? room : sizeof small, head, &n) == FEDLANE_OK) {
    if (pipeline) fl_pulse_hold(s->pulse);
    sent = fl_port_send(s->port, NULL, pipeline, seconds, head, n, body);
    if (pipeline) fl_pulse_release(s->pulse);
    if (sent == FL_SENT) s->up += (int64_t)(n + size);
    s->spoken = fl_pulse_now();
  } else {
    fl_blob_close(&body);
  }
  if (head != small) free(head);
  return sent;
}

/* Every message but hello begins with the session's number. */
fl_status fl_session_say(fl_session *s, fl_message *m) {
  m->ready.session = s->number;
  if (fl_session_post(s, false, 1, m, NULL) != FL_SENT) s->lost = true;
  return FEDLANE_OK;
}

/* Work of a round that is taken back need not be begun. */
static void forget_work(fl_session *s, uint64_t round) {
  int kept = 0;
  for (int i = 0; i < s->n_event; i++) {
    fl_event one = s->event[(s->first + i) % FL_EVENTS];
    bool over = (one.kind == FL_EVENT_WORK && one.work.round == round) ||
                (one.kind == FL_EVENT_COLLECT && one.collect.round == round);
    if (!over) s->event[(s->first + kept++) % FL_EVENTS] = one;
  }
  s->n_event = kept;
}

static void add_event(fl_session *s, const fl_event *event) {
  if (s->n_event == FL_EVENTS)
    s->lost = true;
  else
    s->event[(s->first + s->n_event++) % FL_EVENTS] = *event;
}

/* All of it, with a 0 behind: a digest is of any bytes. */
static fl_status keep_text(fl_session *s, int i, fl_bytes *at) {
  free(s->text[i]);
  s->text[i] = calloc(1, at->n + 1);
  if (!s->text[i]) return fl_fail(FEDLANE_MEMORY, "no memory for a session");
  if (at->n) memcpy(s->text[i], at->at, at->n);
  at->at = s->text[i];
  return FEDLANE_OK;
}

static fl_status join_pipeline(fl_session *s) {
  fl_pulse_hold(s->pulse);
  fl_status status = fl_port_join_pipeline(s->port, s->text[3]);
  fl_pulse_release(s->pulse);
  return status;
}

static fl_status take_welcome(fl_session *s, const fl_welcome *w) {
  if (s->joined) return FEDLANE_OK; /* the answer to a hello said twice */
  if (w->wire != FL_WIRE || w->chunk < FL_CHUNK_BYTES)
    return fl_fail(FEDLANE_USAGE, "the coordinator speaks version %llu of the messages, not %d",
                   (unsigned long long)w->wire, FL_WIRE);
  s->welcome = *w;
  s->number = w->session;
  FL_TRY(keep_text(s, 0, &s->welcome.config));
  FL_TRY(keep_text(s, 1, &s->welcome.digest));
  FL_TRY(keep_text(s, 2, &s->welcome.layout));
  FL_TRY(keep_text(s, 3, &s->welcome.pipeline));
  if (w->pipeline.n > 0) FL_TRY(join_pipeline(s));
  s->n_event = 0; /* those of an earlier session */
  s->joined = true;
  s->lost = s->crowded = false;
  s->every = hello_seconds / 2;
  s->knock = 0;
  return FEDLANE_OK;
}

/* Each time that there is no place the next hello comes later, up to the patience. */
static void wait_in_line(fl_session *s) {
  char text[sizeof s->why + 32];
  snprintf(text, sizeof text, "waiting for a place: %s", s->why);
  if (!s->crowded && s->options.tell) s->options.tell(s->options.of, text);
  s->crowded = true;
  s->every = fmin(2 * s->every, fmax(s->patience, hello_seconds));
  s->knock = fl_pulse_now() + s->every;
}

/* After a refusal nothing else counts, such as the answer to what was on its way. */
static void take_bye(fl_session *s, const fl_bye *bye) {
  if (s->refused || (bye->session && bye->session != s->number)) return;
  size_t n = bye->why.n < sizeof s->why ? bye->why.n : sizeof s->why - 1;
  memcpy(s->why, bye->why.at, n);
  s->why[n] = '\0';
  if (bye->code == FL_BYE_DONE) s->done = true;
  if (bye->code == FL_BYE_REFUSED) s->refused = true;
  if (bye->code == FL_BYE_REJOIN) s->lost = true;
  if (bye->code == FL_BYE_REJOIN && bye->session == 0 && !s->joined) wait_in_line(s);
}

static void take_accept(fl_session *s, const fl_accept *a) {
  fl_event event = {.kind = FL_EVENT_ACCEPT};
  s->untied = a->id.n == 0;
  if (s->untied) return;
  memcpy(event.id, a->id.at, sizeof event.id);
  add_event(s, &event);
}

static fl_status hear(fl_session *s, const fl_message *m, const fl_blob *body) {
  if (m->kind == FL_MESSAGE_welcome) return take_welcome(s, &m->welcome);
  if (m->ready.session != s->number && m->kind != FL_MESSAGE_bye) return FEDLANE_OK;
  switch (m->kind) {
    case FL_MESSAGE_work:
      add_event(s, &(fl_event){FL_EVENT_WORK, .work = m->work});
      break;
    case FL_MESSAGE_collect:
      add_event(s, &(fl_event){FL_EVENT_COLLECT, .collect = m->collect});
      break;
    case FL_MESSAGE_received:
      add_event(s, &(fl_event){FL_EVENT_RECEIVED, .received = m->received});
      break;
    case FL_MESSAGE_cancel:
      s->over = s->over || m->cancel.round == s->round;
      forget_work(s, m->cancel.round);
      add_event(s, &(fl_event){FL_EVENT_CANCEL, .cancel = m->cancel});
      break;
    case FL_MESSAGE_chunk:
      fl_session_take_chunk(s, &m->chunk, body);
      break;
    case FL_MESSAGE_accept:
      take_accept(s, &m->accept);
      break;
    case FL_MESSAGE_bye:
      take_bye(s, &m->bye);
      break;
    case FL_MESSAGE_ping: {
      fl_message pong = {.kind = FL_MESSAGE_pong, .pong = {0, m->ping.round}};
      return fl_session_say(s, &pong);
    }
    default:
      break;
  }
  return FEDLANE_OK;
}

static bool stopped(const fl_session *s) { return s->options.stop && *s->options.stop; }

/* Breaks a long silence: a coordinator that has begun anew answers that it knows no such session.
 */
static fl_status remind(fl_session *s) {
  double t = fl_pulse_now(), silence = t - s->heard, some = s->patience / 4;
  fl_message pong = {.kind = FL_MESSAGE_pong};
  if (silence / 4 > some) some = fmin(silence / 4, 3 * s->patience);
  if (silence < some || t - s->spoken < some) return FEDLANE_OK;
  return fl_session_say(s, &pong);
}

fl_status fl_session_look(fl_session *s, double seconds) {
  bool any = true;
  for (int i = 0; any && i < FL_EVENTS / 2 && s->n_event < FL_EVENTS / 2; i++) {
    fl_letter letter = {0};
    fl_message m;
    fl_status status = FEDLANE_OK;
    FL_TRY(fl_port_receive(s->port, i ? 0 : seconds, &letter, &any));
    if (!any) break;
    s->heard = fl_pulse_now();
    s->down += (int64_t)(fl_blob_size(letter.head) + (letter.body ? fl_blob_size(letter.body) : 0));
    if (fl_wire_read(fl_blob_at(letter.head), fl_blob_size(letter.head), 'C', &m) == FEDLANE_OK &&
        (letter.body != NULL) == (m.kind == FL_MESSAGE_chunk))
      status = hear(s, &m, letter.body);
    fl_letter_close(&letter);
    FL_TRY(status);
  }
  if (stopped(s)) return FEDLANE_STOPPED;
  if (s->refused) return fl_fail(FEDLANE_USAGE, "the coordinator refuses: %s", s->why);
  return s->joined ? remind(s) : FEDLANE_OK;
}

/* Why it has not been welcome for so many seconds. */
static void explain(const fl_session *s, double seconds, char *text, size_t size) {
  if (s->crowded)
    snprintf(text, size, "there was no place within %g seconds: %s", seconds, s->why);
  else
    snprintf(text, size,
             "no coordinator has answered within %g seconds: is it running, does it allow this "
             "key, and is the server's key the right one?",
             seconds);
}

fl_status fl_session_join(fl_session *s, double seconds, const fl_welcome **welcome) {
  fl_message m = hello_of(s);
  char text[sizeof s->why + 64];
  double begun = fl_pulse_now();
  bool told = false;
  s->joined = s->lost = s->done = false;
  FL_TRY(fl_pulse_set(s->pulse, 0, 0));
  while (!s->joined && !s->done) {
    double now = fl_pulse_now(), waited = now - begun;
    if (seconds > 0 && waited > seconds) {
      explain(s, seconds, text, sizeof text);
      return fl_fail(FEDLANE_IO, "%s", text);
    }
    if (!told && !s->crowded && waited > long_wait && s->options.tell) {
      explain(s, long_wait, text, sizeof text);
      s->options.tell(s->options.of, text);
      told = true;
    }
    if (now >= s->knock) {
      fl_session_post(s, false, 0.5, &m, NULL);
      s->knock = fl_pulse_now() + hello_seconds;
    }
    FL_TRY(fl_session_look(s, 0.2));
  }
  s->heard = fl_pulse_now();
  *welcome = s->joined ? &s->welcome : NULL;
  return FEDLANE_OK;
}

fl_status fl_session_ready(fl_session *s, uint64_t lanes, uint64_t people, uint64_t credit) {
  fl_message m = {.kind = FL_MESSAGE_ready, .ready = {0, lanes, people, credit}};
  fl_message alive = {.kind = FL_MESSAGE_alive, .alive = {0, s->welcome.patience}};
  FL_TRY(fl_session_say(s, &m));
  if (s->welcome.pipeline.n == 0) return FEDLANE_OK;
  FL_TRY(fl_session_say(s, &alive));
  return fl_pulse_set(s->pulse, s->number, s->welcome.patience);
}

fl_status fl_session_next(fl_session *s, double seconds, fl_event *out) {
  double until = fl_pulse_now() + seconds;
  *out = (fl_event){.kind = FL_EVENT_NONE};
  do {
    double left = until - fl_pulse_now();
    bool waits = s->n_event == 0 && !s->lost && !s->done;
    FL_TRY(fl_session_look(s, !waits || left < 0 ? 0 : left < 0.2 ? left : 0.2));
  } while (s->n_event == 0 && !s->lost && !s->done && fl_pulse_now() < until);
  if (s->n_event > 0) {
    *out = s->event[s->first];
    s->first = (s->first + 1) % FL_EVENTS;
    s->n_event--;
  } else if (s->done) {
    out->kind = FL_EVENT_DONE;
  } else if (s->lost) {
    out->kind = FL_EVENT_LOST;
  }
  return FEDLANE_OK;
}

fl_status fl_session_listen(fl_session *s, bool *over) {
  fl_status status = fl_session_look(s, 0);
  *over = status != FEDLANE_OK || s->over || s->lost || s->done || s->untied ||
          fl_pulse_now() - s->heard > 2 * s->patience;
  return status;
}
