/* events.out.tfevents.fedlane: scalar curves for TensorBoard.
 *
 * The file is a sequence of TFRecords: length (8 bytes), masked CRC-32C of the length (4), an Event
 * message, its masked CRC-32C (4); all numbers little-endian. CRC-32C: RFC 3720, appendix B.4. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "event.pb-c.h"
#include "files.h"
#include "sinks/row.h"

enum { HEAD = 12, FOOT = 4, RECORD_MAX = 1 << 16, TAG = 64 };
enum { CURVES_MAX = 14 + FEDLANE_SCORES_MAX };

typedef struct board {
  FILE *file;
  char *path;
  uint8_t record[RECORD_MAX]; /* a framed record in the making */
  uint32_t crc[256];          /* of single bytes */
} board;

static void fill_crc(uint32_t table[256]) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82F63B78) : 0);
    table[byte] = crc;
  }
}

static uint32_t masked_crc(const board *s, const uint8_t *byte, size_t n) {
  uint32_t crc = ~UINT32_C(0);
  for (size_t i = 0; i < n; i++) crc = crc >> 8 ^ s->crc[(crc ^ byte[i]) & 0xFF];
  crc = ~crc;
  return (crc >> 15 | crc << 17) + UINT32_C(0xA282EAD8);
}

static void put(uint8_t *at, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get(const uint8_t *at, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; i++) value |= (uint64_t)at[i] << 8 * i;
  return value;
}

static fl_status write_event(board *s, FILE *file, const FlTb__Event *event) {
  size_t size = fl_tb__event__get_packed_size(event);
  uint8_t *body = s->record + HEAD;
  if (size > RECORD_MAX - HEAD - FOOT)
    return fl_fail(FEDLANE_INTERNAL, "an event of %zu bytes does not fit a record", size);
  put(s->record, size, 8);
  put(s->record + 8, masked_crc(s, s->record, 8), 4);
  fl_tb__event__pack(event, body);
  put(body + size, masked_crc(s, body, size), 4);
  size += HEAD + FOOT;
  if (fwrite(s->record, 1, size, file) != size)
    return fl_fail(FEDLANE_IO, "%s cannot be written: %s", s->path, strerror(errno));
  return FEDLANE_OK;
}

/* The next event of a file (free it), or NULL at its end or at the first damaged record. */
static FlTb__Event *read_event(board *s, FILE *file) {
  uint8_t *body = s->record + HEAD;
  if (fread(s->record, 1, HEAD, file) != HEAD) return NULL;
  uint64_t size = get(s->record, 8);
  if (get(s->record + 8, 4) != masked_crc(s, s->record, 8)) return NULL;
  if (size > RECORD_MAX - HEAD - FOOT) return NULL;
  if (fread(body, 1, size + FOOT, file) != size + FOOT) return NULL;
  if (get(body + size, 4) != masked_crc(s, body, size)) return NULL;
  return fl_tb__event__unpack(NULL, size, body);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static fl_status write_version(board *s, FILE *file) {
  char version[] = "brain.Event:2";
  FlTb__Event event = FL_TB__EVENT__INIT;
  event.has_wall_time = 1;
  event.wall_time = now();
  event.file_version = version;
  return write_event(s, file, &event);
}

/* Leaves the events of the rounds 1 .. resumed_after in the file, written aside and renamed. */
static fl_status rewrite(board *s, int resumed_after) {
  fl_status status = FEDLANE_OK;
  fl_aside aside = {0};
  FlTb__Event *event = NULL;
  FILE *old = resumed_after > 0 ? fopen(s->path, "rb") : NULL;
  FL_GO(fl_aside_open(s->path, &aside));
  FL_GO(write_version(s, aside.file));
  while (old && (event = read_event(s, old)) != NULL) {
    if (event->summary && event->step <= resumed_after) FL_GO(write_event(s, aside.file, event));
    fl_tb__event__free_unpacked(event, NULL);
  }
  FL_GO(fl_aside_commit(&aside));
done:
  if (event) fl_tb__event__free_unpacked(event, NULL);
  if (status != FEDLANE_OK) fl_aside_abandon(&aside);
  if (old) fclose(old);
  return status;
}

static fl_status board_close(void **state) {
  board *s = *state;
  fl_status status = FEDLANE_OK;
  if (!s) return FEDLANE_OK;
  if (s->file && fclose(s->file))
    status = fl_fail(FEDLANE_IO, "%s cannot be written: %s", s->path, strerror(errno));
  free(s->path);
  free(s);
  *state = NULL;
  return status;
}

static fl_status board_open(const char *path, const fl_config *config, const fl_dataset *data,
                            int resumed_after, void **state) {
  (void)config, (void)data;
  fl_status status = FEDLANE_OK;
  board *s = calloc(1, sizeof *s);
  *state = s;
  if (!s || !(s->path = fl_path_join(path, "events.out.tfevents.fedlane"))) {
    status = fl_fail(FEDLANE_MEMORY, "there is no memory for the events in %s", path);
    goto done;
  }
  fill_crc(s->crc);
  FL_GO(rewrite(s, resumed_after));
  s->file = fopen(s->path, "ab");
  if (!s->file) status = fl_fail(FEDLANE_IO, "%s cannot be written: %s", s->path, strerror(errno));
done:
  if (status != FEDLANE_OK) board_close(state);
  return status;
}

typedef struct curves {
  FlTb__Value value[CURVES_MAX], *list[CURVES_MAX];
  char tag[CURVES_MAX][TAG];
  size_t n;
} curves;

static void add_point(curves *c, const char *tag, double value) {
  if (isnan(value)) return;
  FlTb__Value *v = &c->value[c->n];
  fl_tb__value__init(v);
  v->tag = (char *)(uintptr_t)tag;
  v->has_simple_value = 1;
  v->simple_value = (float)value;
  c->list[c->n++] = v;
}

/* A point of a metric's curve. */
static void add_score(curves *c, const char *metric, const char *of, double value) {
  snprintf(c->tag[c->n], TAG, "%s/%s", metric, of);
  add_point(c, c->tag[c->n], value);
}

static fl_status write_row(board *s, const fl_row *row) {
  const fedlane_metrics *m = &row->of;
  curves c = {.n = 0};
  FlTb__Summary summary = FL_TB__SUMMARY__INIT;
  FlTb__Event event = FL_TB__EVENT__INIT;
  add_point(&c, "loss/train", m->train_loss);
  add_point(&c, "loss/test", m->test_loss);
  add_point(&c, "accuracy/train", m->train_accuracy);
  add_point(&c, "accuracy/test", m->test_accuracy);
  for (int i = 0; i < FEDLANE_SCORES_MAX && m->score[i].name; i++)
    add_score(&c, m->score[i].name, "test", m->score[i].value);
  if (m->client_metric) {
    add_score(&c, m->client_metric, "client_mean", m->client_mean);
    add_score(&c, m->client_metric, "client_worst", m->client_worst);
  }
  add_point(&c, "round/seconds", m->seconds);
  add_point(&c, "round/clients", m->clients);
  add_point(&c, "round/dropped", m->dropped);
  add_point(&c, "round/bytes_up", (double)m->bytes_up);
  add_point(&c, "round/bytes_down", (double)m->bytes_down);
  add_point(&c, "round/joules", m->joules);
  add_point(&c, "round/gflops", m->gflops);
  add_point(&c, "round/gbytes_per_second", m->gbytes_per_second);
  summary.n_value = c.n;
  summary.value = c.list;
  event.has_wall_time = event.has_step = 1;
  event.wall_time = row->when;
  event.step = m->round;
  event.summary = &summary;
  return write_event(s, s->file, &event);
}

static fl_status board_rows(void *state, int n, const fl_row *row) {
  board *s = state;
  for (int i = 0; i < n; i++) FL_TRY(write_row(s, &row[i]));
  if (fflush(s->file) == 0) return FEDLANE_OK;
  return fl_fail(FEDLANE_IO, "%s cannot be written: %s", s->path, strerror(errno));
}

const fl_sink_kind fl_sink_tensorboard = {
    .record = {.name = "tensorboard", .help = "events.out.tfevents.fedlane: TensorBoard's curves"},
    .open = board_open,
    .rows = board_rows,
    .close = board_close,
};
