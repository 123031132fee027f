/* Scaling, by whole numbers of 14 bits, so that the result is the same everywhere. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image_codec.h"

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

typedef uint32_t words __attribute__((vector_size(16)));
typedef uint8_t bytes __attribute__((vector_size(4)));

/* Row i of the result before columns are mixed, in 256ths. wide: [width, channels]. */
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

static void mix_grey(const uint32_t *wide, const axis *x, uint8_t *row) {
  for (int j = 0; j < x->n; j++) {
    const int *weight = x->weight + (size_t)j * (size_t)x->most;
    uint32_t sum = 1u << 21;
    for (int t = 0; t < x->tap[j]; t++) sum += (uint32_t)weight[t] * wide[x->first[j] + t];
    row[j] = (uint8_t)(sum >> 22);
  }
}

/* The four bytes of a pixel at once. */
static void mix_colour(const uint32_t *wide, const axis *x, uint8_t *row) {
  for (int j = 0; j < x->n; j++) {
    const int *weight = x->weight + (size_t)j * (size_t)x->most;
    const uint32_t *at = wide + 4 * (size_t)x->first[j];
    words sum = {1u << 21, 1u << 21, 1u << 21, 1u << 21}, pixel;
    for (int t = 0; t < x->tap[j]; t++, at += 4) {
      memcpy(&pixel, at, sizeof pixel);
      sum += pixel * (uint32_t)weight[t];
    }
    bytes narrow = __builtin_convertvector(sum >> 22, bytes);
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
  uint32_t *wide = malloc((size_t)in->width * channels * sizeof *wide);
  uint8_t *row = malloc((size_t)want->width * channels);
  bool room = wide && row &&
              axis_open(&y, want->height, want->top / shrink, high / shrink, in->height) &&
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
