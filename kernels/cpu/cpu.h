/* The CPU backend's own business: one fl_dev is one worker thread's seat.
 *
 * Every op runs on the calling thread alone and walks its lanes one after another. Image
 * activations lie as [groups][height][width][beside]: `beside` channels of one pixel are
 * neighbours. Vectors of 16 channels are what oneDNN's convolutions and our own loops like best;
 * images with other channel counts keep whole planes. */
#ifndef FL_CPU_H
#define FL_CPU_H

#include <string.h>

#include "ops.h"

typedef struct fl_nn fl_nn;

/* energy.c: what the processor's packages have used, by Linux' powercap counters. */
enum { FL_PACKAGES = 16 };
typedef struct fl_package {
  int file;                  /* energy_uj */
  int64_t range, last, used; /* microjoules: where the counter wraps, its last value, since open */
} fl_package;
typedef struct fl_powercap {
  int n; /* packages; 0: nothing counts */
  fl_package package[FL_PACKAGES];
} fl_powercap;

/* Opens the packages' counters in a folder such as /sys/class/powercap; none at all when one of
 * them cannot be read, as it is for users other than root on most machines. */
void fl_powercap_open(const char *folder, fl_powercap *out);
void fl_powercap_close(fl_powercap *cap);
/* Joules of all packages since open. A counter that wrapped is made up for, if it did so once since
 * the last call: at 300 W that takes about a quarter of an hour. Errors: UNSUPPORTED, DEVICE. */
fl_status fl_powercap_read(fl_powercap *cap, double *joules);

struct fl_dev {
  int index;
  fl_powercap powercap; /* device 0 counts for all: they share the packages */
  fl_nn *nn;
  void *scratch; /* see fl_cpu_scratch */
  int64_t scratch_bytes;
};

/* Memory for the length of one op, 64-byte aligned, contents undefined; grows and stays.
 * Errors: MEMORY. */
fl_status fl_cpu_scratch(fl_dev *d, int64_t bytes, void **out);

/* How many rows of lane c are worked on: the live ones, rounded up to quarters of B, so that
 * oneDNN is asked for at most four batch sizes. Rows from rows[c] on hold zeros or harmless
 * values and carry no gradient, so they change no result. */
static inline int fl_rows_used(fl_batch b, int c) {
  int unit = (b.B + 3) / 4;
  int up = (b.rows[c] + unit - 1) / unit * unit;
  return up < b.B ? up : b.B;
}

/* Zeros in lane c's dead rows of n floats. */
static inline void fl_clear_dead(fl_batch b, int c, int64_t n, float *x) {
  memset(x + b.rows[c] * n, 0, (size_t)((b.B - b.rows[c]) * n) * sizeof *x);
}

static inline const float *fl_lane(fl_cspan s, int c) { return s.at + c * s.stride; }
static inline float *fl_lane_out(fl_span s, int c) { return s.at + c * s.stride; }

/* The private order of images: channel ch of pixel p is at
 * (ch / beside * height * width + p) * beside + ch % beside. */
static inline int fl_beside(int channels) { return channels % 16 == 0 ? 16 : 1; }

/* Before a loop whose iterations are independent. clang makes vector code of such loops unasked,
 * and takes the pragma as an order that it complains about when it cannot follow. */
#ifdef __clang__
#define FL_SIMD
#else
#define FL_SIMD _Pragma("omp simd")
#endif

/* For functions whose first arguments are constants where they are called: loops that depend on
 * them are unrolled, and small arrays become registers. */
#define INLINE static inline __attribute__((always_inline))

/* FL_MADD: c + a * b for vectors of 16 floats, rounded once where the processor can. FL_MUL32: the
 * products of the lower halves of 8 integers with that of another. FL_KEEP: a vector that is used
 * several times is fetched once, into a register; compilers like to fetch it for each use.
 * FL_AGAIN: what a pointer points to is fetched where it is used, not carried over from the loop's
 * last turn in registers that sums need. */
typedef float fl_v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint64_t fl_v8 __attribute__((vector_size(64), may_alias));
#ifdef __AVX512F__
#include <immintrin.h>
#define FL_MADD(a, b, c) ((fl_v16)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define FL_MUL32(a, b) ((fl_v8)_mm512_mul_epu32((__m512i)(a), _mm512_set1_epi64(b)))
#define FL_KEEP(v) __asm__("" : "+v"(v))
#define FL_AGAIN(p) __asm__("" : "+r"(p))
#else
#define FL_MADD(a, b, c) ((a) * (b) + (c))
#define FL_MUL32(a, b) (((a)&0xFFFFFFFFu) * (uint64_t)(b))
#define FL_KEEP(v) ((void)0)
#define FL_AGAIN(p) ((void)0)
#endif

/* 16 times the same float. */
#define FL_FOUR(v) (v), (v), (v), (v)
#define FL_ALL(v) ((fl_v16){FL_FOUR(v), FL_FOUR(v), FL_FOUR(v), FL_FOUR(v)})

/* How many examples are asked for before they are read. */
enum { FL_CPU_AHEAD = 10 };

/* Asks for memory before it is read. Inlined: compilers drop calls of functions that do no more. */
INLINE void fl_ask(const void *from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)from + i, 0, 2);
}

/* 16 bytes as numbers. */
static inline void fl_load_bytes(const uint8_t *from, fl_v16 *v) {
#ifdef __AVX512F__
  *v = (fl_v16)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from)));
#else
  for (int i = 0; i < 16; i++) (*v)[i] = from[i];
#endif
}

/* The first n of 16 floats, 0 < n <= 16: the others are not touched, and 0 when loaded. */
static inline void fl_load_some(const float *from, int n, fl_v16 *v) {
#ifdef __AVX512F__
  *v = (fl_v16)_mm512_maskz_loadu_ps((__mmask16)(0xFFFFu >> (16 - n)), from);
#else
  float some[16] = {0};
  memcpy(some, from, (size_t)n * sizeof *some);
  *v = *(const fl_v16 *)some;
#endif
}
static inline void fl_store_some(float *to, int n, const fl_v16 *v) {
#ifdef __AVX512F__
  _mm512_mask_storeu_ps(to, (__mmask16)(0xFFFFu >> (16 - n)), (__m512)*v);
#else
  memcpy(to, v, (size_t)n * sizeof *to);
#endif
}

/* to = the first n of 16 numbers 0 .. 255, 0 < n <= 16. */
static inline void fl_store_bytes(uint8_t *to, int n, const int32_t of[16]) {
#ifdef __AVX512F__
  _mm512_mask_cvtepi32_storeu_epi8(to, (__mmask16)(0xFFFFu >> (16 - n)), _mm512_loadu_si512(of));
#else
  for (int i = 0; i < n; i++) to[i] = (uint8_t)of[i];
#endif
}

/* 16 blocks of a stream from block `first` on: words 4*first .. 4*first + 63. */
enum { FL_WORDS = 64 };
void fl_cpu_words(const fl_key *key, uint32_t first, uint32_t words[FL_WORDS]);

/* onednn.c: convolutions and matrix products, always on one thread. */
typedef enum fl_pass { FL_PASS_FWD, FL_PASS_BWD_DATA, FL_PASS_BWD_WEIGHTS } fl_pass;
typedef struct fl_nn_conv fl_nn_conv;

/* Errors: DEVICE with oneDNN's status, MEMORY. */
fl_status fl_nn_open(fl_nn **out);
void fl_nn_close(fl_nn **nn);
/* The convolution of `rows` images through window s, made on the first call and kept. */
fl_status fl_nn_conv_get(fl_nn *nn, fl_pass pass, int rows, bool bias, const fl_window *s,
                         fl_nn_conv **out);
/* x, y: images in the private order; w [O, I, kernel, kernel]; bias [O], NULL when made without.
 * FWD writes y, BWD_DATA writes x, BWD_WEIGHTS writes w and bias (=); the others are read. */
fl_status fl_nn_conv_run(fl_nn *nn, fl_nn_conv *conv, float *x, float *w, float *bias, float *y);
/* oneDNN's name for the chosen implementation, such as "jit:avx512_core". */
const char *fl_nn_conv_name(const fl_nn_conv *conv);
/* A matrix in memory: rows `step` floats apart; turned: its transpose is meant. */
typedef struct fl_matrix {
  const float *at;
  int64_t step;
  bool turned;
} fl_matrix;
/* c[m, n] = alpha * a[m, k] b[k, n] + beta * c, row-major, rows of c `step` floats apart. */
fl_status fl_nn_gemm(int64_t m, int64_t n, int64_t k, float alpha, fl_matrix a, fl_matrix b,
                     float beta, float *c, int64_t step);

/* dense_back.c: for few rows, dx[used, I] = dy w, and then gw += scale * dy' x over the first
 * `live` rows, where gw may be w. dx NULL (w is not read then), gw NULL (x is not): that half is
 * not wanted. The halves together give the bits of one after the other. */
void fl_cpu_dense_back(int used, int live, int64_t I, int64_t O, const float *x, const float *dy,
                       const float *w, float *dx, float scale, float *gw);

/* How many of the next rows are summed before they are added to the gradient of weights. */
enum { FL_DENSE_GROUP = 10, FL_DENSE_HALF = 5 };
static inline int fl_cpu_dense_group(int rows) {
  return rows >= FL_DENSE_GROUP ? FL_DENSE_GROUP : rows >= FL_DENSE_HALF ? FL_DENSE_HALF : 1;
}

/* dense_lines.c: gw += scale * dy' x over n of I columns and all O outputs, for a layer and slopes
 * that it fits: wide, and with many zeros. The bits are those of the other way. Cost: a product
 * for each slope that is not zero and each column. */
bool fl_cpu_dense_lines_fit(int rows, int64_t I, int64_t O, const float *dy);
void fl_cpu_dense_lines(int rows, int64_t n, int64_t I, int64_t O, const float *x, const float *dy,
                        float scale, float *gw);

/* pool.c: relu and the pooling of a block over images. mask NULL: not wanted. */
void fl_cpu_pool_relu(int images, const fl_window *s, const float *x, float *y, uint8_t *mask);

/* mix.c: total += llrint((double)x * factor) for n <= FL_CPU_TILE elements, a number that stays in
 * the first cache level. total is not x. */
enum { FL_CPU_TILE = 1024 };
void fl_cpu_mix_tile(int n, const float *x, double factor, int64_t *total);

/* What is done to a convolution's output before it is written. */
typedef struct fl_after {
  bool relu;
  const fl_window *pool; /* a relu and the pooling of a block (ops.h); NULL: none */
  uint8_t *mask;         /* of that pooling; NULL: not wanted */
  const float *gate;     /* without pooling: 0 is written where this is not positive; NULL: none */
} fl_after;
/* winograd.c: 3x3 convolutions with stride 1 between vectors of 16 channels. */
/* Whether the functions below take this window and are the fastest way. */
bool fl_wino_fits(const fl_window *s);
/* One lane of the conv slots. Errors: MEMORY. */
fl_status fl_wino_fwd(fl_dev *d, int images, const fl_window *s, const float *x, const float *w,
                      const float *bias, const fl_after *after, float *y);
fl_status fl_wino_bwd_data(fl_dev *d, int images, const fl_window *s, const float *dy,
                           const float *w, const fl_after *after, float *dx);
fl_status fl_wino_bwd_weights(fl_dev *d, int images, const fl_window *s, const float *x,
                              const float *dy, float scale, float *gw, float *gbias);

/* narrow.c, narrow_weights.c: the same for images of few channels in planes. */
bool fl_narrow_fits(const fl_window *s);
fl_status fl_narrow_fwd(fl_dev *d, int images, const fl_window *s, const float *x, const float *w,
                        const float *bias, const fl_after *after, float *y);
fl_status fl_narrow_bwd_data(fl_dev *d, int images, const fl_window *s, const float *dy,
                             const float *w, const fl_after *after, float *dx);
fl_status fl_narrow_bwd_weights(fl_dev *d, int images, const fl_window *s, const float *x,
                                const float *dy, float scale, float *gw, float *gbias);

/* The slots of ops.h, file by file. */
int fl_cpu_count(const char **why);
fl_status fl_cpu_open(const fl_dev_options *options, fl_dev **out);
void fl_cpu_close(fl_dev **dev);
fl_status fl_cpu_room(fl_dev *d, int64_t *bytes);
fl_status fl_cpu_alloc(fl_dev *d, int64_t bytes, void **out);
void fl_cpu_release(fl_dev *d, void **at);
fl_status fl_cpu_upload(fl_dev *d, void *dst, const void *src, int64_t bytes);
fl_status fl_cpu_download(fl_dev *d, void *dst, const void *src, int64_t bytes);
fl_status fl_cpu_sync(fl_dev *d);

fl_status fl_cpu_gather(fl_dev *d, fl_batch b, const fl_source *source, const int32_t *index,
                        int64_t index_stride, const fl_draw *draw, fl_span x, int32_t *label,
                        fl_span target);
void fl_cpu_fetch(fl_dev *d, const fl_source *source, int n, const int32_t *index);
fl_status fl_cpu_normal(fl_dev *d, int C, int64_t n, const fl_draw *draw, fl_coef deviation,
                        fl_span x);
fl_status fl_cpu_uniform(fl_dev *d, int C, int64_t n, const fl_draw *draw, float lo, float hi,
                         fl_span x);

fl_status fl_cpu_dense_fwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y);
fl_status fl_cpu_dense_bwd_data(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                                fl_span dx);
fl_status fl_cpu_dense_bwd_weights(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw, fl_span gbias);
fl_status fl_cpu_dense_bwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy, fl_cspan w,
                           fl_span dx, fl_coef scale, fl_span gw, fl_span gbias);
fl_status fl_cpu_dense_pick_fwd(fl_dev *d, fl_batch b, int O, const fl_pick *pick, fl_cspan w,
                                fl_cspan bias, fl_span y);
fl_status fl_cpu_dense_pick_bwd_weights(fl_dev *d, fl_batch b, int O, const fl_pick *pick,
                                        fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias);

fl_status fl_cpu_conv_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                          fl_cspan bias, fl_span y);
fl_status fl_cpu_conv_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy, fl_cspan w,
                               fl_span dx);
fl_status fl_cpu_conv_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                  fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias);
fl_status fl_cpu_conv_relu_fwd(fl_dev *d, fl_batch b, const fl_window *s, const fl_window *pool,
                               fl_cspan x, fl_cspan w, fl_cspan bias, fl_span y, fl_span mask);
fl_status fl_cpu_conv_bwd_data_relu(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                    fl_cspan w, fl_cspan x, fl_span dx);
fl_status fl_cpu_pool_relu_bwd(fl_dev *d, fl_batch b, const fl_window *pool, fl_cspan mask,
                               fl_cspan dy, fl_span dx);

fl_status fl_cpu_pool_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_span y);
fl_status fl_cpu_pool_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_cspan y, fl_cspan dy, fl_span dx);

fl_status fl_cpu_gnorm_fwd(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y, fl_span stat);
fl_status fl_cpu_gnorm_bwd_data(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                fl_cspan w, fl_cspan stat, fl_cspan dy, fl_span dx);
fl_status fl_cpu_gnorm_bwd_weights(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                   fl_cspan stat, fl_cspan dy, fl_coef scale, fl_span gw,
                                   fl_span gbias);

fl_status fl_cpu_act_fwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan x, fl_span y);
fl_status fl_cpu_act_bwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan saved, fl_cspan dy,
                         fl_span dx);
fl_status fl_cpu_dropout(fl_dev *d, fl_batch b, int64_t n, float p, const fl_draw *draw, fl_cspan x,
                         fl_span y);
fl_status fl_cpu_flatten(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y);

fl_status fl_cpu_embed_fwd(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan w, fl_span y);
fl_status fl_cpu_embed_bwd_weights(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw);
fl_status fl_cpu_lstm_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_span y, fl_span keep);
fl_status fl_cpu_lstm_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                          fl_span keep);
fl_status fl_cpu_gru_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan bias, fl_span y,
                         fl_span keep);
fl_status fl_cpu_gru_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                         fl_span keep);
fl_status fl_cpu_last(fl_dev *d, fl_batch b, int T, int F, bool back, fl_cspan x, fl_span y);
fl_status fl_cpu_depthwise_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                               fl_cspan bias, fl_span y);
fl_status fl_cpu_depthwise_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                    fl_cspan w, fl_span dx);
fl_status fl_cpu_depthwise_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                       fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias);
fl_status fl_cpu_columns(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y);
fl_status fl_cpu_shift_fwd(fl_dev *d, fl_batch b, int64_t n, fl_cspan x, fl_cspan w, fl_span y);
fl_status fl_cpu_shift_bwd_weights(fl_dev *d, fl_batch b, int64_t n, fl_cspan dy, fl_coef scale,
                                   fl_span gw);
fl_status fl_cpu_waves(fl_dev *d, fl_batch b, int T, int F, fl_cspan x, fl_span y);
fl_status fl_cpu_attend_fwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                            fl_span y, fl_span keep);
fl_status fl_cpu_attend_bwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                            fl_cspan keep, fl_cspan dy, fl_span dx);

fl_status fl_cpu_xent(fl_dev *d, fl_batch b, int K, fl_coef norm, const int32_t *label, fl_cspan z,
                      fl_span dz, double *loss, int64_t *hit);
fl_status fl_cpu_regress(fl_dev *d, fl_batch b, int T, fl_regression kind, float delta,
                         fl_coef norm, fl_cspan target, fl_cspan z, fl_span dz, double *loss);

fl_status fl_cpu_step(fl_dev *d, int C, int64_t n, fl_cspan g, fl_coef lr, int n_term,
                      const fl_term *term, fl_span w);
fl_status fl_cpu_axpby(fl_dev *d, int C, int64_t n, fl_coef a, fl_cspan x, fl_coef b, fl_span y);
fl_status fl_cpu_fill(fl_dev *d, int C, int64_t n, float value, fl_span y);
fl_status fl_cpu_measure(fl_dev *d, int C, int64_t n, fl_cspan x, fl_measure *out);
fl_status fl_cpu_clip(fl_dev *d, int C, int64_t n, float limit, fl_span y);
fl_status fl_cpu_adaptive(fl_dev *d, int64_t n, fl_adaptive kind, float lr, float b1, float b2,
                          float eps, const float *u, float *m, float *v, float *w);

fl_status fl_cpu_mix(fl_dev *d, int C, int64_t n, fl_cspan x, const double *factor,
                     int64_t *const *acc);
fl_status fl_cpu_add64(fl_dev *d, int64_t n, const int64_t *x, int64_t *y);
fl_status fl_cpu_unmix(fl_dev *d, int64_t n, int n_acc, const int64_t *const *acc,
                       const double *unit, float *out);
fl_status fl_cpu_energy(fl_dev *d, double *joules);

fl_status fl_cpu_product_measure(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                 bool norm, fl_measure *out);
fl_status fl_cpu_product_mix(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                             const double *factor, int64_t *const *acc);

#endif
