/* Chunks of 1 MiB through the pipeline of a port, over loopback tcp, beside a bare ZeroMQ pipeline
 * of the same sizes: bench/peers/bare_zeromq, run in turn where it has been built. */
#include <jansson.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "port.h"

enum { CHUNKS = 2000, TURNS = 5, WAYS = 3, BARE = 0, PORT = 1, CHECKED = 2 };

/* The sending side, a thread of its own. */
typedef struct sender {
  char address[256], pipeline[256];
  fl_blob *body;
  bool checked; /* each body's digest is computed anew */
  fl_status status;
} sender;

static fl_status send_chunks(sender *s, fl_port *port) {
  fl_message m = {.kind = FL_MESSAGE_chunk,
                  .chunk = {.session = INT64_MAX, .upload = 1, .count = FL_CHUNK_BYTES / 4}};
  char head[256];
  size_t n = 0;
  FL_TRY(fl_port_join_pipeline(port, s->pipeline));
  m.chunk.body = fl_digest(fl_blob_at(s->body), fl_blob_size(s->body));
  for (int i = 0; i < CHUNKS; i++) {
    fl_sent sent = FL_SENT_FULL;
    m.chunk.offset = (uint64_t)i;
    if (s->checked) m.chunk.body = fl_digest(fl_blob_at(s->body), fl_blob_size(s->body));
    FL_TRY(fl_wire_write(&m, sizeof head, head, &n));
    while (sent == FL_SENT_FULL) {
      fl_blob *again = NULL;
      FL_TRY(fl_blob_share(s->body, &again));
      sent = fl_port_send(port, NULL, true, 1, head, n, again);
    }
    if (sent != FL_SENT) return fl_fail(FEDLANE_IO, "the pipeline has gone");
  }
  return FEDLANE_OK;
}

static void *send_all(void *of) {
  sender *s = of;
  fl_port *port = NULL;
  s->status = fl_port_connect(s->address, &(fl_port_options){0}, &port);
  if (s->status == FEDLANE_OK) s->status = send_chunks(s, port);
  fl_port_close(&port, 10);
  return NULL;
}

/* Seconds from the first chunk that arrives to the last. */
static fl_status receive_all(fl_port *port, bool checked, double *seconds) {
  double begun = 0;
  for (int i = 0; i < CHUNKS; i++) {
    fl_letter letter;
    fl_message m;
    bool any = false;
    FL_TRY(fl_port_receive(port, 10, &letter, &any));
    if (!any) return fl_fail(FEDLANE_IO, "chunk %d has not come", i);
    if (begun == 0) begun = fl_seconds();
    fl_status status = fl_wire_read(fl_blob_at(letter.head), fl_blob_size(letter.head), 'P', &m);
    if (status == FEDLANE_OK && checked &&
        fl_digest(fl_blob_at(letter.body), fl_blob_size(letter.body)) != m.chunk.body)
      status = fl_fail(FEDLANE_DATA, "chunk %d is damaged", i);
    fl_letter_close(&letter);
    FL_TRY(status);
  }
  *seconds = fl_seconds() - begun;
  return FEDLANE_OK;
}

static fl_status time_port(bool checked, double *seconds) {
  fl_port *port = NULL;
  sender s = {.checked = checked};
  pthread_t thread;
  fl_status status;
  FL_GO(fl_blob_open(FL_CHUNK_BYTES, &s.body));
  memset(fl_blob_at(s.body), 7, FL_CHUNK_BYTES);
  FL_GO(fl_port_bind("tcp://127.0.0.1:0", &(fl_port_options){0}, &port));
  snprintf(s.address, sizeof s.address, "%s", fl_port_address(port));
  snprintf(s.pipeline, sizeof s.pipeline, "%s", fl_port_pipeline(port));
  if (pthread_create(&thread, NULL, send_all, &s) != 0) {
    status = fl_fail(FEDLANE_MEMORY, "no thread for the bench");
    goto done;
  }
  status = receive_all(port, checked, seconds);
  pthread_join(thread, NULL);
  if (status == FEDLANE_OK && s.status != FEDLANE_OK)
    status = fl_fail(s.status, "the sending side has failed");
done:
  fl_port_close(&port, 0);
  fl_blob_close(&s.body);
  return status;
}

/* False where the program does not lie beside this one. */
static bool time_bare(double *seconds) {
  char self[PATH_MAX] = "", command[PATH_MAX + 64];
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return false;
  snprintf(command, sizeof command, "%s/bare_zeromq", dirname(self));
  if (access(command, X_OK) != 0) return false;
  snprintf(command + strlen(command), 64, " %d %d", CHUNKS, FL_CHUNK_BYTES);
  FILE *pipe = popen(command, "r");
  bool good = pipe && fscanf(pipe, "%lf", seconds) == 1;
  return pipe && pclose(pipe) == 0 && good;
}

static int by_size(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

fl_status fl_bench_pipeline(json_t *rows) {
  static const char *const name[] = {"bare ZeroMQ", "port", "port, digests checked"};
  double seconds[WAYS][TURNS];
  bool bare = true;
  for (int i = 0; i < TURNS; i++) {
    bare = bare && time_bare(&seconds[BARE][i]);
    FL_TRY(time_port(false, &seconds[PORT][i]));
    FL_TRY(time_port(true, &seconds[CHECKED][i]));
  }
  printf("%d chunks of 1 MiB over loopback tcp, median of %d in turn\n", CHUNKS, TURNS);
  printf("%-24s %10s %18s\n", "", "GB/s", "times bare ZeroMQ");
  if (!bare) printf("bare ZeroMQ: ninja bare_zeromq builds it\n");
  for (int i = 0; i < WAYS; i++) qsort(seconds[i], TURNS, sizeof *seconds[i], by_size);
  for (int i = bare ? BARE : PORT; i < WAYS; i++) {
    const double s = seconds[i][TURNS / 2], times = bare ? s / seconds[BARE][TURNS / 2] : 0;
    const double speed = 1e-9 * CHUNKS * FL_CHUNK_BYTES / s;
    printf(bare ? "%-24s %10.2f %18.2f\n" : "%-24s %10.2f\n", name[i], speed, times);
    json_array_append_new(rows, json_pack("{s:s, s:f, s:f}", "what", name[i],
                                          "gigabytes_per_second", speed, "times_bare", times));
  }
  return FEDLANE_OK;
}
