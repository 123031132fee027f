/* What sinks write is read back here by code of its own: lines of JSON, TFRecords, the page. */
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "engine.h"
#include "files.h"
#include "suite.h"

/* What the runs of these tests have read. */
static char notice[] = "left out: sign 7";
static const fl_dataset read_data = {.skipped = 3, .notice = notice};

static fl_config config(void) {
  static char resolved[] = "name: trial\ndata:\n  path: a</script>b\n";
  fl_config c = {.general = {.name = "trial", .output = "x"}, .resolved = resolved};
  c.train.rounds = 9;
  return c;
}

static const fl_sink_kind *kind(const char *name) {
  return (const fl_sink_kind *)fl_catalogue_find(&fl_sinks, name);
}

/* Round r evaluates when it is even; round 3 diverged. */
static fedlane_metrics metrics(int r) {
  fedlane_metrics m = {.round = r, .rounds = 9, .clients = 10, .examples = 5000000000};
  m.seconds = 0.5;
  m.joules = r == 3 ? NAN : 2.0 * r;
  m.gflops = 10.0 * r;
  m.gbytes_per_second = 20.0 * r;
  m.train_loss = r == 3 ? NAN : 1.0 / r;
  m.train_accuracy = 0.1 * r;
  m.test_loss = m.test_accuracy = m.client_mean = m.client_deviation = m.client_worst = NAN;
  if (r % 2 == 0) {
    m.test_loss = 2.0 / r;
    m.test_accuracy = 0.05 * r;
    m.score[0] = (fedlane_score){"mae", 3.0 * r};
    m.score[1] = (fedlane_score){"auc", NAN};
    m.client_metric = "mae";
    m.client_mean = 0.04 * r;
    m.client_deviation = 0.01;
    m.client_worst = 0.02 * r;
  }
  return m;
}

#define ENDED 1700000000.5 /* round 0, in seconds since 1970; a round takes a second */

/* Writes the rounds first .. last as one life of a run, two at a time. */
static void write_rows(const fl_sink_kind *sink, const char *folder, int first, int last) {
  fl_config c = config();
  void *state = NULL;
  CU_ASSERT_EQUAL_FATAL(sink->open(folder, &c, &read_data, first - 1, &state), FEDLANE_OK);
  for (int r = first; r <= last; r += 2) {
    fl_row row[2] = {{metrics(r), ENDED + r}, {metrics(r + 1), ENDED + r + 1}};
    CU_ASSERT_EQUAL(sink->rows(state, r < last ? 2 : 1, row), FEDLANE_OK);
  }
  CU_ASSERT_EQUAL(sink->close(&state), FEDLANE_OK);
  CU_ASSERT_PTR_NULL(state);
}

/* A file of the folder as a string (free it). */
static char *read_text(const char *folder, const char *name, int64_t *size) {
  char *path = fl_path_join(folder, name), *text = NULL;
  unsigned char *data = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_read_all(path, &data, size), FEDLANE_OK);
  text = calloc(1, (size_t)*size + 1);
  memcpy(text, data, (size_t)*size);
  free(data);
  free(path);
  return text;
}

static void append_text(const char *folder, const char *name, const char *text) {
  char *path = fl_path_join(folder, name);
  FILE *file = fopen(path, "ab");
  fputs(text, file);
  fclose(file);
  free(path);
}

/* Checks that the file holds exactly the rounds 1 .. last. */
static void check_lines(const char *folder, int last) {
  int64_t size;
  char *text = read_text(folder, "metrics.jsonl", &size), *rest = NULL;
  int n = 0;
  for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    json_t *row = json_loads(line, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(row);
    n++;
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(row, "round")), n);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(row, "examples")), 5000000000);
    CU_ASSERT_EQUAL(json_object_get(row, "test_loss") != NULL, n % 2 == 0);
    CU_ASSERT_EQUAL(json_object_get(row, "client_worst") != NULL, n % 2 == 0);
    CU_ASSERT_EQUAL(json_real_value(json_object_get(row, "test_mae")), n % 2 == 0 ? 3.0 * n : 0);
    CU_ASSERT_EQUAL(json_is_null(json_object_get(row, "test_auc")), n % 2 == 0);
    CU_ASSERT_EQUAL(json_object_get(row, "client_metric") != NULL, n % 2 == 0);
    json_t *loss = json_object_get(row, "train_loss"), *joules = json_object_get(row, "joules");
    CU_ASSERT(n == 3 ? json_is_null(joules) : json_real_value(joules) == 2.0 * n);
    CU_ASSERT_EQUAL(json_real_value(json_object_get(row, "gflops")), 10.0 * n);
    CU_ASSERT_EQUAL(json_real_value(json_object_get(row, "gbytes_per_second")), 20.0 * n);
    if (n == 3)
      CU_ASSERT(json_is_null(loss))
    else
      CU_ASSERT_DOUBLE_EQUAL(json_real_value(loss), 1.0 / n, 1e-8);
    json_decref(row);
  }
  CU_ASSERT_EQUAL(n, last);
  free(text);
}

static void lines(void) {
  const char *folder = fl_test_folder();
  write_rows(kind("jsonl"), folder, 1, 6);
  check_lines(folder, 6);
}

static void lines_resumed(void) {
  const char *folder = fl_test_folder();
  write_rows(kind("jsonl"), folder, 1, 6);
  append_text(folder, "metrics.jsonl", "{\"round\": 7, \"secon");
  write_rows(kind("jsonl"), folder, 5, 8);
  check_lines(folder, 8);
  write_rows(kind("jsonl"), folder, 1, 2);
  check_lines(folder, 2);
}

/* Rows of a version that did not count energy and rates stay as they are. */
static void lines_of_an_older_version(void) {
  const char *folder = fl_test_folder();
  static const char old[] = "{\"round\": 1, \"seconds\": 0.5, \"train_loss\": 2.5}";
  int64_t size;
  append_text(folder, "metrics.jsonl", old);
  append_text(folder, "metrics.jsonl", "\n");
  write_rows(kind("jsonl"), folder, 2, 2);
  char *text = read_text(folder, "metrics.jsonl", &size), *end = strchr(text, '\n');
  CU_ASSERT_PTR_NOT_NULL_FATAL(end);
  *end = 0;
  CU_ASSERT_STRING_EQUAL(text, old);
  CU_ASSERT_PTR_NOT_NULL(strstr(end + 1, "\"round\": 2"));
  CU_ASSERT_PTR_NOT_NULL(strstr(end + 1, "\"gflops\": 20.0"));
  free(text);
}

static uint64_t little(const unsigned char *at, int bytes) {
  uint64_t value = 0;
  while (bytes-- > 0) value = value << 8 | at[bytes];
  return value;
}

/* CRC-32C from a table of the reflected polynomial, then TensorFlow's mask. */
static uint32_t masked(const unsigned char *at, uint64_t n) {
  uint32_t table[256], crc = 0xFFFFFFFFu;
  for (uint32_t i = 0; i < 256; i++) {
    table[i] = i;
    for (int k = 0; k < 8; k++) table[i] = table[i] >> 1 ^ (0x82F63B78u & (0u - (table[i] & 1)));
  }
  for (uint64_t i = 0; i < n; i++) crc = table[(crc ^ at[i]) & 255] ^ crc >> 8;
  crc ^= 0xFFFFFFFFu;
  return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* One field of a protobuf message: number, type, then its value. */
typedef struct field {
  unsigned number, type;
  uint64_t value;            /* type 0: varint; 1, 5: bits; 2: length */
  const unsigned char *data; /* type 2 */
} field;

static uint64_t varint(const unsigned char **at) {
  uint64_t value = 0;
  int shift = 0;
  do value |= (uint64_t)(**at & 127) << shift, shift += 7;
  while (*(*at)++ & 128);
  return value;
}

static field next_field(const unsigned char **at) {
  uint64_t key = varint(at);
  field f = {.number = (unsigned)(key >> 3), .type = (unsigned)(key & 7)};
  if (f.type == 0) {
    f.value = varint(at);
  } else if (f.type == 2) {
    f.value = varint(at);
    f.data = *at;
    *at += f.value;
  } else {
    f.value = little(*at, f.type == 1 ? 8 : 4);
    *at += f.type == 1 ? 8 : 4;
  }
  return f;
}

static double double_of(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* The simple_value of `tag` in a Summary; NaN when it is not there. */
static float summary_value(field summary, const char *tag) {
  const unsigned char *at = summary.data, *end = at + summary.value;
  while (at < end) {
    field value = next_field(&at);
    const unsigned char *in = value.data, *stop = in + value.value;
    bool named = false;
    while (in < stop) {
      field f = next_field(&in);
      uint32_t bits = (uint32_t)f.value;
      float x;
      memcpy(&x, &bits, sizeof x);
      if (f.number == 1) named = f.value == strlen(tag) && memcmp(f.data, tag, f.value) == 0;
      if (f.number == 2 && named) return x;
    }
  }
  return NAN;
}

/* Checks the framing, the version record, and the curves of the rounds 1 .. last. */
static void check_events(const char *folder, int last) {
  int64_t size;
  char *text = read_text(folder, "events.out.tfevents.fedlane", &size);
  const unsigned char *at = (unsigned char *)text, *end = at + size;
  int n = -1;
  while (at < end) {
    uint64_t length = little(at, 8);
    CU_ASSERT_EQUAL(little(at + 8, 4), masked(at, 8));
    CU_ASSERT_EQUAL(little(at + 12 + length, 4), masked(at + 12, length));
    const unsigned char *in = at + 12, *stop = in + length;
    n++;
    field wall = {0}, step = {0}, summary = {0};
    while (in < stop) {
      field f = next_field(&in);
      if (f.number == 1) wall = f;
      if (f.number == 2) step = f;
      if (f.number == 3) CU_ASSERT_EQUAL(memcmp(f.data, "brain.Event:2", f.value), 0);
      if (f.number == 5) summary = f;
    }
    CU_ASSERT_EQUAL((int)step.value, n);
    CU_ASSERT(n == 0 || double_of(wall.value) == ENDED + n);
    CU_ASSERT_EQUAL(summary.data != NULL, n > 0);
    if (n > 0 && n != 3)
      CU_ASSERT_DOUBLE_EQUAL(summary_value(summary, "loss/train"), 1.0 / n, 1e-6);
    if (n == 3) CU_ASSERT(isnan(summary_value(summary, "loss/train")));
    if (n > 0) CU_ASSERT_EQUAL(isnan(summary_value(summary, "accuracy/test")), n % 2 == 1);
    if (n > 0) CU_ASSERT_EQUAL(isnan(summary_value(summary, "mae/test")), n % 2 == 1);
    if (n > 0) CU_ASSERT_EQUAL(isnan(summary_value(summary, "mae/client_worst")), n % 2 == 1);
    if (n > 0) CU_ASSERT_EQUAL(summary_value(summary, "round/dropped"), 0.0f);
    if (n > 0) CU_ASSERT_EQUAL(isnan(summary_value(summary, "round/joules")), n == 3);
    if (n > 0) CU_ASSERT_EQUAL(summary_value(summary, "round/gflops"), 10.0f * (float)n);
    if (n > 0) CU_ASSERT_EQUAL(summary_value(summary, "round/gbytes_per_second"), 20.0f * (float)n);
    at += 12 + length + 4;
  }
  CU_ASSERT_EQUAL(n, last);
  free(text);
}

static void events(void) {
  const char *folder = fl_test_folder();
  CU_ASSERT_EQUAL(masked((const unsigned char *)"123456789", 9), /* CRC-32C 0xE3069283 */
                  (0xE3069283u >> 15 | 0xE3069283u << 17) + 0xA282EAD8u);
  write_rows(kind("tensorboard"), folder, 1, 6);
  check_events(folder, 6);
}

static void events_resumed(void) {
  const char *folder = fl_test_folder();
  write_rows(kind("tensorboard"), folder, 1, 6);
  append_text(folder, "events.out.tfevents.fedlane", "half a record");
  write_rows(kind("tensorboard"), folder, 4, 7);
  check_events(folder, 7);
  write_rows(kind("tensorboard"), folder, 1, 1);
  check_events(folder, 1);
}

/* The JSON inside the page. */
static json_t *page_data(const char *page) {
  static const char mark[] = "<script type=\"application/json\" id=\"data\">";
  const char *from = strstr(page, mark);
  CU_ASSERT_PTR_NOT_NULL_FATAL(from);
  from += strlen(mark);
  const char *to = strstr(from, "</script>");
  CU_ASSERT_PTR_NOT_NULL_FATAL(to);
  json_t *data = json_loadb(from, (size_t)(to - from), 0, NULL);
  CU_ASSERT_PTR_NOT_NULL_FATAL(data);
  return data;
}

static void page(void) {
  const char *folder = fl_test_folder();
  int64_t size;
  write_rows(kind("jsonl"), folder, 1, 6); /* whose rows the page shows */
  write_rows(kind("report"), folder, 3, 6);
  char *text = read_text(folder, "report.html", &size);
  CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"skipped\":3"));
  CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"notice\":\"left out: sign 7\""));
  json_t *data = page_data(text);
  CU_ASSERT_EQUAL(json_array_size(json_object_get(data, "rows")), 6);
  CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(data, "name")), "trial");
  CU_ASSERT_PTR_NOT_NULL(strstr(json_string_value(json_object_get(data, "config")), "a</script>b"));
  CU_ASSERT_PTR_NOT_NULL(strstr(text, "Chart.js v"));
  CU_ASSERT_PTR_NOT_NULL(strstr(text, "</html>"));
  CU_ASSERT_PTR_NULL(strstr(text, "@data@"));
  CU_ASSERT_PTR_NULL(strstr(text, "@chart.js@"));
  CU_ASSERT_PTR_NULL(strstr(text, "src=\"http"));
  json_decref(data);
  free(text);
}

static void unwritable(void) {
  char missing[256];
  snprintf(missing, sizeof missing, "%s/none", fl_test_folder());
  fl_config c = config();
  for (int i = 0; i < fl_sinks.n; i++) {
    const fl_sink_kind *sink = (const fl_sink_kind *)fl_sinks.entry[i];
    void *state = NULL;
    fl_status status = sink->open(missing, &c, &read_data, 0, &state);
    if (status == FEDLANE_OK) status = sink->close(&state);
    CU_ASSERT_EQUAL(status, FEDLANE_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), missing));
    CU_ASSERT_PTR_NULL(state);
  }
}

/* A limit on the size of files stands for the disk: every write fails from now on. */
static void full_disk(void) {
  const char *folder = fl_test_folder();
  fl_config c = config();
  fl_row row = {metrics(1), ENDED};
  struct rlimit limit, none;
  CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_FSIZE, &limit), 0);
  none = (struct rlimit){0, limit.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  for (int i = 0; i < fl_sinks.n; i++) {
    const fl_sink_kind *sink = (const fl_sink_kind *)fl_sinks.entry[i];
    void *state = NULL;
    CU_ASSERT_EQUAL_FATAL(sink->open(folder, &c, &read_data, 0, &state), FEDLANE_OK);
    setrlimit(RLIMIT_FSIZE, &none);
    fl_status wrote = sink->rows(state, 1, &row), closed = sink->close(&state);
    setrlimit(RLIMIT_FSIZE, &limit);
    CU_ASSERT(wrote == FEDLANE_IO || closed == FEDLANE_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), folder));
  }
}

static const fl_test tests[] = {
    {"lines", lines},
    {"lines after a resume", lines_resumed},
    {"lines of an older version", lines_of_an_older_version},
    {"events", events},
    {"events after a resume", events_resumed},
    {"page", page},
    {"a folder that cannot be written", unwritable},
    {"a full disk", full_disk},
};

FL_SUITE_MAIN("sinks", tests)
