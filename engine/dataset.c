#include "dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };
#define CONSTANT 1e-7 /* a deviation below this share of the mean is rounding, not signal */

static int64_t examples(const fl_dataset *d) { return d->n_train + d->n_test; }

/* rows * columns values; NULL when they do not fit in memory. Never empty. */
static void *aligned(int64_t rows, int64_t columns, int64_t size) {
  int64_t bytes;
  if (__builtin_mul_overflow(rows, columns, &bytes) ||
      __builtin_mul_overflow(bytes, size, &bytes) || bytes > INT64_MAX - ALIGNMENT)
    return NULL;
  return aligned_alloc(ALIGNMENT, (size_t)(bytes / ALIGNMENT + 1) * ALIGNMENT);
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
    d->label = aligned(n, 1, sizeof(int32_t));
  if (d->x && (d->label || d->target)) return FEDLANE_OK;
  fl_dataset_close(d);
  return fl_fail(FEDLANE_MEMORY, "no memory for %lld examples of %lld values", (long long)n,
                 (long long)features);
}

void fl_dataset_close(fl_dataset *d) {
  free(d->x);
  free(d->label);
  free(d->target);
  free(d->client);
  free(d->shift);
  free(d->scale);
  memset(d, 0, sizeof *d);
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
  for (int64_t e = 0; e < examples(d); e++)
    if (d->label[e] >= d->classes) d->classes = d->label[e] + 1;
}

/* Sum and sum of squares about `about` of one channel over the training examples. */
typedef struct moments {
  double sum, sum2;
} moments;

static moments byte_moments(const fl_dataset *d, int channel) {
  int64_t area = (int64_t)d->image.height * d->image.width, step = fl_image_size(d->image);
  const uint8_t *x = (const uint8_t *)d->x + channel * area;
  uint64_t sum = 0, sum2 = 0;
  for (int64_t e = 0; e < d->n_train; e++, x += step)
    for (int64_t i = 0; i < area; i++) {
      sum += x[i];
      sum2 += (uint32_t)x[i] * x[i];
    }
  return (moments){(double)sum, (double)sum2};
}

static moments float_moments(const fl_dataset *d, int channel, double about) {
  int64_t area = (int64_t)d->image.height * d->image.width, step = fl_image_size(d->image);
  const float *x = (const float *)d->x + channel * area;
  moments m = {0};
  for (int64_t e = 0; e < d->n_train; e++, x += step)
    for (int64_t i = 0; i < area; i++) {
      double off = x[i] - about;
      m.sum += off;
      m.sum2 += off * off;
    }
  return m;
}

/* Mean and population deviation of a channel. Bytes are summed exactly; floats take a second pass
 * about their mean. */
static void channel_stats(const fl_dataset *d, int channel, double *mean, double *deviation) {
  double count = (double)d->n_train * d->image.height * d->image.width;
  if (d->bytes) {
    moments m = byte_moments(d, channel);
    *mean = m.sum / count;
    *deviation = sqrt(fmax(0, m.sum2 / count - *mean * *mean));
    return;
  }
  *mean = float_moments(d, channel, 0).sum / count;
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

fl_status fl_dataset_normalise(fl_dataset *d, fl_normalise how) {
  size_t channels = (size_t)d->image.channels;
  free(d->shift);
  free(d->scale);
  d->shift = calloc(channels, sizeof(float));
  d->scale = calloc(channels, sizeof(float));
  if (!d->shift || !d->scale)
    return fl_fail(FEDLANE_MEMORY, "no memory for %zu channels", channels);
  if (how == FL_NORMALISE_AUTO) how = d->bytes ? FL_NORMALISE_STANDARD : FL_NORMALISE_NONE;
  if (how == FL_NORMALISE_STANDARD) return standardise(d);
  if (how == FL_NORMALISE_UNIT && !d->bytes)
    return fl_fail(FEDLANE_USAGE,
                   "normalise is unit, which is for bytes; float data may take standard or none");
  for (size_t c = 0; c < channels; c++) d->scale[c] = how == FL_NORMALISE_UNIT ? 1.0f / 255 : 1;
  return FEDLANE_OK;
}
