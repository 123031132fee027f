/* A peer's side of a fleet, and what a coordinator says that no coordinator should. */
#include "session.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fedlane.h"
#include "pulse.h"
#include "suite.h"

/* CHUNKS: more than wait on their way when nobody takes them. */
enum { CHUNKS = 100, EACH = FL_CHUNK_BYTES / 8, ROUND = 3, UPLOAD = 9, SESSION = 5 };

/* A coordinator by hand, on a thread of its own. */
typedef struct host {
  const char *address, *layout;
  uint64_t elements;
  void (*then)(struct host *host); /* after its welcome; NULL: nothing */
  fl_port *port;
  fl_route peer;
  int chunks; /* that came */
  int full;   /* hellos that find no place */
  pthread_t thread;
} host;

static const char digest[FL_DIGEST_BYTES] = {'0', '1', 0, '3', 0, '5'};

static void say(host *h, const fl_message *m) {
  size_t room = fl_wire_room(m), n = 0;
  char *head = malloc(room);
  if (fl_wire_write(m, room, head, &n) == FEDLANE_OK)
    fl_port_send(h->port, &h->peer, false, 1, head, n, NULL);
  free(head);
}

/* Waits for a message of this kind; false: it did not come in time. */
static bool hear(host *h, fl_message_kind kind, double seconds) {
  fl_letter letter;
  fl_message m;
  bool any = true, is = false;
  while (any && !is && fl_port_receive(h->port, seconds, &letter, &any) == FEDLANE_OK && any) {
    is = fl_wire_read(fl_blob_at(letter.head), fl_blob_size(letter.head), 'P', &m) == FEDLANE_OK &&
         m.kind == kind;
    if (letter.route.n) h->peer = letter.route;
    fl_letter_close(&letter);
  }
  return is;
}

static void *live(void *of) {
  host *h = of;
  const char *pipeline = fl_port_pipeline(h->port);
  fl_message no_place = {.kind = FL_MESSAGE_bye, .bye = {0, FL_BYE_REJOIN, {"all are here", 12}}};
  fl_message m = {.kind = FL_MESSAGE_welcome,
                  .welcome = {.wire = FL_WIRE,
                              .session = SESSION,
                              .elements = h->elements,
                              .vectors = 1,
                              .updates = 1,
                              .chunk = FL_CHUNK_BYTES,
                              .digest = {digest, sizeof digest},
                              .config = {"", 0},
                              .layout = {h->layout, strlen(h->layout)},
                              .pipeline = {pipeline, strlen(pipeline)},
                              .patience = 10}};
  bool any = hear(h, FL_MESSAGE_hello, 20);
  for (int i = 0; i < h->full && any; i++) {
    say(h, &no_place);
    any = hear(h, FL_MESSAGE_hello, 20);
  }
  if (any) say(h, &m);
  if (h->then) h->then(h);
  return NULL;
}

static void start(host *h) {
  fl_port_options options = {.patience = 10, .queue = 1};
  CU_ASSERT_EQUAL_FATAL(fl_port_bind(h->address, &options, &h->port), FEDLANE_OK);
  pthread_create(&h->thread, NULL, live, h);
}

static void end(host *h) {
  pthread_join(h->thread, NULL);
  fl_port_close(&h->port, 0);
}

static fl_session *open_session(const host *h, const fl_welcome **welcome) {
  fl_session_options options = {.name = "worker"};
  fl_session *s = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_session_open(h->address, &options, &s), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_session_join(s, 20, welcome), FEDLANE_OK);
  return s;
}

/* All bytes of a digest are there, zeros among them. */
static void a_digest_of_any_bytes_is_kept(void) {
  host h = {.address = "loopback://digest", .layout = "", .elements = 4};
  const fl_welcome *w = NULL;
  start(&h);
  fl_session *s = open_session(&h, &w);
  CU_ASSERT_EQUAL(w->digest.n, sizeof digest);
  CU_ASSERT(memcmp(w->digest.at, digest, sizeof digest) == 0);
  fl_session_close(&s, false);
  end(&h);
}

static void tensors_lie_in_the_model(void) {
  static const char *const wrong[] = {"below", "beyond", "none", "long", "vast", "end"};
  host h = {.address = "loopback://layout",
            .elements = 24,
            .layout =
                "w 0 2 3 4\nb 23\nbelow -1 2\nbeyond 20 5\nnone 0 0\nlong 1 2 3 4\n"
                "vast 0 4294967296 4294967296 4 4\nend 24\n"};
  fedlane_client_options me = {.name = "me", .seconds = 20};
  fedlane_client *client = NULL;
  int64_t at, count, dim[4];
  start(&h);
  CU_ASSERT_EQUAL_FATAL(fedlane_client_join(h.address, &me, &client), FEDLANE_OK);
  CU_ASSERT_EQUAL(fedlane_client_tensor(client, "w", &at, &count, dim), FEDLANE_OK);
  CU_ASSERT(at == 0 && count == 24 && dim[2] == 4 && dim[3] == 1);
  CU_ASSERT_EQUAL(fedlane_client_tensor(client, "b", &at, &count, dim), FEDLANE_OK);
  CU_ASSERT(at == 23 && count == 1);
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    CU_ASSERT_EQUAL(fedlane_client_tensor(client, wrong[i], &at, &count, dim), FEDLANE_DATA);
  fedlane_client_leave(&client);
  end(&h);
}

/* Takes the work of a round back, gives some again, and takes what is sent only after a while. */
static void change_its_mind(host *h) {
  fl_message cancel = {.kind = FL_MESSAGE_cancel, .cancel = {SESSION, ROUND}};
  fl_message collect = {.kind = FL_MESSAGE_collect, .collect = {SESSION, ROUND, UPLOAD}};
  if (!hear(h, FL_MESSAGE_fetch, 20)) return;
  say(h, &cancel);
  say(h, &collect);
  sleep(1);
  while (h->chunks < CHUNKS && hear(h, FL_MESSAGE_chunk, 2)) h->chunks++;
}

/* That the round's work was once taken back does not end an upload that is asked for later. */
static void an_upload_outlives_an_old_cancel(void) {
  host h = {.address = "loopback://cancel",
            .layout = "",
            .elements = CHUNKS * EACH,
            .then = change_its_mind};
  float *x = calloc(h.elements, sizeof *x);
  uint32_t block = 1, stream = FL_STREAM_UPDATE;
  const fl_welcome *w = NULL;
  fl_event event = {0};
  bool got = true, sent = false;
  start(&h);
  fl_session *s = open_session(&h, &w);
  CU_ASSERT_EQUAL(fl_session_fetch(s, ROUND, 0, x, &got), FEDLANE_OK);
  CU_ASSERT(!got);
  for (int i = 0; i < 100 && event.kind != FL_EVENT_COLLECT; i++)
    CU_ASSERT_EQUAL_FATAL(fl_session_next(s, 0.2, &event), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(event.kind, FL_EVENT_COLLECT);
  fl_update about = {.round = ROUND,
                     .upload = UPLOAD,
                     .payload = FL_PAYLOAD_SPARSE,
                     .blocks = {&block, sizeof block},
                     .streams = {&stream, sizeof stream}};
  CU_ASSERT_EQUAL(fl_session_begin(s, &about), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_session_stream(s, &about, stream, x, &sent), FEDLANE_OK);
  CU_ASSERT(sent);
  end(&h);
  CU_ASSERT_EQUAL(h.chunks, CHUNKS);
  fl_session_close(&s, false);
  free(x);
}

static void hear_word(void *of, const char *sentence) {
  char *told = of; /* [1024] all of it */
  snprintf(told + strlen(told), 1024 - strlen(told), "%s\n", sentence);
}

/* A peer waits for a place: it says so once, and knocks after 1, 2 and 3 seconds, the patience. */
static void a_place_is_waited_for(void) {
  host h = {.address = "loopback://full", .layout = "", .elements = 4, .full = 3};
  char told[1024] = "";
  fl_session_options options = {.name = "worker", .patience = 3, .tell = hear_word, .of = told};
  const fl_welcome *w = NULL;
  fl_session *s = NULL;
  start(&h);
  CU_ASSERT_EQUAL_FATAL(fl_session_open(h.address, &options, &s), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_session_join(s, 0.5, &w), FEDLANE_IO);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "no place within 0.5 seconds: all are here"));
  double begun = fl_pulse_now();
  CU_ASSERT_EQUAL_FATAL(fl_session_join(s, 30, &w), FEDLANE_OK);
  double took = fl_pulse_now() - begun;
  CU_ASSERT(took > 5 && took < 9);
  CU_ASSERT_STRING_EQUAL(told, "waiting for a place: all are here\n");
  fl_session_close(&s, false);
  end(&h);
}

static const fl_test tests[] = {
    {"a place is waited for", a_place_is_waited_for},
    {"a digest of any bytes is kept", a_digest_of_any_bytes_is_kept},
    {"tensors lie in the model", tensors_lie_in_the_model},
    {"an upload outlives an old cancel", an_upload_outlives_an_old_cancel},
};

FL_SUITE_MAIN("session", tests)
