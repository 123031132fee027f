/* A swarm of clients in one process, each with a connection and a session of its own, that train
 * nothing: every answer comes at once, so what takes time is the coordinator and the wire.
 *
 *   swarm_clients ADDRESS COUNT FIRST
 *
 * Clients are called client-FIRST and so on. When the run is complete, standard output gets a line
 * for each update: its round, and the seconds from `work` to `received`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <zmq.h>

#include "wire.h"

enum { EVENTS = 256, EXAMPLES = 100, ELEMENTS_MAX = FL_CHUNK_BYTES / 4 };

typedef struct client {
  void *socket;
  uint64_t session, round;
  uint32_t block;
  double asked; /* when work came */
} client;

typedef struct swarm {
  client *all;
  int n, gone;
  uint64_t elements;
  float *update; /* [elements]: everybody sends the same */
  uint64_t digest;
} swarm;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void give_up(const char *why) {
  fprintf(stderr, "swarm: %s\n", why);
  exit(1);
}

static void say(client *c, fl_message *m, const void *body, size_t n_body) {
  char head[512];
  size_t n = 0;
  if (m->kind != FL_MESSAGE_hello) m->ready.session = c->session;
  if (fl_wire_write(m, sizeof head, head, &n) != FEDLANE_OK) give_up(fedlane_error());
  if (zmq_send(c->socket, head, n, body ? ZMQ_SNDMORE : 0) < 0) give_up(zmq_strerror(zmq_errno()));
  if (body && zmq_send(c->socket, body, n_body, 0) < 0) give_up(zmq_strerror(zmq_errno()));
}

static void say_hello(client *c, int number) {
  char name[FL_NAME_BYTES];
  int n = snprintf(name, sizeof name, "client-%06d", number);
  fl_message m = {.kind = FL_MESSAGE_hello,
                  .hello = {.wire = FL_WIRE,
                            .peer = FL_PEER_CLIENT,
                            .examples = EXAMPLES,
                            .name = {name, (size_t)n},
                            .program = {"swarm", 5}}};
  say(c, &m, NULL, 0);
}

static void take_welcome(swarm *s, client *c, const fl_welcome *w) {
  if (w->elements > ELEMENTS_MAX) give_up("the model does not fit into one chunk");
  if (!s->update) {
    s->elements = w->elements;
    s->update = calloc(w->elements, sizeof *s->update);
    if (!s->update) give_up("no memory");
    for (uint64_t i = 0; i < w->elements; i++) s->update[i] = (float)(i % 7) * 1e-4f;
    s->digest = fl_digest(s->update, w->elements * sizeof *s->update);
  }
  c->session = w->session;
  fl_message m = {.kind = FL_MESSAGE_ready, .ready = {0, .lanes = 1, .credit = 1}};
  say(c, &m, NULL, 0);
}

static void send_update(const swarm *s, client *c, const fl_collect *collect) {
  static const uint32_t stream = FL_STREAM_UPDATE;
  fl_message m = {.kind = FL_MESSAGE_update,
                  .update = {.round = collect->round,
                             .upload = collect->upload,
                             .payload = FL_PAYLOAD_F32,
                             .blocks = {&c->block, sizeof c->block},
                             .streams = {&stream, sizeof stream},
                             .weight = EXAMPLES,
                             .examples = EXAMPLES,
                             .steps = 1,
                             .loss = 1}};
  say(c, &m, NULL, 0);
  m = (fl_message){.kind = FL_MESSAGE_chunk,
                   .chunk = {.round = collect->round,
                             .upload = collect->upload,
                             .stream = stream,
                             .payload = FL_PAYLOAD_F32,
                             .count = s->elements,
                             .body = s->digest}};
  say(c, &m, s->update, s->elements * sizeof *s->update);
}

static void hear(swarm *s, client *c, const fl_message *m) {
  static const double loss = 1;
  static const int64_t hit = 0;
  static const uint8_t good = 1;
  fl_message out = {.kind = FL_MESSAGE_pong, .pong = {0, m->ping.round}};
  switch (m->kind) {
    case FL_MESSAGE_welcome:
      take_welcome(s, c, &m->welcome);
      break;
    case FL_MESSAGE_ping:
      say(c, &out, NULL, 0);
      break;
    case FL_MESSAGE_work:
      c->asked = now();
      c->round = m->work.round;
      c->block = (uint32_t)m->work.block;
      out = (fl_message){.kind = FL_MESSAGE_fetch, .fetch = {.round = c->round, .count = 1}};
      say(c, &out, NULL, 0);
      break;
    case FL_MESSAGE_chunk:
      out = (fl_message){.kind = FL_MESSAGE_trained,
                         .trained = {.round = c->round,
                                     .block = c->block,
                                     .loss = {&loss, sizeof loss},
                                     .hit = {&hit, sizeof hit},
                                     .good = {&good, sizeof good}}};
      say(c, &out, NULL, 0);
      break;
    case FL_MESSAGE_collect:
      send_update(s, c, &m->collect);
      break;
    case FL_MESSAGE_received:
      printf("%llu %.6f\n", (unsigned long long)c->round, now() - c->asked);
      break;
    case FL_MESSAGE_bye:
      if (m->bye.code != FL_BYE_DONE)
        fprintf(stderr, "swarm: %.*s\n", (int)m->bye.why.n, (const char *)m->bye.why.at);
      s->gone++;
      break;
    default:
      break;
  }
}

/* Reads all that is there. */
static void drain(swarm *s, client *c) {
  zmq_msg_t head, body;
  zmq_msg_init(&head);
  while (zmq_msg_recv(&head, c->socket, ZMQ_DONTWAIT) >= 0) {
    fl_message m;
    if (zmq_msg_more(&head)) {
      zmq_msg_init(&body);
      zmq_msg_recv(&body, c->socket, 0);
      zmq_msg_close(&body);
    }
    if (fl_wire_read(zmq_msg_data(&head), zmq_msg_size(&head), 'C', &m) != FEDLANE_OK)
      give_up(fedlane_error());
    hear(s, c, &m);
  }
  zmq_msg_close(&head);
}

static void join(swarm *s, int epoll, void *context, const char *address, int first) {
  const int none = 0;
  for (int i = 0; i < s->n; i++) {
    client *c = &s->all[i];
    int fd = -1;
    size_t n = sizeof fd;
    c->socket = zmq_socket(context, ZMQ_DEALER);
    if (!c->socket || zmq_setsockopt(c->socket, ZMQ_LINGER, &none, sizeof none) != 0 ||
        zmq_connect(c->socket, address) != 0 || zmq_getsockopt(c->socket, ZMQ_FD, &fd, &n) != 0)
      give_up(zmq_strerror(zmq_errno()));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) give_up("no room to wait for a client");
    say_hello(c, first + i);
    drain(s, c);
  }
}

int main(int argc, char **argv) {
  if (argc != 4) give_up("usage: swarm_clients ADDRESS COUNT FIRST");
  swarm s = {.n = atoi(argv[2])};
  void *context = zmq_ctx_new();
  int epoll = epoll_create1(0);
  s.all = calloc((size_t)s.n, sizeof *s.all);
  if (!s.all || !context || epoll < 0) give_up("no memory");
  zmq_ctx_set(context, ZMQ_MAX_SOCKETS, s.n + 16);
  join(&s, epoll, context, argv[1], atoi(argv[3]));
  while (s.gone < s.n) {
    struct epoll_event event[EVENTS];
    int n = epoll_wait(epoll, event, EVENTS, -1);
    for (int i = 0; i < n; i++) drain(&s, event[i].data.ptr);
  }
  fflush(stdout);
  for (int i = 0; i < s.n; i++) zmq_close(s.all[i].socket);
  zmq_ctx_term(context);
  free(s.all);
  free(s.update);
  return 0;
}
