/* CUDA's arithmetic: bits of floats, roundings, integer helpers, atomics, fast functions. Blocks
 * run in turn and fibers change only where threads meet, so plain operations are atomic. */
#ifndef FL_HOST_NUMBERS_H
#define FL_HOST_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

namespace fl_host {
template <class To, class From>
To bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &x, sizeof to);
  return to;
}
}  // namespace fl_host

static inline unsigned __float_as_uint(float x) { return fl_host::bits<unsigned>(x); }
static inline int __float_as_int(float x) { return fl_host::bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return fl_host::bits<float>(x); }
static inline float __int_as_float(int x) { return fl_host::bits<float>(x); }
static inline long long __double_as_longlong(double x) { return fl_host::bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return fl_host::bits<double>(x); }

/* To 10 bits of fraction, nearest, ties away from zero; NaN and infinity stay what they are. */
static inline uint32_t fl_tf32(float x) {
  uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7F800000u) == 0x7F800000u) return (bits & 0x7FFFFFu) ? bits | 0x400000u : bits;
  return (bits + 0x1000u) & 0xFFFFE000u;
}

/* To 7 bits of fraction, nearest, ties to even. */
static inline uint32_t fl_bf16_pair(float lo, float hi) {
  uint32_t part[2] = {__float_as_uint(lo), __float_as_uint(hi)};
  for (uint32_t &bits : part)
    bits = bits << 1 > 0xFF000000u ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
  return part[1] << 16 | part[0];
}

template <class T>
T __ldg(const T *at) {
  return *at;
}

static inline int min(int a, int b) { return b < a ? b : a; }
static inline int max(int a, int b) { return a < b ? b : a; }
static inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
static inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
static inline long min(long a, long b) { return b < a ? b : a; }
static inline long max(long a, long b) { return a < b ? b : a; }
static inline long long min(long long a, long long b) { return b < a ? b : a; }
static inline long long max(long long a, long long b) { return a < b ? b : a; }
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

/* The C library declares these two names for itself. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline int __float2int_rn(float x) { return static_cast<int>(lrintf(x)); }
static inline long long __double2ll_rn(double x) { return llrint(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }

#define FL_HOST_ATOMICS(type)                                     \
  static inline type atomicAdd(type *at, type x) {                \
    type old = *at;                                               \
    *at = static_cast<type>(old + x);                             \
    return old;                                                   \
  }                                                               \
  static inline type atomicMax(type *at, type x) {                \
    type old = *at;                                               \
    *at = old < x ? x : old;                                      \
    return old;                                                   \
  }                                                               \
  static inline type atomicMin(type *at, type x) {                \
    type old = *at;                                               \
    *at = x < old ? x : old;                                      \
    return old;                                                   \
  }                                                               \
  static inline type atomicOr(type *at, type x) {                 \
    type old = *at;                                               \
    *at = old | x;                                                \
    return old;                                                   \
  }                                                               \
  static inline type atomicExch(type *at, type x) {               \
    type old = *at;                                               \
    *at = x;                                                      \
    return old;                                                   \
  }                                                               \
  static inline type atomicCAS(type *at, type expected, type x) { \
    type old = *at;                                               \
    if (old == expected) *at = x;                                 \
    return old;                                                   \
  }
FL_HOST_ATOMICS(int)
FL_HOST_ATOMICS(unsigned)
FL_HOST_ATOMICS(unsigned long long)

static inline void __threadfence() {}
static inline void __threadfence_block() {}

#endif
