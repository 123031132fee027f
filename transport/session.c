#include "session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EVENTS = 256 };
static const double long_wait = 5; /* seconds without an answer of which one is told */

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
  fl_event event[EVENTS]; /* that wait, the first to come at `first` */
  int first, n_event;
  int64_t up, down;
  double spoken; /* when it last said something */
  bool untied;   /* the coordinator has ended the tie since it last accepted one */
  /* The vectors that are being fetched. */
  float *const *into;
  uint64_t round, vector, n, chunks; /* the first, and how many; chunks of each */
  uint64_t asked, got;               /* chunks of all of them */
  uint8_t *have;                     /* [n * chunks] */
  bool over;                         /* their round is */
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

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
  fl_port_options port = {.security = options->security, .patience = s->patience};
  s->name = strdup(options->name);
  if (!s->name) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for a session");
    goto done;
  }
  FL_GO(check_hello(s));
  FL_GO(fl_port_connect(address, &port, &s->port));
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

static fl_sent post(fl_session *s, bool pipeline, double seconds, const fl_message *m,
                    fl_blob *body) {
  char small[512], *head = small;
  size_t n = 0, room = fl_wire_room(m), size = body ? fl_blob_size(body) : 0;
  fl_sent sent = FL_SENT_GONE;
  if (room > sizeof small) head = malloc(room);
  if (head && fl_wire_write(m, room > sizeof small ? room : sizeof small, head, &n) == FEDLANE_OK) {
    sent = fl_port_send(s->port, NULL, pipeline, seconds, head, n, body);
    if (sent == FL_SENT) s->up += (int64_t)(n + size);
    s->spoken = now();
  } else {
    fl_blob_close(&body);
  }
  if (head != small) free(head);
  return sent;
}

/* Every message but hello begins with the session's number. */
fl_status fl_session_say(fl_session *s, fl_message *m) {
  m->ready.session = s->number;
  if (post(s, false, 1, m, NULL) != FL_SENT) s->lost = true;
  return FEDLANE_OK;
}

/* Work of a round that is taken back need not be begun. */
static void forget_work(fl_session *s, uint64_t round) {
  int kept = 0;
  for (int i = 0; i < s->n_event; i++) {
    fl_event one = s->event[(s->first + i) % EVENTS];
    bool over = (one.kind == FL_EVENT_WORK && one.work.round == round) ||
                (one.kind == FL_EVENT_COLLECT && one.collect.round == round);
    if (!over) s->event[(s->first + kept++) % EVENTS] = one;
  }
  s->n_event = kept;
}

static void add_event(fl_session *s, const fl_event *event) {
  if (s->n_event == EVENTS)
    s->lost = true;
  else
    s->event[(s->first + s->n_event++) % EVENTS] = *event;
}

static fl_status keep_text(fl_session *s, int i, fl_bytes *at) {
  free(s->text[i]);
  s->text[i] = strndup(at->n ? at->at : "", at->n);
  if (!s->text[i]) return fl_fail(FEDLANE_MEMORY, "no memory for a session");
  at->at = s->text[i];
  return FEDLANE_OK;
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
  if (w->pipeline.n > 0) FL_TRY(fl_port_join_pipeline(s->port, s->text[3]));
  s->n_event = 0; /* those of an earlier session */
  s->joined = true;
  s->lost = false;
  return FEDLANE_OK;
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
}

/* A chunk of the vectors that are being fetched; others are of no use any more. One that has come
 * to harm is not sent again in this session. */
static void take_chunk(fl_session *s, const fl_chunk *c, const fl_blob *body) {
  uint64_t each = FL_CHUNK_BYTES / sizeof(float), left = s->welcome.elements - c->offset;
  if (!s->into || c->round != s->round || c->stream < s->vector || c->stream - s->vector >= s->n ||
      c->upload != 0 || c->payload != FL_PAYLOAD_F32 || c->offset % each != 0 ||
      c->offset >= s->welcome.elements || c->count != (left < each ? left : each))
    return;
  uint64_t vector = c->stream - s->vector, i = vector * s->chunks + c->offset / each;
  if (s->have[i]) return;
  if (fl_digest(fl_blob_at(body), fl_blob_size(body)) != c->body ||
      fl_payload_read(FL_PAYLOAD_F32, c->count, fl_blob_at(body), fl_blob_size(body),
                      s->into[vector] + c->offset) != FEDLANE_OK) {
    s->lost = true;
    return;
  }
  s->have[i] = 1;
  s->got++;
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
      take_chunk(s, &m->chunk, body);
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
  double t = now(), silence = t - s->heard, some = s->patience / 4;
  fl_message pong = {.kind = FL_MESSAGE_pong};
  if (silence / 4 > some) some = fmin(silence / 4, 3 * s->patience);
  if (silence < some || t - s->spoken < some) return FEDLANE_OK;
  return fl_session_say(s, &pong);
}

/* Reads all that is there, waiting at most so long for the first. */
static fl_status look(fl_session *s, double seconds) {
  bool any = true;
  for (int i = 0; any && i < EVENTS / 2 && s->n_event < EVENTS / 2; i++) {
    fl_letter letter = {0};
    fl_message m;
    fl_status status = FEDLANE_OK;
    FL_TRY(fl_port_receive(s->port, i ? 0 : seconds, &letter, &any));
    if (!any) break;
    s->heard = now();
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

fl_status fl_session_join(fl_session *s, double seconds, const fl_welcome **welcome) {
  fl_message m = hello_of(s);
  static const char silence[] =
      "no coordinator has answered within %g seconds: is it running, does it allow this key, and "
      "is "
      "the server's key the right one?";
  double begun = now();
  bool told = false;
  s->joined = s->lost = s->done = false;
  while (!s->joined) {
    double waited = now() - begun;
    if (seconds > 0 && waited > seconds) return fl_fail(FEDLANE_IO, silence, seconds);
    if (!told && waited > long_wait && s->options.tell) {
      char text[256];
      snprintf(text, sizeof text, silence, long_wait);
      s->options.tell(s->options.of, text);
      told = true;
    }
    post(s, false, 0.5, &m, NULL);
    for (double said = now(); !s->joined && !s->done && now() - said < 1;) FL_TRY(look(s, 0.2));
    if (s->done) break;
  }
  s->heard = now();
  *welcome = s->joined ? &s->welcome : NULL;
  return FEDLANE_OK;
}

fl_status fl_session_ready(fl_session *s, uint64_t lanes, uint64_t people, uint64_t credit) {
  fl_message m = {.kind = FL_MESSAGE_ready, .ready = {0, lanes, people, credit}};
  return fl_session_say(s, &m);
}

fl_status fl_session_next(fl_session *s, double seconds, fl_event *out) {
  double until = now() + seconds;
  *out = (fl_event){.kind = FL_EVENT_NONE};
  do {
    double left = until - now();
    bool waits = s->n_event == 0 && !s->lost && !s->done;
    FL_TRY(look(s, !waits || left < 0 ? 0 : left < 0.2 ? left : 0.2));
  } while (s->n_event == 0 && !s->lost && !s->done && now() < until);
  if (s->n_event > 0) {
    *out = s->event[s->first];
    s->first = (s->first + 1) % EVENTS;
    s->n_event--;
  } else if (s->done) {
    out->kind = FL_EVENT_DONE;
  } else if (s->lost) {
    out->kind = FL_EVENT_LOST;
  }
  return FEDLANE_OK;
}

/* Asks for the next chunks, a few ahead of those that are in; a message asks for those of one
 * vector. */
static fl_status ask(fl_session *s) {
  uint64_t all = s->n * s->chunks;
  while (s->asked < all && s->asked < s->got + FL_WINDOW) {
    uint64_t room = s->got + FL_WINDOW - s->asked, from = s->asked % s->chunks;
    uint64_t left = s->chunks - from;
    if (room < left && room < FL_WINDOW / 2) break;
    fl_message m = {.kind = FL_MESSAGE_fetch,
                    .fetch = {.round = s->round,
                              .vector = s->vector + s->asked / s->chunks,
                              .from = from,
                              .count = room < left ? room : left}};
    s->asked += m.fetch.count;
    FL_TRY(fl_session_say(s, &m));
  }
  return FEDLANE_OK;
}

fl_status fl_session_fetch(fl_session *s, uint64_t round, uint64_t vector, float *out, bool *got) {
  return fl_session_fetch_all(s, round, vector, 1, &out, got);
}

fl_status fl_session_fetch_all(fl_session *s, uint64_t round, uint64_t vector, uint64_t n,
                               float *const *out, bool *got) {
  uint64_t each = FL_CHUNK_BYTES / sizeof(float);
  fl_status status = FEDLANE_OK;
  *got = false;
  s->chunks = (s->welcome.elements + each - 1) / each;
  free(s->have);
  s->have = calloc((size_t)n, (size_t)s->chunks);
  if (!s->have)
    return fl_fail(FEDLANE_MEMORY, "no memory for a model of %llu chunks",
                   (unsigned long long)s->chunks);
  s->into = out;
  s->round = round;
  s->vector = vector;
  s->n = n;
  s->asked = s->got = 0;
  s->over = false;
  while (s->got < n * s->chunks && !s->over && !s->lost && !s->done) {
    FL_GO(ask(s));
    FL_GO(look(s, 0.2));
    if (s->n_event >= EVENTS / 2) s->lost = true;
  }
  *got = s->got == n * s->chunks;
done:
  s->into = NULL;
  return status;
}

fl_status fl_session_begin(fl_session *s, fl_update *about) {
  fl_message m = {.kind = FL_MESSAGE_update, .update = *about};
  return fl_session_say(s, &m);
}

fl_status fl_session_ask_tied(fl_session *s, uint64_t round, uint64_t vector) {
  fl_message m = {.kind = FL_MESSAGE_fetch,
                  .fetch = {.round = round, .vector = FL_TIED | vector, .count = 1}};
  s->round = round;
  s->over = false;
  return fl_session_say(s, &m);
}

fl_status fl_session_listen(fl_session *s, bool *over) {
  fl_status status = look(s, 0);
  *over = status != FEDLANE_OK || s->over || s->lost || s->done || s->untied ||
          now() - s->heard > 2 * s->patience;
  return status;
}

static fl_status make_body(const fl_chunk *c, const void *x, fl_blob **out) {
  fl_blob *body = NULL;
  fl_payload payload = (fl_payload)c->payload;
  FL_TRY(fl_blob_open(fl_payload_bytes(payload, c->count), &body));
  if (payload == FL_PAYLOAD_SUM) {
    memcpy(fl_blob_at(body), (const int64_t *)x + c->offset, 8 * (size_t)c->count);
    *out = body;
    return FEDLANE_OK;
  }
  size_t n = fl_payload_write(payload, c->count, (const float *)x + c->offset, fl_blob_at(body));
  fl_status status = FEDLANE_OK;
  if (n < fl_blob_size(body)) { /* sparse: as many bytes as it has pairs */
    status = fl_blob_open(n, out);
    if (status == FEDLANE_OK) memcpy(fl_blob_at(*out), fl_blob_at(body), n);
    fl_blob_close(&body);
  } else {
    *out = body;
  }
  return status;
}

fl_status fl_session_stream(fl_session *s, const fl_update *about, uint64_t stream, const void *x,
                            bool *sent) {
  uint64_t elements = s->welcome.elements;
  uint64_t each = fl_payload_elements((fl_payload)about->payload, FL_CHUNK_BYTES);
  bool pipeline = s->welcome.pipeline.n > 0;
  *sent = true;
  for (uint64_t at = 0; at < elements && *sent; at += each) {
    fl_message m = {.kind = FL_MESSAGE_chunk,
                    .chunk = {.session = s->number,
                              .round = about->round,
                              .upload = about->upload,
                              .stream = stream,
                              .payload = about->payload,
                              .offset = at,
                              .count = elements - at < each ? elements - at : each}};
    fl_blob *body = NULL, *again = NULL;
    FL_TRY(make_body(&m.chunk, x, &body));
    m.chunk.body = fl_digest(fl_blob_at(body), fl_blob_size(body));
    for (;;) {
      fl_status status = fl_blob_share(body, &again);
      if (status == FEDLANE_OK && post(s, pipeline, 0.2, &m, again) == FL_SENT) break;
      if (status == FEDLANE_OK) status = look(s, 0);
      if (status != FEDLANE_OK) fl_blob_close(&body);
      FL_TRY(status);
      *sent = !s->lost && !s->done && !s->over;
      if (!*sent) break;
    }
    fl_blob_close(&body);
  }
  return FEDLANE_OK;
}
