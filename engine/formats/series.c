#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats.h"
#include "formats/csv_file.h"
#include "formats/table.h"

typedef struct series_args {
  const char *skip_columns, *steps, *missing;
  int64_t window, horizon, stride, gap;
  double train;
  int target;
  bool header;
} series_args;

enum { VALUE, CHANGE };
enum { HORIZON_MOST = 10000 };

typedef struct reader {
  const fl_load *how;
  const series_args *args;
  fl_dataset *out;
  fl_table table;      /* [time, sensors] */
  int width, n_sensor; /* columns of the file; those that are sensors */
  int *skip, n_skip;   /* columns that are not */
  int *step, n_step;   /* steps ahead, less 1 */
  bool marked;         /* `missing` is set: */
  double missing;
} reader;

static bool skipped(const reader *r, int column) {
  for (int i = 0; i < r->n_skip; i++)
    if (r->skip[i] == column) return true;
  return false;
}

static fl_status plan_columns(reader *r, const fl_csv *c, bool header) {
  fl_status status = FEDLANE_OK;
  fl_names names = {0};
  int32_t number;
  for (int i = 0; header && i < c->n; i++) {
    if (fl_names_find(&names, c->field[i]) >= 0) FL_GO(fl_csv_fail(c, i, "names two columns"));
    FL_GO(fl_names_add(&names, c->field[i], &number));
  }
  r->width = c->n;
  FL_GO(fl_csv_columns(header ? &names : NULL, c->n, r->args->skip_columns, "skip_columns",
                       &r->n_skip, &r->skip));
  r->table.columns = r->n_sensor = c->n - r->n_skip;
  if (r->n_sensor == 0) status = fl_fail(FEDLANE_USAGE, "skip_columns leaves no sensor");
done:
  fl_names_free(&names);
  return status;
}

static fl_status read_values(const reader *r, const fl_csv *c, float *row) {
  FL_TRY(fl_csv_expect(c, r->width));
  for (int i = 0; i < r->width; i++) {
    double value = NAN;
    if (skipped(r, i)) continue;
    if (*c->field[i]) FL_TRY(fl_csv_number(c, i, &value));
    *row++ = r->marked && value == r->missing ? NAN : (float)value;
  }
  return FEDLANE_OK;
}

/* A bad row that is passed over leaves its time step without values, so that time goes on. */
static fl_status read_row(reader *r, const fl_csv *c) {
  float *row;
  FL_TRY(fl_table_add(&r->table, 0, &row));
  fl_status status = read_values(r, c, row);
  for (int i = 0; status != FEDLANE_OK && i < r->n_sensor; i++) row[i] = NAN;
  return status;
}

static fl_status read_file(reader *r) {
  fl_csv c = {0};
  fl_status status;
  bool more = true, header = r->args->header;
  FL_GO(fl_csv_open(r->how->path, ',', &c));
  for (;;) {
    fl_status got = fl_csv_next(&c, &more);
    if (got == FEDLANE_OK && !more) break;
    if (got == FEDLANE_OK && r->width == 0) {
      FL_GO(plan_columns(r, &c, header));
      if (header) continue;
    }
    if (got == FEDLANE_OK) got = read_row(r, &c);
    FL_GO(fl_pass_over(r->how, got, &r->out->skipped));
  }
  if (r->table.n == 0) status = fl_fail(FEDLANE_DATA, "%s: there is no row in it", r->how->path);
done:
  fl_csv_close(&c);
  return status;
}

static float at(const reader *r, int64_t time, int sensor) {
  return r->table.value[time * r->n_sensor + sensor];
}

/* The window that begins at `first` is of use when all that it is to predict is known, and so is
 * something of the past: the last step, where targets are changes from it. */
static bool usable(const reader *r, int64_t first, int sensor) {
  int64_t last = first + r->args->window - 1;
  bool known = false;
  for (int i = 0; i < r->n_step; i++)
    if (isnan(at(r, last + 1 + r->step[i], sensor))) return false;
  if (r->args->target == CHANGE) return !isnan(at(r, last, sensor));
  for (int64_t t = first; t <= last && !known; t++) known = !isnan(at(r, t, sensor));
  return known;
}

static void fill_window(const reader *r, int64_t first, int sensor, int64_t example) {
  const series_args *a = r->args;
  fl_dataset *d = r->out;
  float *x = (float *)d->x + example * a->window, *y = d->target + example * r->n_step;
  for (int64_t t = 0; t < a->window; t++) x[t] = at(r, first + t, sensor);
  for (int i = 0; i < r->n_step; i++) {
    y[i] = at(r, first + a->window + r->step[i], sensor);
    if (a->target == CHANGE) y[i] -= x[a->window - 1];
  }
}

/* Counts the usable windows that lie whole in the rows begin .. end-1; with `example` not negative
 * they are filled in from there on, sensor after sensor. */
static int64_t take_windows(const reader *r, int64_t begin, int64_t end, int64_t example) {
  int64_t span = r->args->window + r->step[r->n_step - 1] + 1, n = 0;
  for (int s = 0; s < r->n_sensor; s++)
    for (int64_t first = begin; first + span <= end; first += r->args->stride) {
      if (!usable(r, first, s)) continue;
      if (example >= 0) {
        fill_window(r, first, s, example + n);
        if (example + n < r->out->n_train) r->out->client[example + n] = s;
      }
      n++;
    }
  return n;
}

/* Sensors without a training window are no clients: the others close up. */
static void close_up_clients(fl_dataset *d) {
  int32_t n = 0, before = -1;
  for (int64_t e = 0; e < d->n_train; e++) {
    if (d->client[e] != before) {
      before = d->client[e];
      n++;
    }
    d->client[e] = n - 1;
  }
  d->n_client = n;
}

/* Targets to mean 0 and deviation 1 over the training examples, all steps alike; unit is the
 * deviation. */
static fl_status standardise_targets(fl_dataset *d) {
  int64_t n = d->n_train * d->n_target, all = n + d->n_test * d->n_target;
  double sum = 0, square = 0;
  for (int64_t i = 0; i < n; i++) sum += d->target[i];
  double mean = sum / (double)n;
  for (int64_t i = 0; i < n; i++) square += (d->target[i] - mean) * (d->target[i] - mean);
  double deviation = sqrt(square / (double)n);
  if (deviation <= 1e-7 * fabs(mean) || deviation == 0) deviation = 1;
  for (int64_t i = 0; i < all; i++) d->target[i] = (float)((d->target[i] - mean) / deviation);
  d->unit = malloc((size_t)d->n_target * sizeof *d->unit);
  if (!d->unit) return fl_fail(FEDLANE_MEMORY, "no memory for %d targets", d->n_target);
  for (int i = 0; i < d->n_target; i++) d->unit[i] = (float)deviation;
  return FEDLANE_OK;
}

static fl_status make(reader *r) {
  fl_dataset *d = r->out;
  int64_t rows = r->table.n, split = (int64_t)floor(r->args->train * (double)rows + 0.5);
  int64_t from = split + r->args->gap;
  d->image = (fl_image){1, 1, 1, (int)r->args->window};
  d->n_target = r->n_step;
  d->raw = true;
  d->n_train = take_windows(r, 0, split, -1);
  d->n_test = take_windows(r, from, rows, -1);
  if (d->n_train == 0)
    return fl_fail(FEDLANE_DATA,
                   "%s: the first %lld of its %lld rows hold no window of %lld and %d steps",
                   r->how->path, (long long)split, (long long)rows, (long long)r->args->window,
                   r->step[r->n_step - 1] + 1);
  FL_TRY(fl_dataset_alloc(d));
  FL_TRY(fl_dataset_alloc_clients(d, r->n_sensor));
  take_windows(r, 0, split, 0);
  take_windows(r, from, rows, d->n_train);
  close_up_clients(d);
  return standardise_targets(d);
}

static int ascending(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static fl_status read_args(reader *r) {
  const series_args *a = r->args;
  char all[32], *end;
  snprintf(all, sizeof all, "1-%lld", (long long)a->horizon);
  FL_TRY(fl_csv_columns(NULL, (int)a->horizon, *a->steps ? a->steps : all, "steps", &r->n_step,
                        &r->step));
  if (r->n_step == 0) return fl_fail(FEDLANE_USAGE, "steps names no step");
  qsort(r->step, (size_t)r->n_step, sizeof *r->step, ascending);
  r->marked = *a->missing != '\0';
  r->missing = strtod(a->missing, &end);
  if (r->marked && *end)
    return fl_fail(FEDLANE_USAGE, "missing is '%s'; it must be a number, or empty", a->missing);
  return FEDLANE_OK;
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  fl_status status;
  reader r = {.how = how, .args = args, .out = out};
  memset(out, 0, sizeof *out);
  FL_GO(read_args(&r));
  FL_GO(read_file(&r));
  FL_GO(make(&r));
done:
  fl_table_free(&r.table);
  free(r.skip);
  free(r.step);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

#define WHOLE(field, value, low, high, about)                                                \
  {                                                                                          \
    .name = #field, .type = FL_INT, .offset = offsetof(series_args, field), .dflt = (value), \
    .lo = (low), .hi = (high), .unit = "rows", .help = (about)                               \
  }
#define WORDS(field, about)                                                              \
  {                                                                                      \
    .name = #field, .type = FL_TEXT, .offset = offsetof(series_args, field), .text = "", \
    .help = (about)                                                                      \
  }

static const fl_param params[] = {
    {.name = "header",
     .type = FL_BOOL,
     .offset = offsetof(series_args, header),
     .dflt = 1,
     .help = "the first row names the sensors"},
    WORDS(skip_columns, "columns that are no sensors, such as a time"),
    WHOLE(window, 12, 1, 100000, "the past that is known"),
    WHOLE(horizon, 12, 1, HORIZON_MOST, "the future that may be predicted"),
    WORDS(steps, "which steps of it are predicted, such as 3,6; empty: all"),
    {.name = "target",
     .type = FL_CHOICE,
     .offset = offsetof(series_args, target),
     .text = "value,change",
     .help = "predict values, or their change from the last one that is known"},
    WHOLE(stride, 1, 1, 100000, "between windows"),
    {.name = "train",
     .type = FL_REAL,
     .offset = offsetof(series_args, train),
     .dflt = 0.7,
     .lo = 0,
     .hi = 1,
     .flags = FL_LO_OPEN,
     .help = "share of the rows, from the first on, that is for training; no window crosses over"},
    WHOLE(gap, 0, 0, 1e9, "left out between training and test"),
    WORDS(missing, "number that stands for a missing value, such as 0 in METR-LA"),
};

const fl_format fl_series = {
    .record = {.name = "series",
               .help = "a matrix of sensors over time: the past of a sensor to its next steps; a "
                       "sensor is a client",
               .paper = "Li et al., Diffusion Convolutional Recurrent Neural Network, "
                        "arXiv:1707.01926",
               .args_size = sizeof(series_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
};
