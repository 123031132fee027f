#include "image_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "files.h"
#include "image_codec.h"

fl_status fl_pixels_size(const fl_image_source *in, int64_t height, int64_t width, fl_pixels *out) {
  if (height < 1 || width < 1 || height > FL_IMAGE_PIXELS_MOST / width)
    return fl_fail(FEDLANE_DATA,
                   "%s: is %lld x %lld pixels; an image has at least one and at most %d", in->path,
                   (long long)width, (long long)height, FL_IMAGE_PIXELS_MOST);
  out->height = out->full_height = (int)height;
  out->width = out->full_width = (int)width;
  out->shrink = 1;
  return FEDLANE_OK;
}

fl_status fl_pixels_alloc(const fl_image_source *in, fl_pixels *out) {
  out->at = malloc((size_t)out->height * (size_t)out->width * (size_t)out->channels);
  if (out->at) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no memory for the %d x %d pixels of %s", out->width, out->height,
                 in->path);
}

static fl_status decode(const fl_image_source *in, fl_pixels *out) {
  const unsigned char *b = in->at;
  if (in->size > 2 && b[0] == 'P' && (b[1] == '5' || b[1] == '6'))
    return fl_image_decode_pnm(in, out);
  if (in->size > 2 && b[0] == 0xff && b[1] == 0xd8) return fl_image_decode_jpeg(in, out);
  if (in->size > 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0) return fl_image_decode_png(in, out);
  return fl_fail(FEDLANE_DATA, "%s: is no PPM, PGM, PNG or JPEG file%s", in->path,
                 in->size == 0 ? "; it is empty" : "");
}

enum { UNIT = 1 << 14 }; /* the weights of a result add up to this */

/* One axis of a scaling: result i is the sum of tap[i] neighbours from first[i] on, weighed by
 * weight[i * most ...]. */
typedef struct axis {
  int n, most;
  int *first, *tap, *weight;
} axis;

static void axis_close(axis *a) {
  free(a->first);
  free(a->tap);
  free(a->weight);
}

/* How much of pixel p result i takes: the length that both share, or a triangle of width 2. */
static double share_of(double begin, double step, int i, int p) {
  double low = begin + i * step, high = low + step;
  double off = fabs((low + high) / 2 - (p + 0.5));
  double share = step < 1 ? 1 - off : fmin(high, p + 1) - fmax(low, p);
  return share > 1e-9 ? share : 0;
}

/* Weights of result i over the pixels `lowest` .. `past`-1. Their sums up to each pixel are
 * rounded, so that all of them add up to UNIT. */
static void weigh(axis *a, int i, double begin, double step, int lowest, int past) {
  double middle = begin + (i + 0.5) * step, reach = fmax(1, step / 2) + 1;
  int low = (int)fmax(lowest, middle - reach), high = (int)fmin(past, middle + reach + 1);
  int *weight = a->weight + (size_t)i * (size_t)a->most, given = 0;
  double sum = 0, whole = 0;
  for (int p = low; p < high; p++) whole += share_of(begin, step, i, p);
  for (int p = low; p < high; p++) {
    double share = share_of(begin, step, i, p);
    if (share == 0) continue;
    if (a->tap[i] == 0) a->first[i] = p;
    sum += share;
    int upto = (int)(sum / whole * UNIT + 0.5);
    weight[a->tap[i]++] = upto - given;
    given = upto;
  }
}

/* n results from the `length` pixels from `begin` on, of which there are `size`. */
static bool axis_open(axis *a, int n, double begin, double length, int size) {
  double step = length / n;
  int past = (int)(begin + length + 0.999999);
  a->n = n;
  a->most = (int)step + 4;
  a->first = calloc((size_t)n, sizeof *a->first);
  a->tap = calloc((size_t)n, sizeof *a->tap);
  a->weight = calloc((size_t)n * (size_t)a->most, sizeof *a->weight);
  if (!a->first || !a->tap || !a->weight) return false;
  for (int i = 0; i < n; i++) weigh(a, i, begin, step, (int)begin, past < size ? past : size);
  return true;
}

/* One row of results before the horizontal pass, in 256ths; wide: sums of [count]. */
static void mix_rows(const fl_pixels *in, const axis *y, int i, uint32_t *wide) {
  size_t count = (size_t)in->width * (size_t)in->channels;
  memset(wide, 0, count * sizeof *wide);
  for (int t = 0; t < y->tap[i]; t++) {
    const uint8_t *row = in->at + (size_t)(y->first[i] + t) * count;
    uint32_t weight = (uint32_t)y->weight[(size_t)i * (size_t)y->most + (size_t)t];
    for (size_t k = 0; k < count; k++) wide[k] += weight * row[k];
  }
  for (size_t k = 0; k < count; k++) wide[k] = (wide[k] + 32) >> 6;
}

/* Channel c of result j of a row, of 0 .. 255. */
static uint32_t mix_columns(const uint32_t *wide, const axis *x, int j, int c, int channels) {
  uint32_t sum = 1u << 21;
  for (int t = 0; t < x->tap[j]; t++)
    sum += (uint32_t)x->weight[(size_t)j * (size_t)x->most + (size_t)t] *
           wide[(x->first[j] + t) * channels + c];
  return sum >> 22;
}

static void mix(const fl_image_read *want, const fl_pixels *in, const axis *y, const axis *x,
                uint32_t *wide, uint8_t *out) {
  size_t area = (size_t)want->height * (size_t)want->width;
  for (int i = 0; i < want->height; i++) {
    mix_rows(in, y, i, wide);
    for (int j = 0; j < want->width; j++) {
      uint32_t value[3];
      for (int c = 0; c < in->channels; c++) value[c] = mix_columns(wide, x, j, c, in->channels);
      uint8_t *to =
          out + (size_t)i * (size_t)want->width + (size_t)(want->mirror ? want->width - 1 - j : j);
      for (int c = in->channels; c < 3; c++) value[c] = value[0];
      if (want->channels == 1 && in->channels == 3)
        *to = (uint8_t)((19595 * value[0] + 38470 * value[1] + 7471 * value[2] + 32768) >> 16);
      else
        for (int c = 0; c < want->channels; c++) to[(size_t)c * area] = (uint8_t)value[c];
    }
  }
}

static fl_status scale(const fl_image_read *want, const fl_pixels *in, uint8_t *out) {
  double shrink = in->shrink;
  int high = in->full_height - want->top - want->bottom;
  int across = in->full_width - want->left - want->right;
  axis y = {0}, x = {0};
  uint32_t *wide = malloc((size_t)in->width * (size_t)in->channels * sizeof *wide);
  bool room = wide && axis_open(&y, want->height, want->top / shrink, high / shrink, in->height) &&
              axis_open(&x, want->width, want->left / shrink, across / shrink, in->width);
  if (room) mix(want, in, &y, &x, wide, out);
  axis_close(&y);
  axis_close(&x);
  free(wide);
  if (room) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no memory to scale %s", want->path);
}

/* Checks the file's size against what is known of it, and the edges against its size. */
static fl_status check(const fl_image_read *want, const fl_pixels *in) {
  int high = in->full_height, across = in->full_width;
  if (want->full_height > 0 && (want->full_height != high || want->full_width != across))
    return fl_fail(FEDLANE_DATA, "%s: is %d x %d pixels (width x height), but %s %d x %d",
                   want->path, across, high, want->full_by, want->full_width, want->full_height);
  if ((int64_t)want->top + want->bottom >= high || (int64_t)want->left + want->right >= across)
    return fl_fail(FEDLANE_DATA,
                   "%s: is %d x %d pixels (width x height); cutting %d + %d rows and %d + %d "
                   "columns off leaves nothing",
                   want->path, across, high, want->top, want->bottom, want->left, want->right);
  return FEDLANE_OK;
}

/* How far the part that is wanted may be shrunk and still have a pixel for each of the result. */
static int most_shrink(const fl_image_read *want, const fl_pixels *in) {
  int high = (in->full_height - want->top - want->bottom) / want->height;
  int across = (in->full_width - want->left - want->right) / want->width;
  return high < across ? high : across;
}

fl_status fl_image_read_file(const fl_image_read *want, uint8_t *out) {
  fl_status status;
  unsigned char *bytes = NULL;
  fl_pixels pixels = {0};
  fl_image_source in = {.path = want->path};
  FL_GO(fl_read_all(want->path, &bytes, &in.size));
  in.at = bytes;
  FL_GO(decode(&in, &pixels));
  FL_GO(check(want, &pixels));
  in.most_shrink = most_shrink(want, &pixels);
  in.channels = want->channels;
  FL_GO(decode(&in, &pixels));
  FL_GO(scale(want, &pixels, out));
done:
  free(bytes);
  free(pixels.at);
  return status;
}

fl_status fl_image_file_size(const char *path, int *height, int *width) {
  fl_status status;
  unsigned char *bytes = NULL;
  fl_pixels pixels = {0};
  fl_image_source in = {.path = path};
  FL_GO(fl_read_all(path, &bytes, &in.size));
  in.at = bytes;
  FL_GO(decode(&in, &pixels));
  *height = pixels.full_height;
  *width = pixels.full_width;
done:
  free(bytes);
  return status;
}

bool fl_image_file_named(const char *name) {
  static const char *const known[] = {".ppm", ".pgm", ".png", ".jpg", ".jpeg"};
  const char *dot = strrchr(name, '.');
  for (int i = 0; dot && i < (int)(sizeof known / sizeof *known); i++)
    if (strcasecmp(dot, known[i]) == 0) return true;
  return false;
}
