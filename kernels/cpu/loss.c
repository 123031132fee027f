#include <math.h>
#include <string.h>

#include "cpu.h"

typedef int32_t i16 __attribute__((vector_size(64), may_alias));
typedef uint32_t u16 __attribute__((vector_size(64), may_alias)); /* wraps around */

/* v = e^v for v <= 0, by Moshier's polynomial for floats (Cephes), errors of 2 units in the last
 * place; 0 where the result would be no normal number. NaN stays NaN. */
INLINE void exp_of(fl_v16 *v) {
  fl_v16 x = *v;
  const float shift = 12582912; /* 1.5 * 2^23: sums with it are whole, in the lowest bits */
  fl_v16 t = FL_MADD(x, FL_ALL(1.44269504088896341f), FL_ALL(shift)), n = t - FL_ALL(shift);
  fl_v16 r = FL_MADD(n, FL_ALL(-0.693359375f), x);
  r = FL_MADD(n, FL_ALL(2.12194440e-4f), r);
  fl_v16 p = FL_ALL(1.9875691500e-4f);
  p = FL_MADD(p, r, FL_ALL(1.3981999507e-3f));
  p = FL_MADD(p, r, FL_ALL(8.3334519073e-3f));
  p = FL_MADD(p, r, FL_ALL(4.1665795894e-2f));
  p = FL_MADD(p, r, FL_ALL(1.6666665459e-1f));
  p = FL_MADD(p, r, FL_ALL(5.0000001201e-1f));
  p = FL_MADD(p, r * r, r) + FL_ALL(1);
  u16 power = (((u16)t - (u16)FL_ALL(shift)) << 23) + (u16)FL_ALL(1);
  *v = (fl_v16)((i16)(p * (fl_v16)power) & ~(i16)(x < FL_ALL(-87.33654f)));
}

/* v with its element i in the place i^S. */
#define PLACE(S, i) (i) ^ (S)
#define FOUR_PLACES(S, i) PLACE(S, i), PLACE(S, (i) + 1), PLACE(S, (i) + 2), PLACE(S, (i) + 3)
#define TURNED(S, v)                                                                     \
  __builtin_shufflevector(v, v, FOUR_PLACES(S, 0), FOUR_PLACES(S, 4), FOUR_PLACES(S, 8), \
                          FOUR_PLACES(S, 12))

static const i16 places = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static inline float sum_of(const fl_v16 *of) {
  fl_v16 v = *of + TURNED(8, *of);
  v += TURNED(4, v);
  v += TURNED(2, v);
  v += TURNED(1, v);
  return v[0];
}

/* v = the larger of v and other, by elements; that of `other` where v is NaN. */
static inline void raise_to(fl_v16 *v, const fl_v16 *other) {
#ifdef __AVX512F__
  *v = (fl_v16)_mm512_max_ps((__m512)*v, (__m512)*other);
#else
  i16 above = *v > *other;
  *v = (fl_v16)(((i16)*v & above) | ((i16)*other & ~above));
#endif
}

static inline float largest_of(const fl_v16 *of) {
  fl_v16 v = *of, turned = TURNED(8, v);
  raise_to(&v, &turned);
  turned = TURNED(4, v);
  raise_to(&v, &turned);
  turned = TURNED(2, v);
  raise_to(&v, &turned);
  turned = TURNED(1, v);
  raise_to(&v, &turned);
  return v[0];
}

/* The first of 16 places that holds this value, or 16. */
static inline int place_of(const fl_v16 *v, float value) {
#ifdef __AVX512F__
  return __builtin_ctz(0x10000u |
                       _mm512_cmp_ps_mask((__m512)*v, _mm512_set1_ps(value), _CMP_EQ_OQ));
#else
  int i = 0;
  while (i < 16 && (*v)[i] != value) i++;
  return i;
#endif
}

/* Rows that fit into a vector, `one`, are fetched once and stay in registers. */
enum { WIDTH = 16 };

static inline int width_at(int K, int k) { return K - k < WIDTH ? K - k : WIDTH; }

/* z[k] .. z[k+15], -infinity beyond the row. */
INLINE void load_row(int K, const float *z, int k, fl_v16 *v) {
  fl_load_some(z + k, width_at(K, k), v);
  i16 inside = places < K - k;
  *v = (fl_v16)(((i16)*v & inside) | ((i16)FL_ALL(-INFINITY) & ~inside));
}

/* The place of the first largest of a row, and its value. Of a row with a NaN that is any place.
 * v: the row's last vector. */
INLINE int find_top(const bool one, int K, const float *z, float *top, fl_v16 *v) {
  const int end = one ? 1 : K;
  fl_v16 most = FL_ALL(-INFINITY);
  for (int k = 0; k < end; k += WIDTH) {
    load_row(K, z, k, v);
    raise_to(&most, v);
  }
  *top = largest_of(&most);
  for (int k = 0; k < end; k += WIDTH) {
    if (!one) load_row(K, z, k, v);
    int place = place_of(v, *top);
    if (place < WIDTH) return k + place;
  }
  return 0;
}

/* p = norm * (softmax(z) - one-hot(label)); p may be z. power: those of a row of one vector. */
INLINE void slopes(const bool one, int K, const float *z, int32_t label, float norm, float top,
                   float sum, const fl_v16 *power, float *p) {
  const int end = one ? 1 : K;
  fl_v16 e = *power;
  float share = norm / sum;
  for (int k = 0; k < end; k += WIDTH) {
    if (!one) {
      load_row(K, z, k, &e);
      e -= FL_ALL(top);
      exp_of(&e);
    }
    e = FL_ALL(share) * e - (fl_v16)((i16)FL_ALL(norm) & (i16)(places == label - k));
    fl_store_some(p + k, width_at(K, k), &e);
  }
}

/* The loss of one lane. A row's is log(sum of powers) + top - z[label]; the sums lie in 1 .. K and
 * are multiplied with each other as long as the product is a number, so that few logarithms are
 * taken. */
INLINE double lane_xent(const bool one, int K, int64_t live, float norm, const int32_t *label,
                        const float *z, float *dz, int64_t *hit) {
  const int end = one ? 1 : K;
  double loss = 0, product = 1;
  for (int64_t row = 0; row < live; row++, z += K) {
    float *p = dz ? dz + row * K : NULL, top;
    fl_v16 v, e = {0}, sums = {0};
    if (label[row] < 0) {
      if (p) memset(p, 0, (size_t)K * sizeof *p);
      continue;
    }
    *hit += find_top(one, K, z, &top, &v) == label[row];
    loss += (double)top - z[label[row]];
    for (int k = 0; k < end; k += WIDTH) {
      if (!one) load_row(K, z, k, &v);
      e = v - FL_ALL(top);
      exp_of(&e);
      sums += e;
    }
    float sum = sum_of(&sums);
    if (p) slopes(one, K, z, label[row], norm, top, sum, &e, p);
    product *= sum;
    if (product < 1e200) continue;
    loss += log(product);
    product = 1;
  }
  return loss + log(product);
}

static double short_xent(int K, int64_t live, float norm, const int32_t *label, const float *z,
                         float *dz, int64_t *hit) {
  return lane_xent(true, K, live, norm, label, z, dz, hit);
}

static double long_xent(int K, int64_t live, float norm, const int32_t *label, const float *z,
                        float *dz, int64_t *hit) {
  return lane_xent(false, K, live, norm, label, z, dz, hit);
}

fl_status fl_cpu_xent(fl_dev *d, fl_batch b, int K, fl_coef norm, const int32_t *label, fl_cspan z,
                      fl_span dz, double *loss, int64_t *hit) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    float *dzs = dz.at ? fl_lane_out(dz, c) : NULL;
    int64_t live = b.rows[c];
    loss[c] += (K <= WIDTH ? short_xent : long_xent)(
        K, live, fl_coef_at(norm, c), label + (int64_t)c * b.B, fl_lane(z, c), dzs, &hit[c]);
    if (dzs) memset(dzs + live * K, 0, (size_t)((b.B - live) * K) * sizeof(float));
  }
  return FEDLANE_OK;
}

static double loss_of(fl_regression kind, double delta, double z, double t) {
  double e = z - t;
  if (kind == FL_LOSS_LOGISTIC) return log1p(exp(-fabs(z))) + fmax(z, 0) - t * z;
  if (kind == FL_LOSS_MSE) return e * e;
  return fabs(e) <= delta ? e * e / 2 : delta * (fabs(e) - delta / 2);
}

static double slope_of(fl_regression kind, double delta, double z, double t) {
  double e = z - t;
  if (kind == FL_LOSS_LOGISTIC) return 1 / (1 + exp(-z)) - t;
  if (kind == FL_LOSS_MSE) return 2 * e;
  return fabs(e) <= delta ? e : copysign(delta, e);
}

fl_status fl_cpu_regress(fl_dev *d, fl_batch b, int T, fl_regression kind, float delta,
                         fl_coef norm, fl_cspan target, fl_cspan z, fl_span dz, double *loss) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    int64_t live = (int64_t)b.rows[c] * T, all = (int64_t)b.B * T;
    const float *zs = fl_lane(z, c), *goal = fl_lane(target, c);
    float *dzs = dz.at ? fl_lane_out(dz, c) : NULL;
    double factor = fl_coef_at(norm, c);
    for (int64_t i = 0; i < live; i++) {
      loss[c] += loss_of(kind, delta, zs[i], goal[i]) / T;
      if (dzs) dzs[i] = (float)(factor * slope_of(kind, delta, zs[i], goal[i]) / T);
    }
    if (dzs) memset(dzs + live, 0, (size_t)(all - live) * sizeof(float));
  }
  return FEDLANE_OK;
}
