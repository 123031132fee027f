#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "formats.h"
#include "formats/csv_file.h"
#include "formats/table.h"

typedef struct cmapss_args {
  const char *sensors;
  int subset, brief; /* brief: engines with fewer rows than a window are padded or left out */
  int64_t window, stride, cap;
  bool settings, cap_test;
} cmapss_args;

enum { PAD, SKIP };
enum { COLUMNS = 26, UNIT = 0, CYCLE = 1, SETTINGS = 2, N_SETTING = 3, SENSORS = 5, N_SENSOR = 21 };

/* The rows of one engine are rows first .. first+n-1 of its table. */
typedef struct engine {
  int64_t first, n;
  int32_t unit; /* from 1 */
  double left;  /* cycles that it still runs after its last row */
} engine;

typedef struct fleet {
  fl_table table; /* all columns */
  int32_t n, room;
  engine *engine;
} fleet;

typedef struct reader {
  const fl_load *how;
  const cmapss_args *args;
  fl_dataset *out;
  int feature[COLUMNS], n_feature; /* columns */
} reader;

static fl_status choose_features(reader *r) {
  int n, *sensor;
  for (int i = 0; r->args->settings && i < N_SETTING; i++)
    r->feature[r->n_feature++] = SETTINGS + i;
  const char *list = strcmp(r->args->sensors, "all") == 0 ? "1-21" : r->args->sensors;
  FL_TRY(fl_csv_columns(NULL, N_SENSOR, list, "sensors", &n, &sensor));
  for (int i = 0; i < n; i++) r->feature[r->n_feature++] = SENSORS + sensor[i];
  free(sensor);
  if (r->n_feature == 0) return fl_fail(FEDLANE_USAGE, "sensors names no sensor");
  return FEDLANE_OK;
}

/* The engine of the row just read: the last one, or a new one. */
static fl_status take_engine(fleet *f, const fl_csv *c, int32_t unit) {
  if (f->n > 0 && f->engine[f->n - 1].unit == unit) return FEDLANE_OK;
  if (f->n > 0 && unit < f->engine[f->n - 1].unit)
    return fl_csv_fail(c, UNIT, "comes after a later engine");
  if (f->n == f->room) {
    int32_t room = f->room ? 2 * f->room : 128;
    engine *more = realloc(f->engine, (size_t)room * sizeof *more);
    if (!more) return fl_fail(FEDLANE_MEMORY, "no memory for %d engines", room);
    f->engine = more;
    f->room = room;
  }
  f->engine[f->n++] = (engine){.first = f->table.n - 1, .unit = unit};
  return FEDLANE_OK;
}

static bool is_count(double value) { return value >= 1 && value <= 1e6 && value == floor(value); }

static fl_status read_row(fleet *f, const fl_csv *c, float *row) {
  FL_TRY(fl_csv_expect(c, COLUMNS));
  for (int i = 0; i < COLUMNS; i++) {
    double value;
    FL_TRY(fl_csv_number(c, i, &value));
    if (i <= CYCLE && !is_count(value)) return fl_csv_fail(c, i, "is not a whole number from 1");
    row[i] = (float)value;
  }
  const engine *e = f->n > 0 ? &f->engine[f->n - 1] : NULL;
  if (e && (float)e->unit == row[UNIT] && row[CYCLE] <= row[CYCLE - COLUMNS])
    return fl_csv_fail(c, CYCLE, "is not after the cycle of the row before");
  FL_TRY(take_engine(f, c, (int32_t)row[UNIT]));
  f->engine[f->n - 1].n++;
  return FEDLANE_OK;
}

static fl_status read_fleet(reader *r, const char *name, fleet *f) {
  fl_csv c = {0};
  fl_status status;
  bool more = true;
  char *path = fl_path_join(r->how->path, name);
  f->table.columns = COLUMNS;
  if (!path) return fl_fail(FEDLANE_MEMORY, "no memory for the path of %s", name);
  FL_GO(fl_csv_open(path, ' ', &c));
  while (more) {
    float *row;
    fl_status got = fl_csv_next(&c, &more);
    if (got == FEDLANE_OK && more) {
      FL_GO(fl_table_add(&f->table, 0, &row));
      got = read_row(f, &c, row);
      if (got != FEDLANE_OK) f->table.n--;
    }
    if (got != FEDLANE_OK) FL_GO(fl_pass_over(r->how, got, &r->out->skipped));
  }
  if (f->n == 0) status = fl_fail(FEDLANE_DATA, "%s: there is no engine in it", path);
done:
  fl_csv_close(&c);
  free(path);
  return status;
}

/* Row k of the file is what engine k has left; a bad row here would shift all that follow. */
static fl_status read_left(reader *r, const char *name, fleet *f) {
  fl_csv c = {0};
  fl_status status;
  bool more = true;
  int32_t unit = 0, at = 0;
  char *path = fl_path_join(r->how->path, name);
  if (!path) return fl_fail(FEDLANE_MEMORY, "no memory for the path of %s", name);
  FL_GO(fl_csv_open(path, ' ', &c));
  for (;;) {
    double left;
    FL_GO(fl_csv_next(&c, &more));
    if (!more) break;
    FL_GO(fl_csv_expect(&c, 1));
    FL_GO(fl_csv_number(&c, 0, &left));
    unit++;
    if (left < 0) FL_GO(fl_csv_fail(&c, 0, "is less than 0"));
    if (at < f->n && f->engine[at].unit == unit) f->engine[at++].left = left;
  }
  if (at < f->n || unit != f->engine[f->n - 1].unit)
    status = fl_fail(FEDLANE_DATA, "%s: it has %d rows; the test file has engines up to %d", path,
                     unit, f->engine[f->n - 1].unit);
done:
  fl_csv_close(&c);
  free(path);
  return status;
}

/* Drops the engines that are shorter than a window, where that is asked for. */
static void leave_brief(const reader *r, fleet *f) {
  int32_t kept = 0;
  for (int32_t i = 0; i < f->n; i++)
    if (r->args->brief == PAD || f->engine[i].n >= r->args->window)
      f->engine[kept++] = f->engine[i];
  f->n = kept;
}

static int64_t windows(const reader *r, const engine *e) {
  return e->n < r->args->window ? 1 : (e->n - r->args->window) / r->args->stride + 1;
}

/* The example of the window that ends with row `last` of an engine; before its first row there are
 * copies of it. */
static void fill_window(const reader *r, const fleet *f, const engine *e, int64_t last, bool cap,
                        int64_t example) {
  const cmapss_args *a = r->args;
  const float *rows = f->table.value + e->first * COLUMNS;
  float *x = (float *)r->out->x + example * fl_image_size(r->out->image);
  for (int64_t t = last - a->window + 1; t <= last; t++)
    for (int i = 0; i < r->n_feature; i++) *x++ = rows[(t > 0 ? t : 0) * COLUMNS + r->feature[i]];
  double left = e->left + rows[(e->n - 1) * COLUMNS + CYCLE] - rows[last * COLUMNS + CYCLE];
  if (a->cap > 0 && cap && left > (double)a->cap) left = (double)a->cap;
  r->out->target[example] = (float)(left / (a->cap > 0 ? (double)a->cap : 1));
}

static fl_status fill(reader *r, const fleet *train, const fleet *test) {
  fl_dataset *d = r->out;
  const cmapss_args *a = r->args;
  for (int32_t i = 0; i < train->n; i++) d->n_train += windows(r, &train->engine[i]);
  d->n_test = test->n;
  d->image = (fl_image){r->n_feature, 1, 1, (int)a->window};
  d->n_target = 1;
  d->raw = true;
  FL_TRY(fl_dataset_alloc(d));
  FL_TRY(fl_dataset_alloc_clients(d, train->n));
  if (!(d->unit = malloc(sizeof *d->unit))) return fl_fail(FEDLANE_MEMORY, "no memory for a unit");
  *d->unit = a->cap > 0 ? (float)a->cap : 1;
  int64_t at = 0;
  for (int32_t i = 0; i < train->n; i++) {
    const engine *e = &train->engine[i];
    int64_t n = windows(r, e);
    for (int64_t k = n - 1; k >= 0; k--, at++) {
      fill_window(r, train, e, e->n - 1 - k * a->stride, true, at);
      d->client[at] = i;
    }
  }
  for (int32_t i = 0; i < test->n; i++)
    fill_window(r, test, &test->engine[i], test->engine[i].n - 1, a->cap_test, at + i);
  return FEDLANE_OK;
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  fl_status status;
  reader r = {.how = how, .args = args, .out = out};
  fleet train = {0}, test = {0};
  char name[32];
  int subset = r.args->subset + 1;
  memset(out, 0, sizeof *out);
  FL_GO(choose_features(&r));
  snprintf(name, sizeof name, "train_FD%03d.txt", subset);
  FL_GO(read_fleet(&r, name, &train));
  snprintf(name, sizeof name, "test_FD%03d.txt", subset);
  FL_GO(read_fleet(&r, name, &test));
  snprintf(name, sizeof name, "RUL_FD%03d.txt", subset);
  FL_GO(read_left(&r, name, &test));
  leave_brief(&r, &train);
  leave_brief(&r, &test);
  FL_GO(fill(&r, &train, &test));
done:
  fl_table_free(&train.table);
  fl_table_free(&test.table);
  free(train.engine);
  free(test.engine);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

#define WHOLE(field, value, low, high, measure, about)                                       \
  {                                                                                          \
    .name = #field, .type = FL_INT, .offset = offsetof(cmapss_args, field), .dflt = (value), \
    .lo = (low), .hi = (high), .unit = (measure), .help = (about)                            \
  }

static const fl_param params[] = {
    {.name = "subset",
     .type = FL_CHOICE,
     .offset = offsetof(cmapss_args, subset),
     .text = "FD001,FD002,FD003,FD004",
     .help = "which of the four fleets"},
    WHOLE(window, 30, 1, 10000, "cycles", "rows of an example"),
    WHOLE(stride, 1, 1, 10000, "cycles", "between the training windows of an engine"),
    WHOLE(cap, 125, 0, 100000, "cycles", "remaining life is counted up to this; 0: without limit"),
    {.name = "cap_test",
     .type = FL_BOOL,
     .offset = offsetof(cmapss_args, cap_test),
     .dflt = 1,
     .help = "limit the remaining life of test engines too"},
    {.name = "sensors",
     .type = FL_TEXT,
     .offset = offsetof(cmapss_args, sensors),
     .text = "2,3,4,7,8,9,11-15,17,20,21",
     .help = "numbers of sensors, or all; the other seven hardly change in FD001 and FD003"},
    {.name = "settings",
     .type = FL_BOOL,
     .offset = offsetof(cmapss_args, settings),
     .help = "the three operational settings are features too"},
    {.name = "short",
     .type = FL_CHOICE,
     .offset = offsetof(cmapss_args, brief),
     .text = "pad,skip",
     .help = "engines with fewer rows than a window: repeat their first row, or leave them out"},
};

const fl_format fl_cmapss = {
    .record = {.name = "cmapss",
               .help =
                   "NASA's turbofan engines run to failure: windows of sensors, remaining life; "
                   "an engine is a client. Sensors are not grouped by operating condition",
               .paper = "Saxena et al., Damage Propagation Modeling for Aircraft Engine "
                        "Run-to-Failure Simulation, 2008, doi:10.1109/PHM.2008.4711414",
               .args_size = sizeof(cmapss_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
};
