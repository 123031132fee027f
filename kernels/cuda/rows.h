/* What one row of a batch needs: activations, the cut of an image, losses. Kernels that take all
 * lanes at once and the one that keeps a lane resident share these. */
#ifndef FL_CUDA_ROWS_H
#define FL_CUDA_ROWS_H

#include <math.h>

#include "block.h"
#include "cuda.h"

/* Phi, the distribution function of the standard normal. */
static __device__ inline float fl_phi(float x) {
  return 0.5f * erfcf(-x * 0.70710678118654752440f);
}

static __device__ inline float fl_act_value(fl_act kind, float x) {
  switch (kind) {
    case FL_ACT_RELU:
      return x < 0 ? 0 : x;
    case FL_ACT_TANH:
      return tanhf(x);
    case FL_ACT_SIGMOID:
      return 1 / (1 + expf(-x));
    case FL_ACT_SQUARE:
      return x * x;
    default:
      return x * fl_phi(x);
  }
}

/* The derivative, from what the forward pass saved: its output, or for GELU and the
 * square its input. */
static __device__ inline float fl_act_slope(fl_act kind, float saved) {
  switch (kind) {
    case FL_ACT_RELU:
      return saved > 0 ? 1 : 0;
    case FL_ACT_TANH:
      return 1 - saved * saved;
    case FL_ACT_SIGMOID:
      return saved * (1 - saved);
    case FL_ACT_SQUARE:
      return 2 * saved;
    default:
      return fl_phi(saved) + saved * expf(-saved * saved / 2) * 0.39894228040143267794f;
  }
}

/* How one row is cut out of its padded image: offsets of the cut, -crop .. crop, and the flip. */
typedef struct fl_cut {
  int down, right;
  bool flip;
} fl_cut;

static __device__ inline int fl_cut_offset(uint32_t word, int crop) {
  return (int)((uint64_t)word * (uint32_t)(2 * crop + 1) >> 32) - crop;
}

static __device__ inline fl_cut fl_draw_cut(const fl_source *source, const fl_key *key, int row) {
  fl_cut drawn = {0, 0, false};
  if (source->crop == 0 && !source->flip) return drawn;
  fl_words words = fl_rng_block(key, (uint32_t)row);
  drawn.down = fl_cut_offset(words.v[0], source->crop);
  drawn.right = fl_cut_offset(words.v[1], source->crop);
  drawn.flip = source->flip && (words.v[2] & 1);
  return drawn;
}

/* What rows came to. */
typedef struct fl_tally {
  double loss;
  int64_t hit;
} fl_tally;

/* The first largest of a row, found by a warp; every thread gets it. */
static __device__ inline int fl_first_largest(const float *z, int K, float *largest) {
  float top = -INFINITY;
  int at = K;
  for (int k = threadIdx.x % 32; k < K; k += 32)
    if (z[k] > top || at == K) {
      top = z[k];
      at = k;
    }
  for (int away = 16; away > 0; away /= 2) {
    float other = __shfl_xor_sync(0xFFFFFFFFu, top, away);
    int other_at = __shfl_xor_sync(0xFFFFFFFFu, at, away);
    if (other > top || (other == top && other_at < at)) {
      top = other;
      at = other_at;
    }
  }
  *largest = top;
  return at;
}

/* One live row of cross-entropy by one warp; nothing at label -1. */
static __device__ inline fl_tally fl_xent_row(int K, int label, float norm, const float *z,
                                              float *dz) {
  float top;
  if (label < 0) {
    for (int k = threadIdx.x % 32; dz && k < K; k += 32) dz[k] = 0;
    return fl_tally{0, 0};
  }
  int best = fl_first_largest(z, K, &top);
  double sum = 0;
  for (int k = threadIdx.x % 32; k < K; k += 32) sum += expf(z[k] - top);
  sum = fl_warp_sum(sum);
  float share = (float)(1 / sum);
  for (int k = threadIdx.x % 32; dz && k < K; k += 32)
    dz[k] = norm * (expf(z[k] - top) * share - (k == label ? 1.0f : 0.0f));
  fl_tally row = {((double)top - z[label]) + log(sum), best == label};
  return row;
}

typedef struct fl_errors {
  fl_regression kind;
  float delta;
} fl_errors;

static __device__ inline float fl_error_loss(fl_errors r, float z, float t) {
  float e = z - t;
  if (r.kind == FL_LOSS_LOGISTIC) return log1pf(expf(-fabsf(z))) + fmaxf(z, 0) - t * z;
  if (r.kind == FL_LOSS_MSE) return e * e;
  return fabsf(e) <= r.delta ? e * e / 2 : r.delta * (fabsf(e) - r.delta / 2);
}

static __device__ inline float fl_error_slope(fl_errors r, float z, float t) {
  float e = z - t;
  if (r.kind == FL_LOSS_LOGISTIC) return 1 / (1 + expf(-z)) - t;
  if (r.kind == FL_LOSS_MSE) return 2 * e;
  return fabsf(e) <= r.delta ? e : copysignf(r.delta, e);
}

#endif
