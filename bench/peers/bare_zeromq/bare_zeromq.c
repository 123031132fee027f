/* A bare ZeroMQ pipeline over loopback tcp: PUSH in one thread, PULL in another, each with a
 * context of its own, as two processes have. Nothing is read, nothing checked.
 *
 *   bare_zeromq COUNT BYTES
 *
 * sends COUNT messages of 128 and BYTES bytes, and prints the seconds from the first that arrived
 * to the last. The second frame is sent by reference. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

enum { HEAD = 128, QUEUE_OUT = 1000, QUEUE_IN = 64 }; /* as fedlane has them */

typedef struct bare {
  void *context;
  char endpoint[256];
  char *bytes;
  long count;
  size_t size;
} bare;

static void check(int rc) {
  if (rc >= 0) return;
  fprintf(stderr, "bare_zeromq: %s\n", zmq_strerror(zmq_errno()));
  exit(1);
}

static void keep(void *at, void *hint) {
  (void)at;
  (void)hint;
}

static void *push(void *of) {
  bare *b = of;
  const int queue = QUEUE_OUT;
  char head[HEAD] = "";
  void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_PUSH);
  check(zmq_setsockopt(socket, ZMQ_SNDHWM, &queue, sizeof queue));
  check(zmq_connect(socket, b->endpoint));
  for (long i = 0; i < b->count; i++) {
    zmq_msg_t body;
    check(zmq_msg_init_data(&body, b->bytes, b->size, keep, NULL));
    check(zmq_send(socket, head, sizeof head, ZMQ_SNDMORE));
    check(zmq_msg_send(&body, socket, 0));
  }
  zmq_close(socket);
  zmq_ctx_term(context);
  return NULL;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double pull(bare *b, void *socket) {
  double begun = 0;
  for (long i = 0; i < b->count; i++)
    for (int more = 1; more;) {
      zmq_msg_t frame;
      check(zmq_msg_init(&frame));
      check(zmq_msg_recv(&frame, socket, 0));
      if (begun == 0) begun = now();
      more = zmq_msg_more(&frame);
      zmq_msg_close(&frame);
    }
  return now() - begun;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  bare b = {.context = zmq_ctx_new(), .count = atol(argv[1]), .size = (size_t)atol(argv[2])};
  const int queue = QUEUE_IN;
  size_t n = sizeof b.endpoint;
  pthread_t sender;
  b.bytes = malloc(b.size);
  if (!b.bytes || !b.context) return 1;
  memset(b.bytes, 7, b.size);
  void *socket = zmq_socket(b.context, ZMQ_PULL);
  check(zmq_setsockopt(socket, ZMQ_RCVHWM, &queue, sizeof queue));
  check(zmq_bind(socket, "tcp://127.0.0.1:*"));
  check(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, b.endpoint, &n));
  if (pthread_create(&sender, NULL, push, &b) != 0) return 1;
  printf("%.9f\n", pull(&b, socket));
  pthread_join(sender, NULL);
  zmq_close(socket);
  zmq_ctx_term(b.context);
  free(b.bytes);
  return 0;
}
