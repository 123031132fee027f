#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "formats.h"
#include "formats/json_file.h"
#include "formats/names.h"
#include "formats/table.h"

typedef struct leaf_args {
  int kind;
  int64_t classes;
} leaf_args;

enum { FEMNIST, SHAKESPEARE, VECTORS };
enum { SIDE = 28, LETTERS_A_TEXT = 80, FEMNIST_CLASSES = 62, FEATURES_MOST = 1 << 20 };
#define BAD (-1.0f) /* the label of an example that is left out */

/* LEAF's letters in its order; the number after the last stands for all others. */
static const char letters[] =
    "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}";
enum { LETTERS = sizeof letters - 1 };

typedef struct reader {
  const fl_load *how;
  const leaf_args *args;
  fl_dataset *out;
  fl_json json;
  int width;          /* values of an example; 0: not known yet */
  fl_table x;         /* [examples, width + 1]: the label comes last */
  fl_table y;         /* [labels of the present user, 1] */
  fl_names users;     /* all of them */
  fl_names listed;    /* of the present file, in its order: */
  fl_table announced; /* how many examples they are said to have */
  fl_table found;     /* and have */
} reader;

/* A failure of example i of a user. */
static fl_status bad_example(const reader *r, const char *user, const char *part, int64_t i,
                             const char *why) {
  return fl_fail(FEDLANE_DATA, "%s: user '%s', %s of example %lld: %s", r->json.path, user, part,
                 (long long)i, why);
}

static fl_status want(reader *r, fl_json_event event, const char *why) {
  FL_TRY(fl_json_next(&r->json));
  return r->json.event == event ? FEDLANE_OK : fl_json_fail(&r->json, why);
}

/* The values of an array into row, as many as there is room for; *n of them were there. */
static fl_status read_vector(reader *r, float *row, int room, int *n, const char **why) {
  for (*n = 0;; ++*n) {
    FL_TRY(fl_json_next(&r->json));
    if (r->json.event == FL_JSON_ARRAY_END) return FEDLANE_OK;
    if (r->json.event == FL_JSON_STRING && r->args->kind != SHAKESPEARE)
      return fl_json_fail(&r->json, "texts stand in x, as in Sent140, which is not read");
    if (r->json.event != FL_JSON_NUMBER) return fl_json_fail(&r->json, "x must hold numbers");
    if (!isfinite((float)r->json.number)) *why = "it holds a value that is not finite";
    if (*n < room) row[*n] = (float)r->json.number;
    if (*n == FEATURES_MOST) return fl_json_fail(&r->json, "an example has too many values");
  }
}

/* The first example of all tells how many values they have. */
static fl_status measure(reader *r, const char **why) {
  float *row = malloc(sizeof *row * (FEATURES_MOST + 1)), *first;
  if (!row) return fl_fail(FEDLANE_MEMORY, "no memory for an example of %s", r->json.path);
  fl_status status = read_vector(r, row, FEATURES_MOST, &r->width, why);
  if (status == FEDLANE_OK && r->width == 0)
    status = fl_json_fail(&r->json, "the first example is empty");
  r->x.columns = r->width + 1;
  if (status == FEDLANE_OK) status = fl_table_add(&r->x, 0, &first);
  if (status == FEDLANE_OK) {
    memcpy(first, row, sizeof *row * (size_t)r->width);
    first[r->width] = *why ? BAD : 0;
  }
  free(row);
  return status;
}

static int letter_number(char c) {
  const char *at = c ? strchr(letters, c) : NULL;
  return at ? (int)(at - letters) : LETTERS;
}

static fl_status read_letters(const reader *r, float *row, const char **why) {
  const fl_json *j = &r->json;
  if (j->event != FL_JSON_STRING) return fl_json_fail(j, "x must hold texts");
  if (j->length != LETTERS_A_TEXT) *why = "its text has not 80 letters";
  for (int i = 0; !*why && i < LETTERS_A_TEXT; i++) row[i] = (float)letter_number(j->text[i]);
  return FEDLANE_OK;
}

/* Example i of a user; its x has begun. */
static fl_status read_x(reader *r, const char *user, int64_t i) {
  const char *why = NULL;
  float *row;
  int n = r->width;
  bool text = r->args->kind == SHAKESPEARE;
  if (!text && r->json.event == FL_JSON_STRING)
    return fl_json_fail(&r->json,
                        "x holds texts: names of image files, as in CelebA, are not read");
  if (!text && r->json.event != FL_JSON_ARRAY)
    return fl_json_fail(&r->json, "x must hold an array for each example");
  if (r->width == 0) {
    FL_TRY(measure(r, &why));
  } else {
    FL_TRY(fl_table_add(&r->x, 0, &row));
    FL_TRY(text ? read_letters(r, row, &why) : read_vector(r, row, r->width, &n, &why));
    if (n != r->width) why = "it has more or fewer values than it must";
    row[r->width] = why ? BAD : 0;
  }
  if (!why) return FEDLANE_OK;
  return fl_pass_over(r->how, bad_example(r, user, "x", i, why), &r->out->skipped);
}

/* The label of example i. */
static fl_status read_y(reader *r, const char *user, int64_t i) {
  const fl_json *j = &r->json;
  bool text = r->args->kind == SHAKESPEARE;
  double label = NAN;
  float *row;
  FL_TRY(fl_table_add(&r->y, 0, &row));
  if (j->event == FL_JSON_OBJECT || j->event == FL_JSON_ARRAY)
    return fl_json_fail(j, "y must hold numbers or letters");
  if (text && j->event == FL_JSON_STRING && j->length == 1) label = letter_number(*j->text);
  if (!text && j->event == FL_JSON_NUMBER) label = j->number;
  int classes = text ? LETTERS : r->out->classes > 0 ? r->out->classes : FL_CLASSES_MAX;
  *row = label >= 0 && label < classes && label == floor(label) ? (float)label : BAD;
  if (*row >= 0) return FEDLANE_OK;
  return fl_pass_over(r->how, bad_example(r, user, "y", i, "it is no label of a known class"),
                      &r->out->skipped);
}

static fl_status read_parts(reader *r, const char *user) {
  FL_TRY(want(r, FL_JSON_OBJECT, "a user must be an object"));
  for (;;) {
    FL_TRY(fl_json_next(&r->json));
    if (r->json.event == FL_JSON_OBJECT_END) return FEDLANE_OK;
    bool x = strcmp(r->json.text, "x") == 0, y = strcmp(r->json.text, "y") == 0;
    FL_TRY(fl_json_next(&r->json));
    if (!x && !y) {
      FL_TRY(fl_json_pass(&r->json));
      continue;
    }
    if (r->json.event != FL_JSON_ARRAY) return fl_json_fail(&r->json, "x and y must be arrays");
    for (int64_t i = 0;; i++) {
      FL_TRY(fl_json_next(&r->json));
      if (r->json.event == FL_JSON_ARRAY_END) break;
      FL_TRY(x ? read_x(r, user, i) : read_y(r, user, i));
    }
  }
}

/* Joins the user's examples from row `first` on with their labels; those that are bad are taken
 * out. */
static fl_status join(reader *r, const char *user, int32_t number, int64_t first) {
  int columns = r->x.columns;
  int64_t n = r->x.n - first, kept = first;
  if (n != r->y.n)
    return fl_fail(FEDLANE_DATA, "%s: user '%s' has %lld examples in x and %lld in y", r->json.path,
                   user, (long long)n, (long long)r->y.n);
  for (int64_t i = 0; i < n; i++) {
    float *row = r->x.value + (first + i) * columns, label = r->y.value[i];
    if (row[columns - 1] == BAD || label == BAD) continue;
    row[columns - 1] = label;
    memmove(r->x.value + kept * columns, row, sizeof *row * (size_t)columns);
    r->x.client[kept++] = number;
  }
  r->x.n = kept;
  return FEDLANE_OK;
}

/* A user, whose name was just read. */
static fl_status read_user(reader *r) {
  int32_t number, place = fl_names_find(&r->listed, r->json.text);
  int64_t first = r->x.n;
  float *count;
  if (r->listed.n > 0 && place < 0) return fl_json_fail(&r->json, "the user is not in 'users'");
  FL_TRY(fl_names_add(&r->users, r->json.text, &number));
  const char *user = r->users.text[number];
  r->y.n = 0;
  FL_TRY(read_parts(r, user));
  FL_TRY(fl_table_add(&r->found, place, &count));
  *count = (float)r->y.n;
  return join(r, user, number, first);
}

/* An array of users or of their numbers of examples. */
static fl_status read_list(reader *r, bool users) {
  FL_TRY(want(r, FL_JSON_ARRAY, "users and num_samples must be arrays"));
  for (;;) {
    int32_t number, before = r->listed.n;
    float *count;
    FL_TRY(fl_json_next(&r->json));
    if (r->json.event == FL_JSON_ARRAY_END) return FEDLANE_OK;
    if (r->json.event != (users ? FL_JSON_STRING : FL_JSON_NUMBER))
      return fl_json_fail(&r->json, "users must be texts, and num_samples numbers");
    if (users) {
      FL_TRY(fl_names_add(&r->listed, r->json.text, &number));
      if (number != before) return fl_json_fail(&r->json, "a user is named twice");
    } else {
      FL_TRY(fl_table_add(&r->announced, 0, &count));
      *count = (float)r->json.number;
    }
  }
}

/* What the file says of its users against what it holds. */
static fl_status check_counts(const reader *r) {
  const char *path = r->json.path;
  if (r->found.n != r->listed.n || r->announced.n != r->listed.n)
    return fl_fail(FEDLANE_DATA, "%s: it names %d users, has num_samples of %lld and data of %lld",
                   path, r->listed.n, (long long)r->announced.n, (long long)r->found.n);
  for (int64_t i = 0; i < r->found.n; i++) {
    int32_t place = r->found.client[i];
    if (r->found.value[i] != r->announced.value[place])
      return fl_fail(FEDLANE_DATA, "%s: user '%s' has %.0f examples; num_samples says %g", path,
                     r->listed.text[place], (double)r->found.value[i],
                     (double)r->announced.value[place]);
  }
  return FEDLANE_OK;
}

static fl_status read_object(reader *r) {
  FL_TRY(want(r, FL_JSON_OBJECT, "the file must be an object with users and user_data"));
  for (;;) {
    FL_TRY(fl_json_next(&r->json));
    if (r->json.event == FL_JSON_OBJECT_END) break;
    const char *key = r->json.text;
    bool users = strcmp(key, "users") == 0;
    if (users || strcmp(key, "num_samples") == 0) {
      FL_TRY(read_list(r, users));
    } else if (strcmp(key, "user_data") == 0) {
      if (r->listed.n == 0) return fl_json_fail(&r->json, "'users' must come before 'user_data'");
      FL_TRY(want(r, FL_JSON_OBJECT, "user_data must be an object"));
      for (;;) {
        FL_TRY(fl_json_next(&r->json));
        if (r->json.event == FL_JSON_OBJECT_END) break;
        FL_TRY(read_user(r));
      }
    } else {
      FL_TRY(fl_json_next(&r->json));
      FL_TRY(fl_json_pass(&r->json));
    }
  }
  FL_TRY(want(r, FL_JSON_END, "something follows the end"));
  return check_counts(r);
}

static fl_status read_file(reader *r, const char *path) {
  fl_names_free(&r->listed);
  r->announced.n = r->found.n = 0;
  FL_TRY(fl_json_open(path, &r->json));
  fl_status status = read_object(r);
  fl_json_close(&r->json);
  return status;
}

/* The files of a folder, or one file; examples are appended. */
static fl_status read_files(reader *r, const char *path) {
  fl_file_list list = {0};
  fl_status status;
  FL_GO(fl_file_list_open(path, "*.json", &list));
  for (int i = 0; i < list.n; i++) FL_GO(read_file(r, list.path[i]));
done:
  fl_file_list_close(&list);
  return status;
}

/* path/train and path/test, as LEAF leaves them, or all that path holds for training. */
static fl_status read_all(reader *r, int64_t *n_train) {
  char *train = fl_path_join(r->how->path, "train"), *test = fl_path_join(r->how->path, "test");
  fl_status status = FEDLANE_OK;
  if (!train || !test) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for the paths in %s", r->how->path);
    goto done;
  }
  bool split = fl_file_exists(train);
  FL_GO(read_files(r, split ? train : r->how->path));
  *n_train = r->x.n;
  if (split && fl_file_exists(test)) FL_GO(read_files(r, test));
done:
  free(train);
  free(test);
  return status;
}

static void fill(const reader *r) {
  fl_dataset *d = r->out;
  for (int64_t e = 0; e < r->x.n; e++) {
    const float *row = r->x.value + e * r->x.columns;
    for (int i = 0; d->bytes && i < r->width; i++)
      ((uint8_t *)d->x)[e * r->width + i] = (uint8_t)row[i];
    if (!d->bytes) memcpy((float *)d->x + e * r->width, row, sizeof *row * (size_t)r->width);
    d->label[e] = (int32_t)row[r->width];
  }
}

/* Users that have training examples are the clients, in the order in which they came. */
static fl_status fill_clients(const reader *r) {
  fl_dataset *d = r->out;
  int32_t *number = malloc(sizeof *number * (size_t)r->users.n);
  if (!number) return fl_fail(FEDLANE_MEMORY, "no memory for %d users", r->users.n);
  memset(number, -1, sizeof *number * (size_t)r->users.n);
  fl_status status = fl_dataset_alloc_clients(d, 0);
  for (int64_t e = 0; status == FEDLANE_OK && e < d->n_train; e++) {
    int32_t *of = &number[r->x.client[e]];
    if (*of < 0) *of = d->n_client++;
    d->client[e] = *of;
  }
  free(number);
  return status;
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  fl_status status;
  reader r = {.how = how, .args = args, .out = out, .y.columns = 1};
  int kind = r.args->kind;
  memset(out, 0, sizeof *out);
  r.announced.columns = r.found.columns = 1;
  r.width = kind == FEMNIST ? SIDE * SIDE : kind == SHAKESPEARE ? LETTERS_A_TEXT : 0;
  r.x.columns = r.width + 1;
  out->classes = kind == FEMNIST ? FEMNIST_CLASSES : (int)r.args->classes;
  if (kind == SHAKESPEARE) {
    out->classes = LETTERS;
    out->tokens = LETTERS + 1;
    out->bytes = true;
  }
  FL_GO(read_all(&r, &out->n_train));
  out->n_test = r.x.n - out->n_train;
  out->image = kind == FEMNIST       ? (fl_image){1, SIDE, SIDE}
               : kind == SHAKESPEARE ? (fl_image){1, 1, 1, LETTERS_A_TEXT}
                                     : (fl_image){r.width, 1, 1};
  FL_GO(fl_dataset_alloc(out));
  fill(&r);
  fl_dataset_count_classes(out);
  FL_GO(fill_clients(&r));
done:
  fl_json_close(&r.json);
  fl_table_free(&r.x);
  fl_table_free(&r.y);
  fl_table_free(&r.announced);
  fl_table_free(&r.found);
  fl_names_free(&r.users);
  fl_names_free(&r.listed);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

static const fl_param params[] = {
    {.name = "kind",
     .type = FL_CHOICE,
     .offset = offsetof(leaf_args, kind),
     .text = "femnist,shakespeare,vectors",
     .help = "784 pixels and 62 classes; 80 letters and the next one; or any numbers and labels"},
    {.name = "classes",
     .type = FL_INT,
     .offset = offsetof(leaf_args, classes),
     .dflt = 0,
     .lo = 0,
     .hi = FL_CLASSES_MAX,
     .help = "of vectors; 0: one more than the largest label"},
};

const fl_format fl_leaf = {
    .record = {.name = "leaf",
               .help = "LEAF's JSON: one file, or a folder with train and test; a user is a client",
               .paper = "Caldas et al., LEAF: A Benchmark for Federated Settings, arXiv:1812.01097",
               .args_size = sizeof(leaf_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
};
