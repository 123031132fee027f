#include "safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "formats.h"

typedef struct safetensors_args {
  int64_t classes, tokens;
  bool steps;
} safetensors_args;

/* The tensors of a data set; those that are optional may be NULL. */
typedef struct parts {
  const char *path;
  const fl_st_tensor *x, *y, *client, *x_test, *y_test;
} parts;

/* Finds the known tensors and refuses others, so that a misspelt one is not silently left out. */
static fl_status find_parts(const fl_st_file *file, parts *p) {
  const struct {
    const char *name;
    const fl_st_tensor **at;
  } known[] = {{"x", &p->x},
               {"y", &p->y},
               {"client", &p->client},
               {"x_test", &p->x_test},
               {"y_test", &p->y_test}};
  for (int i = 0; i < fl_st_count(file); i++) {
    const fl_st_tensor *t = fl_st_at(file, i);
    int k = 0;
    while (k < FL_COUNT(known) && strcmp(known[k].name, t->name) != 0) k++;
    if (k == FL_COUNT(known))
      return fl_fail(FEDLANE_DATA,
                     "%s: tensor '%s' is unknown; x, y, client, x_test and y_test are known",
                     p->path, t->name);
    *known[k].at = t;
  }
  if (!p->x || !p->y)
    return fl_fail(FEDLANE_DATA, "%s: tensor '%s' is missing", p->path, p->x ? "y" : "x");
  if (!p->x_test != !p->y_test)
    return fl_fail(FEDLANE_DATA, "%s: tensor '%s' is missing beside '%s'", p->path,
                   p->x_test ? "y_test" : "x_test", p->x_test ? "x_test" : "y_test");
  return FEDLANE_OK;
}

static bool whole_numbers(const fl_st_tensor *t) {
  return t->type == FL_U8 || t->type == FL_I8 || t->type == FL_I32 || t->type == FL_I64;
}

static int64_t whole_at(const fl_st_tensor *t, int64_t i) {
  int32_t narrow;
  int64_t wide;
  switch (t->type) {
    case FL_U8:
      return ((const uint8_t *)t->data)[i];
    case FL_I8:
      return ((const int8_t *)t->data)[i];
    case FL_I32:
      memcpy(&narrow, (const char *)t->data + i * 4, 4);
      return narrow;
    default:
      memcpy(&wide, (const char *)t->data + i * 8, 8);
      return wide;
  }
}

/* F32 or F64 values to finite floats. */
static fl_status copy_floats(const char *path, const fl_st_tensor *t, float *out) {
  int64_t row = t->count / (t->dim[0] > 0 ? t->dim[0] : 1);
  for (int64_t i = 0; i < t->count; i++) {
    double wide;
    if (t->type == FL_F64) {
      memcpy(&wide, (const char *)t->data + i * 8, 8);
      out[i] = (float)wide;
    } else {
      memcpy(&out[i], (const char *)t->data + i * 4, 4);
    }
    if (!isfinite(out[i]))
      return fl_fail(FEDLANE_DATA, "%s: row %lld of '%s' holds a value that is not finite", path,
                     (long long)(i / row), t->name);
  }
  return FEDLANE_OK;
}

/* Tokens are whole numbers [n, steps]; values that come in steps are floats [n, steps, features].
 */
static fl_status check_sequences(const char *path, const safetensors_args *a,
                                 const fl_st_tensor *x) {
  if (a->tokens > 0 ? whole_numbers(x) && x->n_dim == 2 : x->type == FL_F32 && x->n_dim == 3)
    return FEDLANE_OK;
  return fl_fail(FEDLANE_DATA, "%s: '%s' has the type %s and %d dimensions; %s are expected", path,
                 x->name, fl_dtype_name(x->type), x->n_dim,
                 a->tokens > 0 ? "tokens, whole numbers [n, steps],"
                               : "values that come in steps, F32 [n, steps, features],");
}

static fl_status check_x(const char *path, const safetensors_args *a, const fl_st_tensor *x) {
  if (a->tokens > 0 || a->steps) return check_sequences(path, a, x);
  if (x->type != FL_U8 && x->type != FL_F32)
    return fl_fail(FEDLANE_DATA, "%s: '%s' has the type %s; U8 and F32 are allowed", path, x->name,
                   fl_dtype_name(x->type));
  if (x->n_dim < 2 || x->n_dim > 4)
    return fl_fail(
        FEDLANE_DATA,
        "%s: '%s' has %d dimensions; [n, features], [n, height, width] and [n, channels, "
        "height, width] are allowed",
        path, x->name, x->n_dim);
  return FEDLANE_OK;
}

static fl_status check_y(const char *path, const fl_st_tensor *x, const fl_st_tensor *y) {
  bool real = y->type == FL_F32 || y->type == FL_F64;
  bool a_step = whole_numbers(y) && y->n_dim == 2 && x->n_dim >= 2 && y->dim[1] == x->dim[1];
  if (!a_step && !(whole_numbers(y) && y->n_dim == 1) &&
      !(real && (y->n_dim == 1 || y->n_dim == 2)))
    return fl_fail(FEDLANE_DATA,
                   "%s: '%s' has the type %s and %d dimensions; labels are whole numbers [n], or "
                   "[n, steps] for sequences, targets F32 or F64 [n] or [n, targets]",
                   path, y->name, fl_dtype_name(y->type), y->n_dim);
  if (x->dim[0] != y->dim[0])
    return fl_fail(FEDLANE_DATA, "%s: '%s' has %lld rows, but '%s' has %lld", path, x->name,
                   (long long)x->dim[0], y->name, (long long)y->dim[0]);
  if (y->n_dim == 2 && (y->dim[1] < 1 || y->dim[1] > INT32_MAX))
    return fl_fail(FEDLANE_DATA, "%s: '%s' has %lld targets a row; at least 1 is needed", path,
                   y->name, (long long)y->dim[1]);
  return FEDLANE_OK;
}

/* The test tensors must look like the training tensors but for their rows. */
static fl_status check_alike(const char *path, const fl_st_tensor *a, const fl_st_tensor *b) {
  bool alike =
      a->n_dim == b->n_dim && (a->type == b->type || (whole_numbers(a) && whole_numbers(b)));
  for (int i = 1; alike && i < a->n_dim; i++) alike = a->dim[i] == b->dim[i];
  if (alike) return FEDLANE_OK;
  return fl_fail(FEDLANE_DATA, "%s: '%s' and '%s' differ in type or in the shape of a row", path,
                 a->name, b->name);
}

static fl_status check_parts(const safetensors_args *a, const parts *p) {
  FL_TRY(check_x(p->path, a, p->x));
  if (whole_numbers(p->y) && p->y->n_dim == 2 && a->tokens == 0 && !a->steps)
    return fl_fail(
        FEDLANE_DATA,
        "%s: 'y' has 2 dimensions, a label a step, so x must be sequences: set tokens or "
        "steps",
        p->path);
  FL_TRY(check_y(p->path, p->x, p->y));
  if (p->x_test) {
    FL_TRY(check_alike(p->path, p->x, p->x_test));
    FL_TRY(check_alike(p->path, p->y, p->y_test));
    FL_TRY(check_y(p->path, p->x_test, p->y_test));
  }
  if (p->client &&
      (!whole_numbers(p->client) || p->client->n_dim != 1 || p->client->dim[0] != p->x->dim[0]))
    return fl_fail(FEDLANE_DATA,
                   "%s: 'client' must be whole numbers, one for each of the %lld rows", p->path,
                   (long long)p->x->dim[0]);
  return FEDLANE_OK;
}

static fl_status copy_tokens(const char *path, const fl_st_tensor *x, int64_t first,
                             fl_dataset *out) {
  for (int64_t i = 0; i < x->count; i++) {
    int64_t token = whole_at(x, i);
    if (token < 0 || token >= out->tokens)
      return fl_fail(FEDLANE_DATA, "%s: row %lld of '%s' holds the token %lld; there are 0 to %d",
                     path, (long long)(i / x->dim[1]), x->name, (long long)token, out->tokens - 1);
    if (out->bytes)
      ((uint8_t *)out->x)[first + i] = (uint8_t)token;
    else
      ((float *)out->x)[first + i] = (float)token;
  }
  return FEDLANE_OK;
}

/* Labels a step may be -1: not counted. */
static fl_status copy_labels(const char *path, const fl_st_tensor *y, int64_t first,
                             fl_dataset *out) {
  for (int64_t i = 0; i < y->count; i++) {
    int64_t label = whole_at(y, i);
    if (out->n_label > 1 && label == -1)
      out->label[first + i] = -1;
    else
      FL_TRY(fl_dataset_set_label(out, first + i, label, path, i / out->n_label));
  }
  return FEDLANE_OK;
}

/* Copies one pair of tensors to the examples from `at` on. */
static fl_status fill(const char *path, const fl_st_tensor *x, const fl_st_tensor *y, int64_t at,
                      fl_dataset *out) {
  int64_t first = at * fl_image_size(out->image);
  if (out->tokens > 0)
    FL_TRY(copy_tokens(path, x, first, out));
  else if (out->bytes)
    memcpy((uint8_t *)out->x + first, x->data, (size_t)x->count);
  else
    FL_TRY(copy_floats(path, x, (float *)out->x + first));
  if (out->n_target > 0) return copy_floats(path, y, out->target + at * out->n_target);
  return copy_labels(path, y, at * out->n_label, out);
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* Any client numbers become 0 .. n_client-1 in ascending order. */
static fl_status compact_clients(const fl_st_tensor *client, fl_dataset *out) {
  int64_t n = client->count, distinct = 0;
  int64_t *id = malloc((size_t)n * sizeof *id);
  out->client = malloc((size_t)n * sizeof *out->client);
  if (!id || !out->client) {
    free(id);
    return fl_fail(FEDLANE_MEMORY, "no memory for the clients of %lld rows", (long long)n);
  }
  for (int64_t e = 0; e < n; e++) id[e] = whole_at(client, e);
  qsort(id, (size_t)n, sizeof *id, ascending);
  for (int64_t e = 0; e < n; e++)
    if (distinct == 0 || id[distinct - 1] != id[e]) id[distinct++] = id[e];
  for (int64_t e = 0; e < n; e++) {
    int64_t value = whole_at(client, e);
    const int64_t *at = bsearch(&value, id, (size_t)distinct, sizeof *id, ascending);
    out->client[e] = (int32_t)(at - id);
  }
  out->n_client = (int32_t)distinct;
  free(id);
  return FEDLANE_OK;
}

static fl_status shape(const char *path, const safetensors_args *a, const fl_st_tensor *x,
                       fl_dataset *out) {
  int64_t features = a->tokens > 0 ? 1 : x->dim[2];
  out->tokens = (int)a->tokens;
  out->bytes = a->tokens > 0 ? a->tokens <= UINT8_MAX + 1 : x->type == FL_U8;
  FL_TRY(fl_image_from_sizes(path, "x", x->n_dim - 1, x->dim + 1, &out->image));
  if (a->tokens > 0 || a->steps) out->image = (fl_image){(int)features, 1, 1, (int)x->dim[1]};
  return FEDLANE_OK;
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  const safetensors_args *a = args;

  fl_status status;
  fl_st_file *file = NULL;
  parts p = {.path = how->path};
  memset(out, 0, sizeof *out);
  FL_GO(fl_st_open(how->path, &file));
  FL_GO(find_parts(file, &p));
  FL_GO(check_parts(a, &p));
  FL_GO(shape(how->path, a, p.x, out));
  out->n_train = p.x->dim[0];
  out->n_test = p.x_test ? p.x_test->dim[0] : 0;
  if (!whole_numbers(p.y)) out->n_target = p.y->n_dim == 2 ? (int)p.y->dim[1] : 1;
  if (out->n_target == 0) out->classes = (int)a->classes;
  out->n_label = out->n_target > 0 ? 0 : p.y->n_dim == 2 ? (int)p.y->dim[1] : 1;
  FL_GO(fl_dataset_alloc(out));
  FL_GO(fill(how->path, p.x, p.y, 0, out));
  if (p.x_test) FL_GO(fill(how->path, p.x_test, p.y_test, out->n_train, out));
  if (out->label) fl_dataset_count_classes(out);
  if (p.client) FL_GO(compact_clients(p.client, out));
done:
  fl_st_close(&file);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

static const fl_param params[] = {
    {.name = "classes",
     .type = FL_INT,
     .offset = offsetof(safetensors_args, classes),
     .dflt = 0,
     .lo = 0,
     .hi = FL_CLASSES_MAX,
     .help = "number of classes; 0: one more than the largest label"},
    {.name = "tokens",
     .type = FL_INT,
     .offset = offsetof(safetensors_args, tokens),
     .dflt = 0,
     .lo = 0,
     .hi = FL_CLASSES_MAX,
     .help = "x are sequences of numbers of tokens below this, [n, steps]; 0: x are values"},
    {.name = "steps",
     .type = FL_BOOL,
     .offset = offsetof(safetensors_args, steps),
     .help = "x are sequences of values, [n, steps, features]"},
};

const fl_format fl_safetensors = {
    .record = {.name = "safetensors",
               .help = "one file with x, y and optionally client, x_test and y_test",
               .paper = "https://huggingface.co/docs/safetensors",
               .args_size = sizeof(safetensors_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
    .seedless = true,
};
