#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats.h"
#include "formats/csv_file.h"
#include "formats/table.h"

typedef struct csv_args {
  const char *files, *separator, *columns, *target, *categories, *client, *skip_columns, *missing,
      *threshold, *test;
  int task;
  bool header, indicators;
  double scale;
} csv_args;

enum { CLASS, REGRESSION, LOGISTIC };

/* What a column is for. */
typedef enum role { UNUSED, NUMBER, CATEGORY, TARGET, CLIENT } role;

typedef struct column {
  role role;
  int slot;       /* where its value lies in a row of the table */
  fl_names value; /* CATEGORY: those of the training rows */
  int32_t *rank;  /* their places in order */
  bool missing;   /* some training row has no value here */
  int at;         /* its first feature of an example */
} column;

typedef struct reader {
  const fl_load *how;
  const csv_args *args;
  fl_dataset *out;
  char separator;
  bool limited; /* there is a threshold */
  double threshold;
  int width, n_slot, n_target; /* a table's row is the features, then the targets */
  column *column;              /* [width] */
  int client;                  /* column, or -1: the file is the client */
  fl_names header, clients, classes;
  bool testing;
  fl_table train, test;
} reader;

static fl_status give_role(reader *r, const char *list, const char *what, role role) {
  int n, *column;
  FL_TRY(fl_csv_columns(r->args->header ? &r->header : NULL, r->width, list, what, &n, &column));
  fl_status status = FEDLANE_OK;
  for (int i = 0; i < n && status == FEDLANE_OK; i++) {
    struct column *c = &r->column[column[i]];
    bool chosen = c->role == NUMBER && *r->args->columns && role != CATEGORY;
    if (c->role == UNUSED || (c->role == NUMBER && !chosen))
      c->role = role;
    else
      status = fl_fail(FEDLANE_USAGE, "%s names column %d, which is named for another use too",
                       what, column[i] + 1);
  }
  free(column);
  return status;
}

/* Features are the columns named, or all that have no other use. */
static fl_status give_features(reader *r) {
  bool all = !*r->args->columns;
  for (int i = 0; i < r->width; i++) r->column[i].role = all ? NUMBER : UNUSED;
  return all ? FEDLANE_OK : give_role(r, r->args->columns, "columns", NUMBER);
}

static fl_status give_target(reader *r) {
  char last[16];
  snprintf(last, sizeof last, "%d", r->width);
  if (*r->args->target) return give_role(r, r->args->target, "target", TARGET);
  return give_role(r, last, "target", TARGET);
}

/* Settles what each column is for, once the first row tells how many there are. */
static fl_status plan_columns(reader *r, int width) {
  r->width = width;
  r->column = calloc((size_t)width, sizeof *r->column);
  if (!r->column) return fl_fail(FEDLANE_MEMORY, "no memory for %d columns", width);
  FL_TRY(give_features(r));
  FL_TRY(give_role(r, r->args->categories, "categories", CATEGORY));
  FL_TRY(give_role(r, r->args->client, "client", CLIENT));
  FL_TRY(give_target(r));
  int n, *skip, n_client = 0;
  FL_TRY(fl_csv_columns(r->args->header ? &r->header : NULL, width, r->args->skip_columns,
                        "skip_columns", &n, &skip));
  for (int i = 0; i < n; i++) r->column[skip[i]].role = UNUSED;
  free(skip);
  for (int i = 0; i < width; i++) {
    role use = r->column[i].role;
    if (use == NUMBER || use == CATEGORY) r->column[i].slot = r->n_slot++;
    if (use == CLIENT) r->client = i, n_client++;
  }
  if (r->n_slot == 0) return fl_fail(FEDLANE_USAGE, "no column is left to be a feature");
  if (n_client > 1) return fl_fail(FEDLANE_USAGE, "client names %d columns", n_client);
  for (int i = 0; i < width; i++)
    if (r->column[i].role == TARGET) r->column[i].slot = r->n_slot + r->n_target++;
  if (r->n_target == 0) return fl_fail(FEDLANE_USAGE, "no column is left to be the target");
  if (r->args->task == CLASS && r->n_target > 1)
    return fl_fail(FEDLANE_USAGE, "target names %d columns; a class is one of them", r->n_target);
  r->train.columns = r->test.columns = r->n_slot + r->n_target;
  return FEDLANE_OK;
}

static fl_status read_header(reader *r, fl_csv *c) {
  bool first = r->width == 0, more;
  FL_TRY(fl_csv_next(c, &more));
  if (!more) return fl_fail(FEDLANE_DATA, "%s: the file is empty", c->path);
  if (!first) FL_TRY(fl_csv_expect(c, r->width));
  for (int i = 0; i < c->n; i++) {
    int32_t number = fl_names_find(&r->header, c->field[i]);
    if (first && number >= 0) return fl_csv_fail(c, i, "is the name of two columns");
    if (first) FL_TRY(fl_names_add(&r->header, c->field[i], &number));
    if (number != i) return fl_csv_fail(c, i, "has another place in the header of the first file");
  }
  return first ? plan_columns(r, c->n) : FEDLANE_OK;
}

static bool is_missing(const reader *r, const char *text) {
  return *text == '\0' || (*r->args->missing && strcmp(text, r->args->missing) == 0);
}

#define WHOLE_MOST 9007199254740992.0 /* doubles tell whole numbers below this apart */

/* A value by name: "4", "4.0" and "+4" are the same one. */
static fl_status number_of(const reader *r, const fl_csv *c, int i, fl_names *names,
                           int32_t *number) {
  char text[64];
  const char *name = c->field[i];
  double value;
  if (fl_csv_is_number(c, name, &value) && fabs(value) < WHOLE_MOST) {
    locale_t before = uselocale(c->locale);
    snprintf(text, sizeof text, "%.17g", value + 0.0);
    uselocale(before);
    name = text;
  }
  *number = fl_names_find(names, name);
  if (*number >= 0) return FEDLANE_OK;
  if (r->testing) return fl_csv_fail(c, i, "is not among the values of the training rows");
  if (names->n >= FL_CLASSES_MAX) return fl_csv_fail(c, i, "is one value too many");
  return fl_names_add(names, name, number);
}

static fl_status read_target(const reader *r, const fl_csv *c, int i, float *value) {
  double number;
  if (is_missing(r, c->field[i])) return fl_csv_fail(c, i, "is missing, but it is the target");
  if (r->args->task == CLASS && !r->limited) return FEDLANE_OK; /* a name, for a later pass */
  FL_TRY(fl_csv_number(c, i, &number));
  if (r->limited)
    number = number > r->threshold;
  else if (r->args->task == LOGISTIC && (number < 0 || number > 1))
    return fl_csv_fail(c, i, "must lie in 0 .. 1, or there must be a threshold");
  *value = (float)(r->args->task == REGRESSION ? number / r->args->scale : number);
  return FEDLANE_OK;
}

/* What can be wrong with a row is found before its names are taken up. */
static fl_status read_numbers(const reader *r, const fl_csv *c, float *row) {
  FL_TRY(fl_csv_expect(c, r->width));
  for (int i = 0; i < r->width; i++) {
    const column *k = &r->column[i];
    double number = NAN;
    if (k->role == NUMBER) {
      if (!is_missing(r, c->field[i])) FL_TRY(fl_csv_number(c, i, &number));
      row[k->slot] = (float)number;
    } else if (k->role == TARGET) {
      FL_TRY(read_target(r, c, i, &row[k->slot]));
    }
  }
  return FEDLANE_OK;
}

static fl_status read_names(reader *r, const fl_csv *c, float *row, int32_t *client) {
  for (int i = 0; i < r->width; i++) {
    column *k = &r->column[i];
    bool label = k->role == TARGET && r->args->task == CLASS && !r->limited;
    if (!label && k->role != CATEGORY) continue;
    int32_t number = -1;
    bool missing = !label && is_missing(r, c->field[i]);
    if (!missing) FL_TRY(number_of(r, c, i, label ? &r->classes : &k->value, &number));
    row[k->slot] = missing ? NAN : (float)number;
  }
  if (r->testing) return FEDLANE_OK;
  if (r->client < 0) return fl_names_add(&r->clients, c->path, client);
  if (is_missing(r, c->field[r->client]))
    return fl_csv_fail(c, r->client, "is missing, but it is the client");
  return number_of(r, c, r->client, &r->clients, client);
}

static fl_status read_row(reader *r, const fl_csv *c) {
  fl_table *table = r->testing ? &r->test : &r->train;
  float *row;
  FL_TRY(fl_table_add(table, 0, &row));
  fl_status status = read_numbers(r, c, row);
  if (status == FEDLANE_OK) status = read_names(r, c, row, &table->client[table->n - 1]);
  if (status != FEDLANE_OK) table->n--;
  if (status != FEDLANE_OK || r->testing) return status;
  for (int i = 0; i < r->width; i++)
    if (r->column[i].role == NUMBER || r->column[i].role == CATEGORY)
      r->column[i].missing |= isnan(row[r->column[i].slot]);
  return FEDLANE_OK;
}

static fl_status read_rows(reader *r, fl_csv *c) {
  if (r->args->header) FL_TRY(read_header(r, c));
  for (bool more = true;;) {
    fl_status status = fl_csv_next(c, &more);
    if (status == FEDLANE_OK && !more) return FEDLANE_OK;
    if (status == FEDLANE_OK && r->width == 0) FL_TRY(plan_columns(r, c->n));
    if (status == FEDLANE_OK) status = read_row(r, c);
    FL_TRY(fl_pass_over(r->how, status, &r->out->skipped));
  }
}

/* A file that is bad as a whole may be left out too: one without a good row would be a client that
 * has nothing. */
static fl_status read_file(reader *r, const char *path) {
  fl_csv c = {0};
  int64_t before = r->train.n + r->test.n;
  FL_TRY(fl_csv_open(path, r->separator, &c));
  fl_status status = read_rows(r, &c);
  fl_csv_close(&c);
  if (status == FEDLANE_OK && r->train.n + r->test.n == before)
    status = fl_fail(FEDLANE_DATA, "%s: there is no good row in it", path);
  if (r->width == 0) fl_names_free(&r->header);
  return fl_pass_over(r->how, status, &r->out->skipped);
}

static fl_status read_files(reader *r) {
  fl_file_list list = {0};
  char *path = NULL;
  fl_status status;
  FL_GO(fl_file_list_open(r->how->path, r->args->files, &list));
  if (*r->args->test) FL_GO(fl_file_beside(r->how->path, r->args->test, &path));
  for (int i = 0; i < list.n; i++)
    if (!path || strcmp(list.path[i], path) != 0) FL_GO(read_file(r, list.path[i]));
  /* One file tells no clients apart. */
  if (r->client < 0 && r->clients.n == 1) fl_names_free(&r->clients);
  r->testing = true;
  if (path) FL_GO(read_file(r, path));
done:
  fl_file_list_close(&list);
  free(path);
  return status;
}

/* Where each column's features lie: a number's is one, a category's are as many as it has values,
 * and after them all, where asked for, one that tells of missing values for each that has any. */
static fl_status place_features(reader *r, int *features) {
  int64_t at = 0;
  for (int i = 0; i < r->width; i++) {
    column *k = &r->column[i];
    k->at = (int)at;
    if (k->role == NUMBER) at++;
    if (k->role == CATEGORY) {
      FL_TRY(fl_names_rank(&k->value, &k->rank));
      at += k->value.n;
    }
  }
  for (int i = 0; r->args->indicators && i < r->width; i++) at += r->column[i].missing;
  if (at < 1 || at > FL_CLASSES_MAX)
    return fl_fail(FEDLANE_DATA, "%s: the columns make %lld features; 1 to %d are allowed",
                   r->how->path, (long long)at, FL_CLASSES_MAX);
  *features = (int)at;
  return FEDLANE_OK;
}

static void fill_example(const reader *r, const float *row, float *x) {
  float *indicator = x + r->out->image.channels;
  for (int i = r->width - 1; i >= 0; i--) {
    const column *k = &r->column[i];
    if (r->args->indicators && k->missing) *--indicator = isnan(row[k->slot]) ? 1.0f : 0.0f;
    if (k->role == NUMBER) x[k->at] = row[k->slot];
    for (int32_t v = 0; k->role == CATEGORY && v < k->value.n; v++)
      x[k->at + k->rank[v]] = isnan(row[k->slot]) ? NAN : (float)((int)row[k->slot] == v);
  }
}

static void fill(const reader *r, const fl_table *t, const int32_t *class_rank, int64_t at) {
  fl_dataset *d = r->out;
  for (int64_t e = 0; e < t->n; e++) {
    const float *row = t->value + e * t->columns, *y = row + r->n_slot;
    fill_example(r, row, (float *)d->x + (at + e) * d->image.channels);
    if (r->args->task == CLASS)
      d->label[at + e] = r->limited ? (int32_t)*y : class_rank[(int)*y];
    else
      memcpy(d->target + (at + e) * d->n_target, y, (size_t)d->n_target * sizeof *y);
  }
}

static fl_status fill_clients(reader *r) {
  int32_t *rank;
  if (r->clients.n == 0) return FEDLANE_OK;
  FL_TRY(fl_dataset_alloc_clients(r->out, r->clients.n));
  FL_TRY(fl_names_rank(&r->clients, &rank));
  for (int64_t e = 0; e < r->train.n; e++) r->out->client[e] = rank[r->train.client[e]];
  free(rank);
  return FEDLANE_OK;
}

static fl_status fill_units(const reader *r) {
  fl_dataset *d = r->out;
  if (r->args->task != REGRESSION || r->args->scale == 1) return FEDLANE_OK;
  d->unit = malloc((size_t)d->n_target * sizeof *d->unit);
  if (!d->unit) return fl_fail(FEDLANE_MEMORY, "no memory for %d targets", d->n_target);
  for (int i = 0; i < d->n_target; i++) d->unit[i] = (float)r->args->scale;
  return FEDLANE_OK;
}

static fl_status finish(reader *r) {
  fl_dataset *d = r->out;
  int32_t *class_rank = NULL;
  if (r->train.n == 0)
    return fl_fail(FEDLANE_DATA, "%s: there is no good row to train on", r->how->path);
  d->raw = true;
  d->n_train = r->train.n;
  d->n_test = r->test.n;
  d->image = (fl_image){1, 1, 1};
  FL_TRY(place_features(r, &d->image.channels));
  if (r->args->task != CLASS) d->n_target = r->n_target;
  if (r->args->task == CLASS) d->classes = r->limited ? 2 : r->classes.n;
  FL_TRY(fl_dataset_alloc(d));
  FL_TRY(fl_names_rank(&r->classes, &class_rank));
  fill(r, &r->train, class_rank, 0);
  fill(r, &r->test, class_rank, d->n_train);
  free(class_rank);
  FL_TRY(fill_units(r));
  return fill_clients(r);
}

static fl_status read_args(reader *r) {
  const char *words[] = {"tab", "blank"}, *s = r->args->separator, *threshold = r->args->threshold;
  const char bytes[] = {'\t', ' '};
  r->separator = strlen(s) == 1 ? *s : '\0';
  for (int i = 0; i < 2; i++)
    if (strcmp(s, words[i]) == 0) r->separator = bytes[i];
  if (!r->separator || strchr("\"\r\n", r->separator))
    return fl_fail(FEDLANE_USAGE, "separator is '%s'; it must be one byte, tab or blank", s);
  if (!(r->limited = *threshold != '\0')) return FEDLANE_OK;
  if (r->args->task == REGRESSION)
    return fl_fail(FEDLANE_USAGE, "threshold is for task class or logistic, not for regression");
  char *end;
  r->threshold = strtod(threshold, &end);
  if (*end || !isfinite(r->threshold))
    return fl_fail(FEDLANE_USAGE, "threshold is '%s'; it must be a number", threshold);
  return FEDLANE_OK;
}

static void close_reader(reader *r) {
  for (int i = 0; r->column && i < r->width; i++) {
    fl_names_free(&r->column[i].value);
    free(r->column[i].rank);
  }
  free(r->column);
  fl_names_free(&r->header);
  fl_names_free(&r->clients);
  fl_names_free(&r->classes);
  fl_table_free(&r->train);
  fl_table_free(&r->test);
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  fl_status status;
  reader r = {.how = how, .args = args, .out = out, .client = -1};
  memset(out, 0, sizeof *out);
  FL_GO(read_args(&r));
  FL_GO(read_files(&r));
  FL_GO(finish(&r));
done:
  close_reader(&r);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

#define WORDS(field, value, about)                                                         \
  {                                                                                        \
    .name = #field, .type = FL_TEXT, .offset = offsetof(csv_args, field), .text = (value), \
    .help = (about)                                                                        \
  }

static const fl_param params[] = {
    WORDS(files, "*.csv", "which files of a folder, as patterns with commas; each is a client"),
    {.name = "header",
     .type = FL_BOOL,
     .offset = offsetof(csv_args, header),
     .dflt = 1,
     .help = "the first row of a file names the columns"},
    WORDS(separator, ",", "byte between fields; or tab, or blank: any number of blanks"),
    WORDS(columns, "", "features: names, or numbers from 1 and ranges; empty: all the others"),
    WORDS(target, "", "column to be predicted; several for more targets; empty: the last one"),
    {.name = "task",
     .type = FL_CHOICE,
     .offset = offsetof(csv_args, task),
     .dflt = CLASS,
     .text = "class,regression,logistic",
     .help = "class: one of several; regression: numbers; logistic: targets from 0 to 1"},
    WORDS(threshold, "", "class 1 is a target above this number, class 0 the rest"),
    {.name = "scale",
     .type = FL_REAL,
     .offset = offsetof(csv_args, scale),
     .dflt = 1,
     .lo = 0,
     .hi = INFINITY,
     .flags = FL_LO_OPEN | FL_HI_OPEN,
     .help = "regression targets are divided by this; metrics remain in the data's unit"},
    WORDS(categories, "", "columns whose values become a feature each"),
    WORDS(client, "", "column that names the client"),
    WORDS(skip_columns, "", "columns that are no features"),
    WORDS(missing, "", "text of a missing value, such as ?; an empty field always is one"),
    {.name = "indicators",
     .type = FL_BOOL,
     .offset = offsetof(csv_args, indicators),
     .help = "one more feature for each column with missing values: whether this one is"},
    {.name = "test",
     .type = FL_TEXT,
     .offset = offsetof(csv_args, test),
     .text = "",
     .flags = FL_SOURCE,
     .help = "file of test rows, beside the others"},
};

const fl_format fl_csv_format = {
    .record = {.name = "csv",
               .help = "tables of numbers and categories; a client a file, or named by a column",
               .paper = "RFC 4180",
               .args_size = sizeof(csv_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
};
