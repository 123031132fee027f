/* The HDF5 files of pfl-research's benchmarks: /<split>/<user>/<array> and /metadata. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats.h"
#include "formats/hdf5_file.h"
#include "formats/sequences.h"
#include "formats/table.h"

enum { STACKOVERFLOW, FLAIR };
enum { COARSE, FINE };

typedef struct pfl_args {
  int set, labels;
  const char *test;
  int64_t users, most;
} pfl_args;

typedef struct reader {
  const fl_load *how;
  const pfl_args *args;
  fl_h5 *file;
  fl_dataset *out;
} reader;

typedef struct name {
  char at[512];
} name;

static name array_of(const char *split, const char *user, const char *array) {
  name n;
  snprintf(n.at, sizeof n.at, "%s/%s/%s", split, user, array);
  return n;
}

static fl_status list_users(const reader *r, const char *split, fl_h5_names *out) {
  FL_TRY(fl_h5_list(r->file, split, out));
  while (r->args->users > 0 && out->n > r->args->users) free(out->at[--out->n]);
  return FEDLANE_OK;
}

/* --- Stack Overflow: inputs and targets, [n, T], the targets one token further -----------------
 */

/* A user's sentences. input, target: [n, T]. */
static fl_status add_sentences(reader *r, const char *split, const char *user, int32_t client,
                               int tokens, fl_sequences *to) {
  fl_h5_shape in, goal;
  name x = array_of(split, user, "inputs"), y = array_of(split, user, "targets");
  FL_TRY(fl_h5_shape_of(r->file, x.at, &in));
  FL_TRY(fl_h5_shape_of(r->file, y.at, &goal));
  if (in.n_dim != 2 || goal.n_dim != 2 || in.dim[0] != goal.dim[0] || in.dim[1] != goal.dim[1] ||
      in.dim[1] < 1 || in.dim[1] > 65536 || (to->T > 0 && in.dim[1] != to->T))
    return fl_fail(FEDLANE_DATA, "%s: '%s' and '%s' are not of one shape [sentences, steps]",
                   r->how->path, x.at, y.at);
  to->T = (int)in.dim[1];
  int64_t n = in.dim[0], T = to->T;
  int32_t *input = malloc((size_t)(in.count + 1) * sizeof *input);
  int32_t *target = malloc((size_t)(in.count + 1) * sizeof *target), *both = NULL;
  fl_status status = FEDLANE_OK;
  if (input && target) both = malloc((size_t)(T + 1) * sizeof *both);
  if (!both) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory to read %s", r->how->path));
  FL_GO(fl_h5_ints(r->file, x.at, in.count, input));
  FL_GO(fl_h5_ints(r->file, y.at, in.count, target));
  for (int64_t i = 0; i < in.count; i++)
    if (input[i] < 0 || input[i] >= tokens || target[i] < 0 || target[i] >= tokens)
      FL_GO(fl_fail(FEDLANE_DATA, "%s: '%s' or '%s': row %lld has a token outside 0 .. %d",
                    r->how->path, x.at, y.at, (long long)(i / T), tokens - 1));
  if (r->args->most > 0 && n > r->args->most) n = r->args->most;
  for (int64_t i = 0; i < n; i++) {
    memcpy(both, input + i * T, (size_t)T * sizeof *both);
    both[T] = target[i * T + T - 1];
    for (int64_t t = 0; t + 1 < T; t++)
      if (target[i * T + t] != input[i * T + t + 1])
        FL_GO(fl_fail(FEDLANE_DATA, "%s: '%s': row %lld is not '%s' moved by one step",
                      r->how->path, y.at, (long long)i, x.at));
    FL_GO(fl_sequences_add(to, client, T + 1, both));
  }
done:
  free(input);
  free(target);
  free(both);
  return status;
}

static fl_status read_split(reader *r, const char *split, int tokens, fl_sequences *to,
                            int32_t *n_user) {
  fl_h5_names user;
  fl_status status = FEDLANE_OK;
  FL_TRY(list_users(r, split, &user));
  *n_user = (int32_t)user.n;
  for (int64_t u = 0; status == FEDLANE_OK && u < user.n; u++) {
    fl_dataset_tell(u, user.n);
    status = add_sentences(r, split, user.at[u], (int32_t)u, tokens, to);
    if (status != FEDLANE_OK) status = fl_pass_over(r->how, status, &r->out->skipped);
  }
  fl_h5_names_free(&user);
  return status;
}

static fl_status load_sentences(reader *r) {
  int32_t tokens = 0, pad = 0, users = 0, others;
  fl_sequences to[2] = {{0}, {0}};
  fl_status status;
  FL_GO(fl_h5_ints(r->file, "metadata/vocabulary_size", 1, &tokens));
  FL_GO(fl_h5_ints(r->file, "metadata/pad_symbol", 1, &pad));
  if (tokens < 2 || tokens > FL_CLASSES_MAX || pad != FL_TOKEN_PAD)
    FL_GO(fl_fail(FEDLANE_DATA,
                  "%s: vocabulary_size is %d and pad_symbol %d; 2 to %d and 0 are expected",
                  r->how->path, tokens, pad, FL_CLASSES_MAX));
  FL_GO(read_split(r, "train", tokens, &to[0], &users));
  to[1].T = to[0].T;
  FL_GO(read_split(r, r->args->test, tokens, &to[1], &others));
  FL_GO(fl_sequences_finish(&to[0], &to[1], tokens, users, r->out));
done:
  fl_sequences_free(&to[0]);
  fl_sequences_free(&to[1]);
  return status;
}

/* --- FLAIR: images [n, height, width, 3] and the places of ones in a matrix of labels ----------
 */

static fl_status count_images(reader *r, const char *split, const fl_h5_names *user, int64_t *n,
                              int64_t *all) {
  fl_image *image = &r->out->image;
  for (int64_t u = 0; u < user->n; u++) {
    fl_h5_shape s;
    name x = array_of(split, user->at[u], "images");
    fl_status status = fl_h5_shape_of(r->file, x.at, &s);
    if (status == FEDLANE_OK && (s.n_dim != 4 || s.dim[3] != 3 || s.count > INT32_MAX))
      status = fl_fail(FEDLANE_DATA, "%s: '%s' does not hold images [n, height, width, 3]",
                       r->how->path, x.at);
    if (status == FEDLANE_OK && image->channels == 0)
      *image = (fl_image){3, (int)s.dim[1], (int)s.dim[2]};
    if (status == FEDLANE_OK && (s.dim[1] != image->height || s.dim[2] != image->width))
      status = fl_fail(FEDLANE_DATA, "%s: the images of '%s' are not of %d x %d", r->how->path,
                       x.at, image->height, image->width);
    if (status != FEDLANE_OK) {
      FL_TRY(fl_pass_over(r->how, status, &r->out->skipped));
      continue;
    }
    n[u] = s.dim[0];
    if (r->args->most > 0 && n[u] > r->args->most) n[u] = r->args->most;
    *all += n[u];
  }
  return FEDLANE_OK;
}

static fl_status read_targets(reader *r, const char *split, const char *user, int64_t n,
                              int64_t at) {
  const char *kind = r->args->labels == FINE ? "fine_grained_labels" : "labels";
  char row_name[64], col_name[64];
  fl_h5_shape s;
  int T = r->out->n_target;
  float *target = r->out->target + at * T;
  snprintf(row_name, sizeof row_name, "%s_row", kind);
  snprintf(col_name, sizeof col_name, "%s_col", kind);
  name rows = array_of(split, user, row_name), cols = array_of(split, user, col_name);
  FL_TRY(fl_h5_shape_of(r->file, rows.at, &s));
  int32_t *row = calloc((size_t)s.count + 1, sizeof *row);
  int32_t *col = calloc((size_t)s.count + 1, sizeof *col);
  fl_status status = FEDLANE_OK;
  if (!row || !col) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory to read %s", r->how->path));
  FL_GO(fl_h5_ints(r->file, rows.at, s.count, row));
  FL_GO(fl_h5_ints(r->file, cols.at, s.count, col));
  memset(target, 0, (size_t)(n * T) * sizeof *target);
  for (int64_t i = 0; i < s.count; i++) {
    if (row[i] < 0 || col[i] < 0 || col[i] >= T)
      FL_GO(fl_fail(FEDLANE_DATA, "%s: '%s': entry %lld names label %d; it must lie in 0 .. %d",
                    r->how->path, cols.at, (long long)i, col[i], T - 1));
    if (row[i] < n) target[(int64_t)row[i] * T + col[i]] = 1;
  }
done:
  free(row);
  free(col);
  return status;
}

static fl_status read_images(reader *r, const char *split, const fl_h5_names *user,
                             const int64_t *n, int64_t at, int32_t *client) {
  fl_image s = r->out->image;
  int64_t size = fl_image_size(s), area = (int64_t)s.height * s.width;
  fl_status status = FEDLANE_OK;
  uint8_t *raw = NULL;
  for (int64_t u = 0; u < user->n; at += n[u], u++) {
    name x = array_of(split, user->at[u], "images");
    fl_h5_shape shape;
    fl_dataset_tell(u, user->n);
    if (n[u] == 0) continue;
    FL_GO(fl_h5_shape_of(r->file, x.at, &shape));
    free(raw);
    raw = malloc((size_t)shape.count);
    if (!raw) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory to read %s", r->how->path));
    FL_GO(fl_h5_bytes(r->file, x.at, shape.count, raw));
    for (int64_t i = 0; i < n[u] * area; i++)
      for (int k = 0; k < 3; k++)
        ((uint8_t *)r->out->x)[(at + i / area) * size + k * area + i % area] = raw[i * 3 + k];
    FL_GO(read_targets(r, split, user->at[u], n[u], at));
    for (int64_t i = 0; client && i < n[u]; i++) client[at + i] = (int32_t)u;
  }
done:
  free(raw);
  return status;
}

static fl_status load_photos(reader *r) {
  enum { COARSE_LABELS = 17, FINE_LABELS = 1628 };
  fl_dataset *out = r->out;
  const char *split[2] = {"train", r->args->test};
  fl_h5_names user[2] = {{0}, {0}};
  int64_t *n[2] = {NULL, NULL}, *all[2] = {&out->n_train, &out->n_test};
  fl_status status;
  out->bytes = true;
  out->n_target = r->args->labels == FINE ? FINE_LABELS : COARSE_LABELS;
  for (int i = 0; i < 2; i++) {
    FL_GO(list_users(r, split[i], &user[i]));
    n[i] = calloc((size_t)user[i].n + 1, sizeof **n);
    if (!n[i]) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for the users of %s", r->how->path));
    FL_GO(count_images(r, split[i], &user[i], n[i], all[i]));
  }
  FL_GO(fl_dataset_alloc(out));
  out->client = malloc((size_t)out->n_train * sizeof *out->client);
  out->n_client = (int32_t)user[0].n;
  if (!out->client) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for the users of %s", r->how->path));
  FL_GO(read_images(r, split[0], &user[0], n[0], 0, out->client));
  FL_GO(read_images(r, split[1], &user[1], n[1], out->n_train, NULL));
done:
  for (int i = 0; i < 2; i++) {
    free(n[i]);
    fl_h5_names_free(&user[i]);
  }
  return status;
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  reader r = {.how = how, .args = args, .out = out};
  memset(out, 0, sizeof *out);
  FL_TRY(fl_h5_open(how->path, &r.file));
  fl_status status = r.args->set == FLAIR ? load_photos(&r) : load_sentences(&r);
  fl_h5_close(&r.file);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

static const fl_param params[] = {
    {.name = "set",
     .type = FL_CHOICE,
     .offset = offsetof(pfl_args, set),
     .text = "stackoverflow,flair",
     .help = "which data set the file holds"},
    {.name = "labels",
     .type = FL_CHOICE,
     .offset = offsetof(pfl_args, labels),
     .text = "coarse,fine",
     .help = "of flair: 17 coarse or 1,628 fine ones"},
    {.name = "test",
     .type = FL_TEXT,
     .offset = offsetof(pfl_args, test),
     .text = "val",
     .help = "the split that the model is tested on: val or test"},
    {.name = "users",
     .type = FL_INT,
     .offset = offsetof(pfl_args, users),
     .lo = 0,
     .hi = INT32_MAX,
     .unit = "clients",
     .help = "read the first so many users by name of each split; 0: all"},
    {.name = "most",
     .type = FL_INT,
     .offset = offsetof(pfl_args, most),
     .lo = 0,
     .hi = INT32_MAX,
     .unit = "examples",
     .help = "of a user; 0: all"},
};

const fl_format fl_pfl = {
    .record = {.name = "pfl",
               .help = "HDF5 files of pfl-research: stackoverflow, flair",
               .paper = "pfl-research, arXiv:2404.06430",
               .args_size = sizeof(pfl_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
};
