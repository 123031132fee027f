#include "dataset.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arena.h"
#include "param.h"

#define CONSTANT 1e-7 /* a deviation below this share of the mean is rounding, not signal */

static int64_t examples(const fl_dataset *d) { return d->n_train + d->n_test; }

/* rows * columns values; NULL when they do not fit in memory. Never empty. */
static void *aligned(int64_t rows, int64_t columns, int64_t size) {
  int64_t bytes;
  if (__builtin_mul_overflow(rows, columns, &bytes) || __builtin_mul_overflow(bytes, size, &bytes))
    return NULL;
  return fl_host_block(bytes);
}

fl_status fl_dataset_alloc(fl_dataset *d) {
  int64_t n = examples(d), features = fl_image_size(d->image);
  if (d->n_train < 1) return fl_fail(FEDLANE_DATA, "the data set has no training example");
  if (n > INT32_MAX)
    return fl_fail(FEDLANE_DATA, "the data set has %lld examples; at most %d are allowed",
                   (long long)n, INT32_MAX);
  d->x = aligned(n, features, d->bytes ? 1 : (int64_t)sizeof(float));
  if (d->n_target > 0)
    d->target = aligned(n, d->n_target, sizeof(float));
  else
    d->label = aligned(n, d->n_label > 0 ? d->n_label : (d->n_label = 1), sizeof(int32_t));
  if (d->x && (d->label || d->target)) return FEDLANE_OK;
  fl_dataset_close(d);
  return fl_fail(FEDLANE_MEMORY, "no memory for %lld examples of %lld values", (long long)n,
                 (long long)features);
}

static _Thread_local struct {
  fl_watch watch;
  void *of;
} told;

void fl_dataset_watch(fl_watch watch, void *of) {
  told.watch = watch;
  told.of = of;
}

void fl_dataset_tell(int64_t done, int64_t all) {
  if (told.watch) told.watch(told.of, done, all);
}

void fl_dataset_close(fl_dataset *d) {
  if (d->map) {
    munmap(d->map, d->map_bytes);
  } else {
    free(d->x);
    free(d->label);
    free(d->target);
    free(d->client);
  }
  free(d->counted);
  free(d->unit);
  free(d->notice);
  free(d->shift);
  free(d->scale);
  memset(d, 0, sizeof *d);
}

enum { NOTES_MOST = 20, NOTE_LENGTH = 1024 };

fl_status fl_dataset_note(fl_dataset *d, const char *format, ...) {
  char note[NOTE_LENGTH];
  va_list values;
  va_start(values, format);
  vsnprintf(note, sizeof note, format, values);
  va_end(values);
  int lines = 0;
  size_t used = d->notice ? strlen(d->notice) : 0;
  for (size_t i = 0; i < used; i++) lines += d->notice[i] == '\n';
  if (lines > NOTES_MOST) return FEDLANE_OK;
  if (lines == NOTES_MOST) snprintf(note, sizeof note, "and more of which nothing is said here");
  for (char *c = note; *c; c++)
    if (*c == '\n') *c = ' ';
  fl_text_mend(note); /* names of files are any bytes, and a cut may part a character */
  char *grown = realloc(d->notice, used + strlen(note) + 2);
  if (!grown) return fl_fail(FEDLANE_MEMORY, "no memory for notices of the data");
  d->notice = grown;
  sprintf(grown + used, "%s\n", note);
  return FEDLANE_OK;
}

fl_status fl_image_from_sizes(const char *file, const char *what, int n_dim, const int64_t *size,
                              fl_image *out) {
  int64_t values = 1;
  if (n_dim < 1 || n_dim > 3)
    return fl_fail(FEDLANE_DATA,
                   "%s: an example of %s has %d dimensions; 1 (features), 2 (height, width) or 3 "
                   "(channels, height, width) are allowed",
                   file, what, n_dim);
  for (int i = 0; i < n_dim; i++)
    if (size[i] < 1 || __builtin_mul_overflow(values, size[i], &values) || values > INT32_MAX)
      return fl_fail(FEDLANE_DATA,
                     "%s: size %d of an example of %s is %lld; sizes start at 1 and an example has "
                     "at most %d values",
                     file, i, what, (long long)size[i], INT32_MAX);
  int height = n_dim > 1 ? (int)size[n_dim - 2] : 1, width = (int)size[n_dim - 1];
  if (n_dim == 1)
    *out = (fl_image){width, 1, 1};
  else
    *out = (fl_image){n_dim == 3 ? (int)size[0] : 1, height, width};
  return FEDLANE_OK;
}

fl_status fl_dataset_set_label(fl_dataset *d, int64_t e, int64_t value, const char *file,
                               int64_t row) {
  int limit = d->classes > 0 ? d->classes : FL_CLASSES_MAX;
  if (value < 0 || value >= limit)
    return fl_fail(FEDLANE_DATA, "%s: the label of row %lld is %lld; it must lie in 0 .. %d", file,
                   (long long)row, (long long)value, limit - 1);
  d->label[e] = (int32_t)value;
  return FEDLANE_OK;
}

void fl_dataset_count_classes(fl_dataset *d) {
  if (d->classes > 0) return;
  for (int64_t i = 0; i < examples(d) * d->n_label; i++)
    if (d->label[i] >= d->classes) d->classes = d->label[i] + 1;
}

fl_status fl_dataset_count_labels(fl_dataset *d) {
  int64_t n = examples(d), all = 0;
  free(d->counted);
  d->counted = malloc((size_t)n * sizeof *d->counted);
  if (!d->counted)
    return fl_fail(FEDLANE_MEMORY, "no memory for the labels of %lld examples", (long long)n);
  for (int64_t e = 0; e < n; e++) {
    d->counted[e] = 0;
    for (int i = 0; i < d->n_label; i++) d->counted[e] += d->label[e * d->n_label + i] >= 0;
    all += d->counted[e];
  }
  if (all == n * d->n_label) {
    free(d->counted);
    d->counted = NULL;
  }
  return FEDLANE_OK;
}

/* Sum and sum of squares about `about` of one channel over the training examples. */
typedef struct moments {
  double sum, sum2;
  int64_t count; /* values that are not missing */
} moments;

/* A channel's values in an example: runs of `area`, `channels * area` apart. */
typedef struct runs {
  int64_t first, area, apart, end;
} runs;

static runs runs_of(const fl_dataset *d, int channel) {
  int64_t area = (int64_t)d->image.height * d->image.width;
  return (runs){channel * area, area, area * d->image.channels, fl_image_size(d->image)};
}

static moments byte_moments(const fl_dataset *d, int channel) {
  runs r = runs_of(d, channel);
  const uint8_t *x = d->x;
  uint64_t sum = 0, sum2 = 0;
  for (int64_t e = 0; e < d->n_train; e++, x += r.end)
    for (int64_t at = r.first; at < r.end; at += r.apart)
      for (int64_t i = at; i < at + r.area; i++) {
        sum += x[i];
        sum2 += (uint32_t)x[i] * x[i];
      }
  int64_t count = d->n_train * r.area * (r.end / r.apart);
  return (moments){(double)sum, (double)sum2, count};
}

static moments float_moments(const fl_dataset *d, int channel, double about) {
  runs r = runs_of(d, channel);
  const float *x = d->x;
  moments m = {0};
  for (int64_t e = 0; e < d->n_train; e++, x += r.end)
    for (int64_t at = r.first; at < r.end; at += r.apart)
      for (int64_t i = at; i < at + r.area; i++) {
        if (d->raw && isnan(x[i])) continue;
        double off = x[i] - about;
        m.sum += off;
        m.sum2 += off * off;
        m.count++;
      }
  return m;
}

/* Mean and population deviation of a channel; 0 and 0 when all of it is missing. Bytes are summed
 * exactly; floats take a second pass about their mean. */
static void channel_stats(const fl_dataset *d, int channel, double *mean, double *deviation) {
  moments m = d->bytes ? byte_moments(d, channel) : float_moments(d, channel, 0);
  double count = m.count > 0 ? (double)m.count : 1;
  *mean = m.sum / count;
  if (d->bytes)
    *deviation = sqrt(fmax(0, m.sum2 / count - *mean * *mean));
  else
    *deviation = sqrt(float_moments(d, channel, *mean).sum2 / count);
}

static fl_status standardise(fl_dataset *d) {
  for (int c = 0; c < d->image.channels; c++) {
    double mean, deviation;
    channel_stats(d, c, &mean, &deviation);
    if (!isfinite(mean) || !isfinite(deviation))
      return fl_fail(FEDLANE_DATA,
                     "channel %d of the training data holds values that are not finite", c);
    d->shift[c] = (float)mean;
    d->scale[c] = deviation > CONSTANT * fabs(mean) ? (float)(1 / deviation) : 1;
  }
  return FEDLANE_OK;
}

/* Missing values become what gather makes zero of. */
static void fill_missing(fl_dataset *d) {
  float *x = d->x;
  for (int c = 0; c < d->image.channels; c++) {
    runs r = runs_of(d, c);
    for (int64_t e = 0; e < examples(d); e++)
      for (int64_t at = e * r.end + r.first; at < (e + 1) * r.end; at += r.apart)
        for (int64_t i = at; i < at + r.area; i++)
          if (isnan(x[i])) x[i] = d->shift[c];
  }
}

fl_status fl_dataset_normalise(fl_dataset *d, fl_normalise how) {
  size_t channels = (size_t)d->image.channels;
  free(d->shift);
  free(d->scale);
  d->shift = calloc(channels, sizeof(float));
  d->scale = calloc(channels, sizeof(float));
  if (!d->shift || !d->scale)
    return fl_fail(FEDLANE_MEMORY, "no memory for %zu channels", channels);
  if (how != FL_NORMALISE_AUTO && how != FL_NORMALISE_NONE && d->tokens > 0)
    return fl_fail(FEDLANE_USAGE, "tokens are numbers of words: normalise may be auto or none");
  if (how == FL_NORMALISE_AUTO)
    how = d->tokens == 0 && (d->bytes || d->raw) ? FL_NORMALISE_STANDARD : FL_NORMALISE_NONE;
  if (how == FL_NORMALISE_STANDARD) {
    FL_TRY(standardise(d));
    if (d->raw && !d->bytes) fill_missing(d);
    return FEDLANE_OK;
  }
  if (how == FL_NORMALISE_UNIT && !d->bytes)
    return fl_fail(FEDLANE_USAGE,
                   "normalise is unit, which is for bytes; float data may take standard or none");
  for (size_t c = 0; c < channels; c++) d->scale[c] = how == FL_NORMALISE_UNIT ? 1.0f / 255 : 1;
  if (d->raw && !d->bytes) fill_missing(d);
  return FEDLANE_OK;
}
