#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "formats.h"

typedef struct synthetic_args {
  int kind; /* images, regression or tokens */
  int64_t examples, test, channels, height, width, classes, targets, clients, steps;
  double noise;
} synthetic_args;

enum { IMAGES, REGRESSION, TOKENS };
enum { FOR_X, FOR_Y, FOR_TRUTH, FOR_NOISE }; /* the layer word of the keys below */
enum { CELL = 4 }; /* a class's pattern is made of squares of CELL x CELL pixels */

/* The numbers of one example (or of one class, or target) for one of the uses above. */
static fl_key key_of(uint32_t seed, uint32_t use, int64_t number) {
  return (fl_key){.seed = seed, .purpose = FL_FOR_DATA, .client = (uint32_t)number, .layer = use};
}

static uint32_t word(const fl_key *key, int64_t i) {
  return fl_rng_block(key, (uint32_t)(i / 4)).v[i % 4];
}

/* pattern: [classes, channels, height, width]. */
static void make_patterns(const fl_dataset *d, uint32_t seed, uint8_t *pattern) {
  fl_image m = d->image;
  int rows = (m.height + CELL - 1) / CELL, columns = (m.width + CELL - 1) / CELL;
  for (int k = 0; k < d->classes; k++) {
    fl_key key = key_of(seed, FOR_TRUTH, k);
    for (int c = 0; c < m.channels; c++)
      for (int h = 0; h < m.height; h++)
        for (int w = 0; w < m.width; w++)
          *pattern++ =
              (uint8_t)(word(&key, (c * rows + h / CELL) * (int64_t)columns + w / CELL) >> 24);
  }
}

/* Every pixel is its class's pattern mixed with a uniform random byte; share: of noise, in 256ths.
 * Each block of random numbers serves 16 pixels. */
static void make_pixels(const fl_key *key, int64_t n, const uint8_t *pattern, uint32_t share,
                        uint8_t *x) {
  for (int64_t at = 0; at < n; at += 16) {
    fl_words r = fl_rng_block(key, (uint32_t)(at / 16));
    uint8_t noise[16], mixed[16] = {0};
    int64_t left = n - at < 16 ? n - at : 16;
    memcpy(noise, r.v, sizeof noise);
    memcpy(mixed, pattern + at, (size_t)left);
    for (int i = 0; i < 16; i++)
      mixed[i] = (uint8_t)((mixed[i] * (256 - share) + noise[i] * share) >> 8);
    memcpy(x + at, mixed, (size_t)left);
  }
}

static fl_status make_images(const synthetic_args *a, uint32_t seed, fl_dataset *d) {
  int64_t pixels = fl_image_size(d->image);
  uint8_t *pattern = malloc((size_t)(d->classes * pixels));
  if (!pattern)
    return fl_fail(FEDLANE_MEMORY, "no memory for the patterns of %d classes", d->classes);
  make_patterns(d, seed, pattern);
  for (int64_t e = 0; e < d->n_train + d->n_test; e++) {
    fl_key x = key_of(seed, FOR_X, e), y = key_of(seed, FOR_Y, e);
    d->label[e] = (int32_t)((uint64_t)word(&y, 0) * (uint32_t)d->classes >> 32);
    make_pixels(&x, pixels, pattern + d->label[e] * pixels, (uint32_t)lrint(a->noise * 256),
                (uint8_t *)d->x + e * pixels);
  }
  free(pattern);
  return FEDLANE_OK;
}

/* n standard normal numbers by Box-Muller, two from each pair of words. */
static void make_normal(const fl_key *key, int64_t n, float *x) {
  for (int64_t i = 0; i < n; i += 2) {
    float radius = sqrtf(-2 * logf(fl_unit_float(word(key, i))));
    float angle = 6.28318531f * fl_unit_float(word(key, i + 1));
    x[i] = radius * cosf(angle);
    if (i + 1 < n) x[i + 1] = radius * sinf(angle);
  }
}

/* x is normal; each target is a fixed random direction's product with x, of variance 1, plus noise.
 */
static fl_status make_regression(const synthetic_args *a, uint32_t seed, fl_dataset *d) {
  int64_t F = fl_image_size(d->image), T = d->n_target;
  float *truth = malloc((size_t)(T * F) * sizeof *truth);
  if (!truth) return fl_fail(FEDLANE_MEMORY, "no memory for %lld targets", (long long)T);
  for (int64_t t = 0; t < T; t++) {
    fl_key key = key_of(seed, FOR_TRUTH, t);
    make_normal(&key, F, truth + t * F);
  }
  for (int64_t e = 0; e < d->n_train + d->n_test; e++) {
    float *x = (float *)d->x + e * F, *y = d->target + e * T;
    fl_key for_x = key_of(seed, FOR_X, e), for_noise = key_of(seed, FOR_NOISE, e);
    make_normal(&for_x, F, x);
    make_normal(&for_noise, T, y);
    for (int64_t t = 0; t < T; t++) {
      double sum = 0;
      for (int64_t i = 0; i < F; i++) sum += (double)x[i] * truth[t * F + i];
      y[t] = (float)(sum / sqrt((double)F) + a->noise * y[t]);
    }
  }
  free(truth);
  return FEDLANE_OK;
}

/* A token is followed by the one that a fixed table names, or, for a share `noise`, by any. Each
 * sequence ends somewhere in its second half; steps from there on are token 0 and do not count. */
static void make_tokens(const synthetic_args *a, uint32_t seed, fl_dataset *d) {
  int T = d->image.steps;
  uint32_t K = (uint32_t)d->classes, drawn = (uint32_t)lrint(a->noise * 65535);
  fl_key truth = key_of(seed, FOR_TRUTH, 0);
  for (int64_t e = 0; e < d->n_train + d->n_test; e++) {
    float *x = (float *)d->x + e * T;
    int32_t *y = d->label + e * T;
    fl_rng rng = fl_rng_open(key_of(seed, FOR_X, e));
    int length = T - (int)fl_rng_below(&rng, (uint32_t)T / 2 + 1);
    uint32_t token = fl_rng_below(&rng, K);
    for (int t = 0; t < T; t++) {
      bool counts = t < length;
      x[t] = counts ? (float)token : 0;
      bool free_draw = fl_rng_below(&rng, 65536) < drawn;
      token = free_draw ? fl_rng_below(&rng, K) : word(&truth, token) % K;
      y[t] = counts ? (int32_t)token : -1;
    }
  }
}

/* Natural clients are equal blocks of the training examples. */
static fl_status make_clients(int64_t clients, fl_dataset *d) {
  if (clients == 0) return FEDLANE_OK;
  if (clients > d->n_train)
    return fl_fail(FEDLANE_USAGE, "clients is %lld; it must not exceed examples, which is %lld",
                   (long long)clients, (long long)d->n_train);
  d->client = malloc((size_t)d->n_train * sizeof *d->client);
  if (!d->client) return fl_fail(FEDLANE_MEMORY, "no memory for %lld clients", (long long)clients);
  for (int64_t e = 0; e < d->n_train; e++) d->client[e] = (int32_t)(e * clients / d->n_train);
  d->n_client = (int32_t)clients;
  return FEDLANE_OK;
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  const synthetic_args *a = args;
  const int64_t size[3] = {a->channels, a->height, a->width};
  bool tokens = a->kind == TOKENS, classes = a->kind != REGRESSION;

  fl_status status;
  memset(out, 0, sizeof *out);
  FL_GO(fl_image_from_sizes("synthetic", "x", 3, size, &out->image));
  if (tokens) out->image = (fl_image){1, 1, 1, (int)a->steps};
  out->bytes = a->kind == IMAGES;
  out->classes = classes ? (int)a->classes : 0;
  out->tokens = tokens ? (int)a->classes : 0;
  out->n_label = tokens ? (int)a->steps : classes;
  out->n_target = classes ? 0 : (int)a->targets;
  out->n_train = a->examples;
  out->n_test = a->test;
  FL_GO(fl_dataset_alloc(out));
  if (tokens)
    make_tokens(a, how->seed, out);
  else
    FL_GO(classes ? make_images(a, how->seed, out) : make_regression(a, how->seed, out));
  FL_GO(make_clients(a->clients, out));
done:
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

#define WHOLE(field, value, low, high, text)                                                    \
  {                                                                                             \
    .name = #field, .type = FL_INT, .offset = offsetof(synthetic_args, field), .dflt = (value), \
    .lo = (low), .hi = (high), .help = (text)                                                   \
  }

static const fl_param params[] = {
    {.name = "kind",
     .type = FL_CHOICE,
     .offset = offsetof(synthetic_args, kind),
     .dflt = IMAGES,
     .text = "images,regression,tokens",
     .help = "byte pixels with classes, float features with real targets, or sequences of tokens, "
             "each with the next one as its label"},
    WHOLE(examples, 10000, 1, 2e9, "training examples"),
    WHOLE(test, 1000, 0, 1e8, "test examples"),
    WHOLE(channels, 1, 1, 1e6, "channels of an image, or features"),
    WHOLE(height, 28, 1, 1e5, "rows of an image"),
    WHOLE(width, 28, 1, 1e5, "columns of an image"),
    WHOLE(classes, 10, 1, FL_CLASSES_MAX, "classes of images, or different tokens"),
    WHOLE(targets, 1, 1, 1e6, "targets of a regression example"),
    WHOLE(steps, 80, 1, 1e5, "steps of a sequence of tokens"),
    WHOLE(clients, 0, 0, 2e9, "natural clients, equal blocks of examples; 0: none"),
    {.name = "noise",
     .type = FL_REAL,
     .offset = offsetof(synthetic_args, noise),
     .dflt = 0.5,
     .lo = 0,
     .hi = 1,
     .help = "share of noise in a pixel or among tokens, or deviation of the noise in a target"},
};

const fl_format fl_synthetic = {
    .record = {.name = "synthetic",
               .help = "examples made from the seed alone, for benchmarks and trials; no files",
               .args_size = sizeof(synthetic_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
};
