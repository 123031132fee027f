/* What `fedlane bench ops` measures: every slot of ops.h that works on lanes, on the shapes of
 * workload a1 or, where it has no such layer, on those beside the items; and their counts. */
#ifndef FL_OP_ITEMS_H
#define FL_OP_ITEMS_H

#include "bench.h"
#include "cuda/yardstick.h"

enum {
  FL_BENCH_LANES = 64,  /* most of a rig */
  FL_BENCH_REPEAT = 20, /* most measurements of an op */
  FL_BENCH_STEPS = 20,  /* of a sequence */
  FL_BENCH_WORDS = 10004
};
#define FL_BENCH_IMAGE \
  { 3, 32, 32 }

/* A device and the operands of all items: C lanes of B rows, all live. */
typedef struct fl_op_rig {
  const fl_ops *ops;
  fl_dev *dev;
  fl_batch b, steps;       /* steps: as b, a row for each step of a sequence */
  fl_source source, plane; /* plane: the same bytes as images of one channel */
  fl_pick pick;            /* of plane */
  fl_draw draw;
  fl_span x, y, dx, dy; /* activations */
  fl_span keep;         /* what a layer keeps for the way back */
  fl_span mask, w;      /* bytes of pooled activations; all weights of a lane */
  fl_span token;        /* a word a step */
  int32_t *index, *label;
  int64_t *acc, *hit;
  double *loss;
  fl_measure *measure;
  float *mean;             /* the server's weights, that all lanes share */
  float *two;              /* two vectors as long, or one of integers */
  fl_yardstick *yardstick; /* NULL: none is wanted, or there is none */
  int32_t rows[FL_BENCH_LANES], step_rows[FL_BENCH_LANES];
} fl_op_rig;

/* How much is measured at once. A GPU takes a whole cohort and several calls between two waits. */
typedef struct fl_op_extent {
  int lanes, rows, repeat, calls;
  int product;  /* rows and columns of the matrices for the peak of arithmetic */
  int64_t copy; /* floats that are copied for the peak of the memory */
} fl_op_extent;

/* Counts of one call. Bytes: every operand read once and every result written once, so that those
 * of an op whose operands stay in a cache pass at more than the memory's speed. */
typedef struct fl_op_count {
  double flop, bytes;
} fl_op_count;

typedef struct fl_op_item {
  const char *name;
  fl_status (*run)(fl_op_rig *r);
  double flop_row, flop_pair; /* of a row; of each of the B*(B+1) ordered pairs of a lane's rows */
  double bytes_row, bytes_lane, bytes_once;
  double a_step, a_block;         /* calls in a local step, without and with the slots for blocks */
  bool (*has)(const fl_ops *ops); /* whether the backend has the slot; NULL: every one does */
} fl_op_item;

extern const fl_op_item fl_op_items[];
extern const int fl_n_op_item;

/* Whether a backend has the slots that join layers into blocks. */
bool fl_ops_have_blocks(const fl_ops *ops);
fl_op_count fl_op_count_of(const fl_op_item *item, const fl_op_rig *r);

/* Makes the operands on rig->dev for C <= FL_BENCH_LANES lanes of B rows; close it either way. */
fl_status fl_op_rig_open(fl_op_rig *rig, int C, int B);
void fl_op_rig_close(fl_op_rig *rig);

/* Allocates bytes of device memory, filled with 0.01; out: a pointer to the caller's pointer. */
fl_status fl_op_reserve(const fl_ops *ops, fl_dev *dev, int64_t bytes, void *out);

/* Seconds a call of run() into each [extent->repeat], shortest first. */
fl_status fl_op_time(const fl_op_extent *extent, fl_op_rig *rig, fl_status (*run)(fl_op_rig *r),
                     double *each);
/* The fastest call of run(), which makes n floats of y out of as many of x and w, on buffers of its
 * own; b has one lane of `side` rows. */
fl_status fl_op_time_large(const fl_op_extent *extent, const fl_op_rig *on, int side, int64_t n,
                           fl_status (*run)(fl_op_rig *r), double *seconds);

/* What this project asks of one GPU: prints whether each convolution has its share of cuBLAS's rate
 * and `mix` its share of a copy's bandwidth, and adds it to `out`, a JSON array. items: those that
 * were measured, as `fedlane bench ops` stores them. Where cuBLAS cannot be loaded it says so. */
struct json_t;
fl_status fl_op_judge(const fl_op_extent *extent, fl_op_rig *rig, const struct json_t *items,
                      struct json_t *out);

#endif
