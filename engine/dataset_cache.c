/* Decoded data sets, kept as safetensors files.
 *
 * A file holds x, label or target, client, unit, and what else a data set says in one line of
 * numbers. It is found by the key of where it came from, and trusted only when its sum over all of
 * that is right and every label, client and token lies in its range. */
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dataset.h"
#include "digest.h"
#include "files.h"
#include "formats/table.h"
#include "param.h"
#include "safetensors.h"

/* A new member of fl_dataset belongs into numbers() or tensors() below. */
_Static_assert(sizeof(fl_dataset) == 160, "the cache does not know a member of fl_dataset");

enum { LAYOUT = 2, ALIGNMENT = 64, NUMBERS = 512, TENSORS = 6 };

static uint64_t blend(uint64_t h, uint64_t v) { return fl_digest_on(h, &v, sizeof v); }

static uint64_t sum_text(uint64_t h, const char *text) {
  return fl_digest_on(h, text, strlen(text));
}

/* The walk over the source's files; nftw has no room for an argument of ours. */
static _Thread_local uint64_t walked;
static _Thread_local size_t walk_from;
static _Thread_local const char *walk_for; /* the format */

/* Cached data sets may lie beside the source: they are no part of it. */
static bool is_cached(const char *name) {
  size_t length = strlen(walk_for);
  return strncmp(name, walk_for, length) == 0 && name[length] == '-' &&
         strstr(name + length, ".safetensors");
}

/* Adds up, so that the order of a folder does not matter. */
static int visit(const char *path, const struct stat *info, int type, struct FTW *walk) {
  if ((type != FTW_F && type != FTW_NS) || is_cached(path + walk->base)) return 0;
  uint64_t h = sum_text(1, path + walk_from);
  h = blend(h, type == FTW_F ? (uint64_t)info->st_size : UINT64_MAX);
  if (type == FTW_F) h = blend(h, (uint64_t)info->st_mtim.tv_sec);
  if (type == FTW_F) h = blend(h, (uint64_t)info->st_mtim.tv_nsec);
  walked += h;
  return 0;
}

/* Blends in all files at a path. */
static uint64_t sum_files(uint64_t h, const char *path) {
  walked = 0;
  walk_from = strlen(path);
  if (*path) nftw(path, visit, 32, 0);
  return blend(sum_text(h, path), walked);
}

/* A file that a parameter names: as it is, and beside the others. */
static uint64_t sum_source(uint64_t h, const fl_param *param, const void *args, const char *path) {
  const char *name = *(const char *const *)(const void *)((const char *)args + param->offset);
  char *beside = NULL;
  if (!*name) return h;
  h = sum_files(h, name);
  if (fl_file_beside(path, name, &beside) == FEDLANE_OK) h = sum_files(h, beside);
  free(beside);
  return h;
}

static uint64_t key_of(const fl_load *how, const fl_format *format, const void *args) {
  uint64_t h = sum_text(LAYOUT, FEDLANE_VERSION);
  char value[4200];
  walk_for = format->record.name;
  h = sum_text(h, format->record.name);
  for (int i = 0; i < format->record.n_param; i++) {
    h = sum_text(h, format->record.param[i].name);
    h = sum_text(h, fl_param_print(&format->record.param[i], args, sizeof value, value));
    if (format->record.param[i].flags & FL_SOURCE)
      h = sum_source(h, &format->record.param[i], args, how->path);
  }
  h = blend(h, format->seedless ? 0 : 1 + (uint64_t)how->seed);
  h = blend(h, how->skip_bad);
  return sum_files(h, how->path);
}

/* Everything that is not in a tensor, as text. */
static void numbers(const fl_dataset *d, char out[NUMBERS]) {
  snprintf(
      out, NUMBERS, "%d %d %d %d %d %d %d %d %" PRId64 " %" PRId64 " %d %d %" PRId32 " %" PRId64,
      d->image.channels, d->image.height, d->image.width, d->image.steps, d->tokens, d->classes,
      d->n_label, d->n_target, d->n_train, d->n_test, d->bytes, d->raw, d->n_client, d->skipped);
}

static bool read_numbers(const char *text, fl_dataset *d) {
  int bytes, raw, end = 0;
  int n = sscanf(text,
                 "%d %d %d %d %d %d %d %d %" SCNd64 " %" SCNd64 " %d %d %" SCNd32 " %" SCNd64 "%n",
                 &d->image.channels, &d->image.height, &d->image.width, &d->image.steps, &d->tokens,
                 &d->classes, &d->n_label, &d->n_target, &d->n_train, &d->n_test, &bytes, &raw,
                 &d->n_client, &d->skipped, &end);
  d->bytes = bytes;
  d->raw = raw;
  return n == 14 && text[end] == '\0';
}

/* The tensors of a data set; those that it lacks are empty. The second one fills up to a multiple
 * of 64 bytes, so that the others are aligned. */
static void tensors(const fl_dataset *d, fl_st_tensor t[TENSORS]) {
  static const unsigned char zeros[ALIGNMENT];
  int64_t n = d->n_train + d->n_test, x = n * fl_image_size(d->image);
  int64_t pad = -(x * (d->bytes ? 1 : 4)) & (ALIGNMENT - 1);
  int64_t label = d->label ? n * d->n_label : 0, target = d->target ? n * d->n_target : 0;
  int64_t client = d->client ? d->n_train : 0, unit = d->unit ? d->n_target : 0;
  t[0] = (fl_st_tensor){"x", d->bytes ? FL_U8 : FL_F32, 1, {x}, x, d->x};
  t[1] = (fl_st_tensor){"pad", FL_U8, 1, {pad}, pad, zeros};
  t[2] = (fl_st_tensor){"label", FL_I32, 1, {label}, label, d->label};
  t[3] = (fl_st_tensor){"target", FL_F32, 1, {target}, target, d->target};
  t[4] = (fl_st_tensor){"client", FL_I32, 1, {client}, client, d->client};
  t[5] = (fl_st_tensor){"unit", FL_F32, 1, {unit}, unit, d->unit};
}

static uint64_t sum_of(const char *about, const char *notice, const fl_st_tensor *t) {
  uint64_t h = sum_text(sum_text(LAYOUT, about), notice);
  for (int i = 0; i < TENSORS; i++)
    h = fl_digest_on(h, t[i].data, (size_t)(t[i].count * fl_dtype_size(t[i].type)));
  return h;
}

static bool within(const int32_t *value, int64_t n, int32_t low, int32_t end) {
  bool good = true;
  for (int64_t i = 0; i < n; i++) good &= value[i] >= low && value[i] < end;
  return good;
}

static bool tokens_within(const fl_dataset *d, int64_t n) {
  bool good = true;
  for (int64_t i = 0; d->tokens > 0 && i < n; i++)
    good &= d->bytes ? ((uint8_t *)d->x)[i] < d->tokens
                     : ((float *)d->x)[i] >= 0 && ((float *)d->x)[i] < (float)d->tokens;
  return good;
}

/* Points *d into the file's tensors. False when these are not what the numbers say. */
static bool seat(const fl_st_file *file, fl_dataset *d) {
  fl_st_tensor t[TENSORS];
  const fl_st_tensor *found[TENSORS];
  int64_t values = 0;
  for (int pass = 0; pass < 2; pass++) { /* which there are, then whether they have their sizes */
    tensors(d, t);
    for (int i = 0; i < TENSORS; i++) {
      found[i] = fl_st_find(file, t[i].name);
      if (!found[i] || found[i]->type != t[i].type) return false;
      if (pass && found[i]->count != t[i].count) return false;
    }
    void *at[TENSORS];
    for (int i = 0; i < TENSORS; i++)
      at[i] = found[i]->count > 0 ? (void *)(uintptr_t)found[i]->data : NULL;
    d->x = at[0], d->label = at[2], d->target = at[3], d->client = at[4], d->unit = at[5];
  }
  values = found[0]->count;
  return d->x && (d->classes > 0 ? d->label != NULL : d->target != NULL) &&
         within(d->label, found[2]->count, -1, d->classes) &&
         within(d->client, found[4]->count, 0, d->n_client) && tokens_within(d, values);
}

/* What there is no room for in a file of this size, or below zero, is damage too. */
static bool sizes_good(const fl_dataset *d) {
  const int part[] = {d->image.channels, d->image.height, d->image.width,
                      d->image.steps > 0 ? d->image.steps : 1};
  int64_t n = d->n_train + d->n_test, values = n;
  bool good = d->n_train > 0 && d->n_test >= 0 && n <= INT32_MAX && d->image.steps >= 0 &&
              d->n_target >= 0 && d->n_label >= 0 && d->n_client >= 0 && d->classes >= 0;
  for (int i = 0; good && i < FL_COUNT(part); i++)
    good = part[i] > 0 && !__builtin_mul_overflow(values, part[i], &values);
  return good && values < INT64_MAX / 8;
}

static fl_status use(fl_st_file **file, const char *key, fl_dataset *d) {
  fl_st_tensor t[TENSORS];
  char sum[20];
  const char *about = fl_st_metadata(*file, "set"), *notice = fl_st_metadata(*file, "notice");
  const char *theirs = fl_st_metadata(*file, "key"), *said = fl_st_metadata(*file, "sum");
  if (!about || !notice || !theirs || !said || strcmp(theirs, key) != 0)
    return fl_fail(FEDLANE_DATA, "it was not made from these data");
  if (!read_numbers(about, d) || !sizes_good(d) || !seat(*file, d))
    return fl_fail(FEDLANE_DATA, "it is damaged");
  tensors(d, t);
  snprintf(sum, sizeof sum, "%016" PRIx64, sum_of(about, notice, t));
  if (strcmp(sum, said) != 0) return fl_fail(FEDLANE_DATA, "it is damaged");
  float *unit = malloc((size_t)(t[5].count + 1) * sizeof *unit);
  char *line = strdup(notice);
  fl_status status = unit && line ? fl_st_release(file, &d->map, &d->map_bytes)
                                  : fl_fail(FEDLANE_MEMORY, "no memory for a cached data set");
  if (status == FEDLANE_OK && d->unit) {
    memcpy(unit, d->unit, (size_t)t[5].count * sizeof *unit);
    d->unit = unit;
    unit = NULL;
  }
  if (status == FEDLANE_OK && *line) {
    d->notice = line;
    line = NULL;
  }
  free(unit);
  free(line);
  return status;
}

/* OK with *out when the file is there and good. */
static fl_status open_cached(const char *path, const char *key, fl_dataset *out) {
  fl_st_file *file = NULL;
  fl_dataset d = {0};
  fl_status status = fl_st_open(path, &file);
  if (status == FEDLANE_OK) status = use(&file, key, &d);
  fl_st_close(&file);
  if (status == FEDLANE_OK) *out = d;
  return status;
}

static fl_status save(const char *path, const char *key, const fl_dataset *d) {
  fl_st_tensor t[TENSORS];
  char about[NUMBERS], sum[20];
  const char *notice = d->notice ? d->notice : "";
  numbers(d, about);
  tensors(d, t);
  snprintf(sum, sizeof sum, "%016" PRIx64, sum_of(about, notice, t));
  const char *const meta[] = {"key", key, "set", about, "notice", notice, "sum", sum};
  return fl_st_write(path, TENSORS, t, FL_COUNT(meta) / 2, meta);
}

/* The name of the file for a key, in a new string (free it). Makes the folder. */
static fl_status place(const char *cache, const fl_format *format, const char *key, char **path) {
  char name[128];
  snprintf(name, sizeof name, "%.80s-%s.safetensors", format->record.name, key);
  *path = fl_path_join(cache, name);
  if (!*path) return fl_fail(FEDLANE_MEMORY, "no memory for the path %s", cache);
  return fl_make_folder(cache);
}

static fl_status load(const fl_load *how, const fl_format *format, const void *args,
                      const char *cache, fl_dataset *out) {
  fl_status status;
  char key[20], why[256] = "", *path = NULL;
  if (!*cache) return format->load(how, args, out);
  snprintf(key, sizeof key, "%016" PRIx64, key_of(how, format, args));
  FL_GO(place(cache, format, key, &path));
  if (fl_file_exists(path)) {
    if (open_cached(path, key, out) == FEDLANE_OK) goto done;
    snprintf(why, sizeof why, "%.250s", fedlane_error());
  }
  FL_GO(format->load(how, args, out));
  bool saved = save(path, key, out) == FEDLANE_OK;
  if (*why) FL_GO(fl_dataset_note(out, "%s: not used, and made anew: %s", path, why));
  if (!saved) FL_GO(fl_dataset_note(out, "the data are not cached: %s", fedlane_error()));
done:
  free(path);
  return status;
}

/* Numbers have a point whatever the user's language, in this thread and for this call. */
fl_status fl_dataset_load(const fl_load *how, const fl_format *format, const void *args,
                          const char *cache, fl_dataset *out) {
  locale_t plain = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
  if (!plain) return fl_fail(FEDLANE_MEMORY, "no memory to read a data set");
  locale_t before = uselocale(plain);
  fl_status status = load(how, format, args, cache, out);
  uselocale(before);
  freelocale(plain);
  return status;
}
