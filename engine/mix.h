/* Exact mixing: updates become 64-bit integers, so that their sum does not depend on grouping.
 *
 * A client's update is put on a grid that depends on that update alone: with peak its largest
 * magnitude, level k is the least integer with peak < 2^(8k), and one unit is 2^(8k - bits).
 * Updates of one level share an accumulator; integer addition is exact in any order. Levels are
 * joined once, at the end, from the lowest up, and divided by the total weight. `bits` leaves room
 * for the round's total weight, so a sum cannot overflow: |q| <= weight * 2^bits, and the weights
 * add up to at most 2^(62 - bits). A grid is at least 2^(bits - 8) units across the update's own
 * peak: with 2^31 examples in a round still finer than float32. */
#ifndef FL_MIX_H
#define FL_MIX_H

#include "ops.h"

enum { FL_MIX_ARRIVED = 1 << 17 };
enum { FL_MIX_LEVELS = 36, FL_MIX_LOWEST = -18 }; /* peaks from 2^-149 to 2^128 */

typedef struct fl_mix {
  const fl_ops *ops;
  fl_dev *dev;
  int64_t n;
  int bits;
  int64_t total;                 /* weights added so far */
  int64_t *level[FL_MIX_LEVELS]; /* (device) [n]; NULL until first needed, then kept for the run */
  int64_t *arrived;              /* (device) [FL_MIX_ARRIVED] sums on their way from the host */
  bool used[FL_MIX_LEVELS];      /* in this round */
} fl_mix;

/* n: floats a vector. Nothing is allocated yet. */
void fl_mix_open(fl_mix *mix, const fl_ops *ops, fl_dev *dev, int64_t n);
void fl_mix_close(fl_mix *mix);
/* A new round whose weights add up to at most most_weight. Errors: USAGE beyond 2^38. */
fl_status fl_mix_begin(fl_mix *mix, int64_t most_weight);
/* The clients of C lanes take part in the round with these weights; 0: not at all. Once a client,
 * before its vectors are added. */
void fl_mix_count(fl_mix *mix, int C, const int32_t *weight);
/* What makes C lanes' stretches of n elements, from element `at` of the vector on, summands. */
typedef struct fl_summand {
  int C;
  int64_t at, n;
  const int32_t *weight;     /* (host) [C]; lanes with 0 are left out */
  const double *scale;       /* (host) [C] factor of each lane's elements; NULL: 1 */
  const fl_measure *measure; /* (host) [C] finite peaks of the elements before that factor */
} fl_summand;
/* Adds weight[c] * scale[c] * x_c. */
fl_status fl_mix_add(fl_mix *mix, const fl_summand *s, fl_cspan x);
/* Adds weight[c] * scale[c] * d_c'x_c, n = O*I products of all of a lane's rows, which are never
 * formed. b.C is s->C. */
fl_status fl_mix_add_product(fl_mix *mix, const fl_summand *s, fl_batch b, int I, int O, fl_cspan x,
                             fl_cspan d);
/* The sums of a level, (device) [n]; NULL: nothing of this round is in it. */
const int64_t *fl_mix_level(const fl_mix *mix, int level);
/* Adds sums of a level that a mix of the same `bits` has gathered, n elements (host, 8-byte
 * aligned) from element `at` on; their clients' weights are counted by fl_mix_weigh. */
fl_status fl_mix_add_level(fl_mix *mix, int level, int64_t at, int64_t n, const int64_t *sum);
/* The same with all sums of a level, (device) [n]. */
fl_status fl_mix_add_whole(fl_mix *mix, int level, const int64_t *sum);
void fl_mix_weigh(fl_mix *mix, int64_t weight);
/* What turns the sums of clients of this weight together into numbers from -1 to 1. */
double fl_mix_unit(const fl_mix *mix, int64_t weight);
/* Whether clients of this weight together can have made such sums. */
bool fl_mix_fits(const fl_mix *mix, int64_t n, const int64_t *sum, int64_t weight);
/* mix[0] gets what all n together have gathered; the others are then empty. They live on one host,
 * on one device, or on a device each. */
fl_status fl_mix_join(int n, fl_mix *const *mix);
/* out = sum / total, float (device) [n]; zeros when nothing was added. */
fl_status fl_mix_mean(const fl_mix *mix, float *out);

#endif
