/* Data sets in host memory, and how they are dealt to clients. */
#ifndef FL_DATASET_H
#define FL_DATASET_H

#include "ops.h"

/* Examples 0 .. n_train-1 are for training, n_train .. n_train+n_test-1 for the central test. */
typedef struct fl_dataset {
  fl_image image; /* features without a shape are {n, 1, 1}; sequences {features, 1, 1, steps} */
  int tokens;     /* > 0: x are numbers of tokens below this, of sequences {1, 1, 1, steps} */
  int classes;    /* 0: regression */
  int n_label;    /* labels an example, of classes: 1, or one a step of a sequence */
  int n_target;   /* regression targets an example; 0 for classification */
  int64_t n_train, n_test;
  bool bytes;       /* x is uint8 (pixels, characters), else float */
  bool raw;         /* x are measurements in units of their own, NaN where one is missing */
  void *x;          /* [n, channels, height, width] or [n, steps, features]; aligned to 64 bytes */
  int32_t *label;   /* [n, n_label]; NULL for regression; each 0 .. classes-1, or -1: not counted */
  int32_t *counted; /* [n] how many labels of an example are counted; NULL: all of them */
  float *target;    /* [n, n_target]; NULL for classification */
  float *unit;      /* [n_target] a target of 1 in the data's own units; NULL: they are in these */
  int32_t *client;  /* [n_train] natural client, 0 .. n_client-1; NULL: none known */
  int32_t n_client;
  float *shift, *scale; /* [channels]: what gather applies; set by fl_dataset_normalise */
  int64_t skipped;      /* bad rows and files that were left out */
  char *notice;         /* what a user should know of the reading, a line each; NULL: nothing */
  void *map;            /* a mapped file that x and the others lie in, of map_bytes; NULL: none */
  size_t map_bytes;
} fl_dataset;

/* Allocates x and label (n_target 0; n_label 0 becomes 1) or target for the sizes already set in
 * *d; contents undefined. At least one training example and at most 2^31-1 examples. Errors: DATA,
 * MEMORY. */
fl_status fl_dataset_alloc(fl_dataset *d);
void fl_dataset_close(fl_dataset *d); /* frees the members and zeroes *d; accepts a zeroed one */
/* Adds a line to the notice (printf form), valid UTF-8 whatever it is made of, of 1023 bytes at
 * most; after twenty, one says that there were more.
 * Errors: MEMORY. */
fl_status fl_dataset_note(fl_dataset *d, const char *format, ...) FL_PRINTF(2, 3);

enum { FL_SPLIT_NONE, FL_SPLIT_CLIENT, FL_SPLIT_EXAMPLE, FL_SPLIT_TIME };
/* What the central test is to be made of. */
typedef struct fl_split {
  int by;       /* none,client,example,time */
  double share; /* 0 < share < 1 of the clients, or of the examples */
  int64_t gap;  /* by time: examples left out between a client's training and test part */
  bool replace; /* leave the test part that the data bring out; else having one is an error */
} fl_split;
/* Moves training examples to the central test, as *d comes from a format: by CLIENT whole natural
 * clients, drawn at random; by EXAMPLE examples drawn at random; by TIME the last share of each
 * client's examples in the order of the data, which are all one client's where none are known. By
 * CLIENT no client is on both sides; by TIME no training example of a client comes after, or within
 * `gap` examples before, one of its test. Examples keep their order and clients the order of their
 * numbers, which become 0 .. n_client-1; a client without training examples is no longer one.
 * Before fl_dataset_count_labels and fl_dataset_normalise, so that these see the training part
 * alone. O(data set), which is copied. Errors: USAGE, DATA, MEMORY. */
fl_status fl_dataset_split(fl_dataset *d, const fl_split *how, uint32_t seed);

typedef enum fl_normalise {
  FL_NORMALISE_AUTO,
  FL_NORMALISE_STANDARD,
  FL_NORMALISE_UNIT,
  FL_NORMALISE_NONE
} fl_normalise;
/* Sets shift and scale. STANDARD: mean and deviation of each channel over the training examples
 * (a constant channel gets scale 1), missing values left out. UNIT: bytes to 0..1. AUTO: NONE for
 * tokens, STANDARD for bytes and for raw values, else NONE. In the end missing values of raw data
 * become their channel's shift, so that gather makes zeros of them. */
fl_status fl_dataset_normalise(fl_dataset *d, fl_normalise how);

enum { FL_CLASSES_MAX = 1 << 20 };
/* The image that n_dim sizes of one example describe: [features], [height, width] or
 * [channels, height, width]. file and what (such as "x") are for messages. Errors: DATA. */
fl_status fl_image_from_sizes(const char *file, const char *what, int n_dim, const int64_t *size,
                              fl_image *out);
/* Sets label[e]. A value outside 0 .. classes-1 (0 .. FL_CLASSES_MAX-1 while classes is 0) is
 * refused. row is the example's number in `file`, for messages. Errors: DATA. */
fl_status fl_dataset_set_label(fl_dataset *d, int64_t e, int64_t value, const char *file,
                               int64_t row);
/* Sets classes to 1 + the largest label, unless they are set. */
void fl_dataset_count_classes(fl_dataset *d);
/* Sets counted from the labels: NULL when all are. Errors: MEMORY. O(labels). */
fl_status fl_dataset_count_labels(fl_dataset *d);
/* How many labels of an example are counted. */
static inline int32_t fl_dataset_counted(const fl_dataset *d, int64_t e) {
  return d->counted ? d->counted[e] : d->n_label > 0 ? d->n_label : 1;
}

/* How a data set is to be read. */
typedef struct fl_load {
  const char *path; /* data.path as given */
  uint32_t seed;
  int threads;   /* >= 1: how many may read at once */
  bool skip_bad; /* leave bad rows and files out, and count them; else the first one is an error */
} fl_load;

/* Told of reading as it goes: `done` of `all` files or clients, in the thread that reads. */
typedef void (*fl_watch)(void *of, int64_t done, int64_t all);
/* Whom the formats that this thread calls tell from now on; NULL: nobody. */
void fl_dataset_watch(fl_watch watch, void *of);
void fl_dataset_tell(int64_t done, int64_t all);

/* A data format: how files become a data set. */
typedef struct fl_format {
  fl_record record;
  /* Sets everything in *out but shift and scale. Checks every length, magic and label. Bad rows and
   * files are named with their place, and counted in out->skipped where they may be left out.
   * Errors: DATA or IO with file and offending value. *out is zeroed on entry and need not be
   * cleaned up by load on failure. The data depend on neither threads nor the folder's order. */
  fl_status (*load)(const fl_load *how, const void *args, fl_dataset *out);
  bool seedless; /* what it reads does not depend on the seed */
} fl_format;

/* dataset_cache.c: format->load through a folder of data sets that have been read before; an empty
 * name: none. A set is found again by its format, the parameters, the seed where it matters, and
 * the names, sizes and times of change of the source's files. It is mapped, and checked whole
 * against a sum; what does not fit is read anew, with a notice. Errors: as load. */
fl_status fl_dataset_load(const fl_load *how, const fl_format *format, const void *args,
                          const char *cache, fl_dataset *out);

/* Who owns which training example. Client i owns index[offset[i] .. offset[i+1]-1]. */
typedef struct fl_population {
  int32_t n;        /* clients, >= 1 */
  int64_t *offset;  /* [n+1] */
  int32_t *index;   /* [offset[n]] example numbers; each example at most once */
  int32_t *n_train; /* [n]: the first n_train[i] examples train, the rest are held out */
} fl_population;

typedef struct fl_partition {
  fl_record record;
  /* Sets n, offset and index of *out. seed decides everything. Errors: USAGE. */
  fl_status (*deal)(const fl_dataset *data, const void *args, uint32_t seed, fl_population *out);
} fl_partition;

/* Builds offset/index from each example's owner. owner[e] is -1 (unused) or 0 .. n-1. The examples
 * of a client keep ascending order. Errors: MEMORY. */
fl_status fl_population_from_owner(int32_t n, int64_t n_example, const int32_t *owner,
                                   fl_population *out);
/* Holds out a share (0 .. <1) of each client's examples, chosen at random, never a client's last
 * training example. Allocates n_train; share 0: n_train[i] is everything. */
fl_status fl_population_hold_out(fl_population *p, double share, uint32_t seed);
void fl_population_close(fl_population *p);

/* How skewed a population is; for `fedlane data` and tests. */
typedef struct fl_skew {
  int64_t examples, smallest, median, largest; /* examples a client */
  int32_t empty;
  double classes_mean; /* distinct labels a client, mean */
  double
      divergence_mean; /* total variation distance of a client's label mix from the whole, mean */
} fl_skew;
/* Regression has no labels: the last two are 0. Errors: MEMORY. O(examples + clients). */
fl_status fl_population_skew(const fl_population *p, const fl_dataset *data, fl_skew *out);

/* A cohort: which clients take part in a round. */
typedef struct fl_sampler {
  fl_record record;
  bool (*repeats)(const void *args); /* may a client appear twice in one cohort? */
  /* out[M]: client numbers in the order in which they were drawn. */
  fl_status (*draw)(const void *args, uint32_t seed, uint32_t round, int32_t N, int32_t M,
                    int32_t *out);
} fl_sampler;

extern const fl_catalogue fl_formats, fl_partitions, fl_samplers;

#endif
