/* The matrix instructions: the fragments of 32 lanes put together, multiplied and dealt out again.
 * Layouts are those of the PTX manual, "Matrix Fragments for mma.m16n8k8 / .m16n8k16". */
#include <cstring>

#include "machine.h"

namespace fl_host {

struct fragments {
  float *d;
  const uint32_t *a, *b;
};

static float from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* What the hardware sees of a float: 10 bits of fraction for tf32, the rest ignored. */
static float tf32(uint32_t bits) { return from_bits(bits & 0xFFFFE000u); }

/* Half `half` of a pair of bfloat16. */
static float bf16(uint32_t pair, int half) {
  return from_bits(half ? pair & 0xFFFF0000u : pair << 16);
}

/* d[16, 8] += a[16, K] b[K, 8], in float, k ascending. What tests with matrices do most, and of
 * constant indices: not watched itself, so that the compiler makes vectors of it. */
template <int K>
__attribute__((no_sanitize("address", "undefined"), noinline)) static void product(
    float (*d)[8], const float (*a)[K], const float (*b)[8]) {
  for (int m = 0; m < 16; m++)
    for (int k = 0; k < K; k++)
      for (int n = 0; n < 8; n++) d[m][n] += a[m][k] * b[k][n];
}

/* Calls put(row, column, element) for the four sums of a lane. */
template <class F>
static void each_sum(const fragments *f, int lane, F put) {
  for (int i = 0; i < 4; i++) put(lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2, f->d[i]);
}

template <int K, class F>
static void multiply_warp(void *const *theirs, F load) {
  float a[16][K], b[K][8], d[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const fragments *f = static_cast<const fragments *>(theirs[lane]);
    load(f, lane / 4, lane % 4, a, b);
    each_sum(f, lane, [&](int m, int n, float &x) { d[m][n] = x; });
  }
  product<K>(d, a, b);
  for (int lane = 0; lane < 32; lane++)
    each_sum(static_cast<const fragments *>(theirs[lane]), lane,
             [&](int m, int n, float &x) { x = d[m][n]; });
}

static void multiply_tf32(void *const *theirs, unsigned) {
  multiply_warp<8>(theirs, [](const fragments *f, int g, int t, float(*a)[8], float(*b)[8]) {
    for (int i = 0; i < 4; i++) a[g + i % 2 * 8][t + i / 2 * 4] = tf32(f->a[i]);
    for (int i = 0; i < 2; i++) b[t + i * 4][g] = tf32(f->b[i]);
  });
}

static void multiply_bf16(void *const *theirs, unsigned) {
  multiply_warp<16>(theirs, [](const fragments *f, int g, int t, float(*a)[16], float(*b)[8]) {
    for (int i = 0; i < 4; i++)
      for (int h = 0; h < 2; h++) a[g + i % 2 * 8][t * 2 + h + i / 2 * 8] = bf16(f->a[i], h);
    for (int i = 0; i < 2; i++)
      for (int h = 0; h < 2; h++) b[t * 2 + h + i * 8][g] = bf16(f->b[i], h);
  });
}

void multiply(float *d, const uint32_t *a, const uint32_t *b, bool is_bf16, place where) {
  fragments mine = {d, a, b};
  if (is_bf16)
    meet_warp("fl_mma_bf16", ~0u, &mine, multiply_bf16, where);
  else
    meet_warp("fl_mma_tf32", ~0u, &mine, multiply_tf32, where);
}

}  // namespace fl_host
