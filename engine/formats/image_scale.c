/* Scaling. Sums have an order that follows from the sizes alone, so that the result is the same
 * everywhere. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image_codec.h"

/* One axis of a scaling: result i is the sum of `taps` neighbours from first[i] on, weighed by
 * weight[i * taps ...], of which some may be 0. */
typedef struct axis {
  int n, taps;
  int *first;
  float *weight;
} axis;

static void axis_close(axis *a) {
  free(a->first);
  free(a->weight);
}

/* How much of pixel p the result from low to high takes: the length that both share, or a triangle
 * of width 2 about its middle. */
static double share_of(double low, double high, int p) {
  double off = fabs((low + high) / 2 - (p + 0.5));
  return fmax(0, high - low < 1 ? 1 - off : fmin(high, p + 1) - fmax(low, p));
}

/* n results from the `length` pixels from `begin` on, of which there are `size`. */
static bool axis_open(axis *a, int n, double begin, double length, int size) {
  double step = length / n, reach = fmax(1, step / 2);
  int least = (int)begin, past = (int)fmin(ceil(begin + length), size);
  a->n = n;
  a->taps = (int)fmin(ceil(2 * reach) + 1, past - least);
  a->first = malloc((size_t)n * sizeof *a->first);
  a->weight = malloc((size_t)n * (size_t)a->taps * sizeof *a->weight);
  if (!a->first || !a->weight) return false;
  for (int i = 0; i < n; i++) {
    double low = begin + i * step, high = begin + (i + 1) * step, whole = 0;
    float *weight = a->weight + (size_t)i * (size_t)a->taps;
    int first = (int)floor((low + high) / 2 - reach);
    first = first < least ? least : first;
    a->first[i] = first = first > past - a->taps ? past - a->taps : first;
    for (int t = 0; t < a->taps; t++) {
      double share = share_of(low, high, first + t);
      weight[t] = (float)share;
      whole += share;
    }
    for (int t = 0; t < a->taps; t++) weight[t] /= (float)whole;
  }
  return true;
}

typedef float floats __attribute__((vector_size(16)));
typedef int32_t words __attribute__((vector_size(16)));
typedef uint8_t bytes __attribute__((vector_size(4)));

/* Row i of the result before columns are mixed. wide: [width, channels]. */
static void mix_rows(const fl_pixels *in, const axis *y, int i, float *restrict wide) {
  size_t count = (size_t)in->width * (size_t)in->channels;
  const float *weight = y->weight + (size_t)i * (size_t)y->taps;
  const uint8_t *restrict row = in->at + (size_t)y->first[i] * count;
  for (size_t k = 0; k < count; k++) wide[k] = weight[0] * row[k];
  for (int t = 1; t < y->taps; t++) {
    row += count;
    if (weight[t] == 0) continue;
    for (size_t k = 0; k < count; k++) wide[k] += weight[t] * row[k];
  }
}

/* A sum of so many weights that rounding takes it past the end is the end. */
static void mix_grey(const float *wide, const axis *x, uint8_t *row) {
  for (int j = 0; j < x->n; j++) {
    const float *weight = x->weight + (size_t)j * (size_t)x->taps;
    float sum = 0.5f;
    for (int t = 0; t < x->taps; t++) sum += weight[t] * wide[x->first[j] + t];
    row[j] = sum < 255 ? (uint8_t)sum : 255;
  }
}

/* The four bytes of a pixel at once. */
static void mix_colour(const float *wide, const axis *x, uint8_t *row) {
  const float *weight = x->weight;
  for (int j = 0; j < x->n; j++) {
    const float *at = wide + 4 * (size_t)x->first[j];
    floats sum = {0.5f, 0.5f, 0.5f, 0.5f}, pixel;
    for (int t = 0; t < x->taps; t++, at += 4) {
      memcpy(&pixel, at, sizeof pixel);
      sum += pixel * *weight++;
    }
    words whole = __builtin_convertvector(sum, words), over = whole > 255;
    bytes narrow = __builtin_convertvector((whole & ~over) | (over & 255), bytes);
    memcpy(row + 4 * (size_t)j, &narrow, sizeof narrow);
  }
}

/* A row of pixels of four bytes to a row of each plane. */
static void split(const uint8_t *row, int n, size_t area, uint8_t *restrict out) {
  uint8_t *restrict red = out, *restrict green = out + area, *restrict blue = out + 2 * area;
  for (int j = 0; j < n; j++) {
    red[j] = row[4 * j];
    green[j] = row[4 * j + 1];
    blue[j] = row[4 * j + 2];
  }
}

static void brighten(const uint8_t *row, int n, uint8_t *out) {
  for (int j = 0; j < n; j++) {
    const uint8_t *p = row + 4 * j;
    out[j] = (uint8_t)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 32768u) >> 16);
  }
}

static void reverse(uint8_t *row, int n) {
  for (int j = 0; j < n / 2; j++) {
    uint8_t kept = row[j];
    row[j] = row[n - 1 - j];
    row[n - 1 - j] = kept;
  }
}

/* A row of pixels of the right width to its place in the result. */
static void place(const fl_image_read *want, int channels, const uint8_t *row, uint8_t *out) {
  int n = want->width;
  size_t area = (size_t)want->height * (size_t)n;
  if (channels == 4 && want->channels == 3)
    split(row, n, area, out);
  else if (channels == 4)
    brighten(row, n, out);
  else
    for (int c = 0; c < want->channels; c++) memcpy(out + (size_t)c * area, row, (size_t)n);
  for (int c = 0; c < want->channels && want->mirror; c++) reverse(out + (size_t)c * area, n);
}

fl_status fl_image_scale(const fl_image_read *want, const fl_pixels *in, uint8_t *out) {
  double shrink = in->shrink;
  int high = in->full_height - want->top - want->bottom;
  int across = in->full_width - want->left - want->right;
  bool same = in->shrink == 1 && high == want->height && across == want->width;
  axis y = {0}, x = {0};
  size_t channels = (size_t)in->channels;
  float *wide = malloc((size_t)in->width * channels * sizeof *wide);
  uint8_t *row = malloc((size_t)want->width * channels);
  bool room = wide && row;
  if (room && !same)
    room = axis_open(&y, want->height, want->top / shrink, high / shrink, in->height) &&
           axis_open(&x, want->width, want->left / shrink, across / shrink, in->width);
  for (int i = 0; room && i < want->height; i++) {
    const uint8_t *from = row;
    if (same) {
      from = in->at + ((size_t)(want->top + i) * (size_t)in->width + (size_t)want->left) * channels;
    } else {
      mix_rows(in, &y, i, wide);
      (channels == 4 ? mix_colour : mix_grey)(wide, &x, row);
    }
    place(want, in->channels, from, out + (size_t)i * (size_t)want->width);
  }
  axis_close(&y);
  axis_close(&x);
  free(wide);
  free(row);
  if (room) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no memory to scale %s", want->path);
}
