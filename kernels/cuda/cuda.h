/* The CUDA backend's own business. Each fl_cuda_<slot> is the slot of fl_ops with the same name.
 *
 * One fl_dev is one GPU with one stream. Image activations lie as [B][height][width][channels],
 * channels fastest. Kernels are indexed by (tile, lane): blockIdx.y is the lane of a group. Tiles,
 * splits and the order of every sum follow from the shape of a lane alone, so a lane's bits depend
 * neither on C nor on its neighbours. What the host knows of a lane (rows, factors, keys) travels
 * in the kernel's parameters, FL_GROUP lanes a launch, so that calls can be recorded in a graph. */
#ifndef FL_CUDA_H
#define FL_CUDA_H

#include "device.h"
#include "nvml.h"
#include "ops.h"

enum { FL_GROUP = 64 };                   /* most lanes of one launch */
enum { FL_WORKSPACE = 64 * 1024 * 1024 }; /* bytes of fl_dev.workspace */
enum { FL_RECORDINGS = 16 };              /* kept by a device */

/* Work that was kept under a key. */
typedef struct fl_recording {
  uint64_t key, played; /* played: the number of its last play; 0: never */
  cudaGraphExec_t exec; /* NULL: free */
} fl_recording;
enum { FL_PEERS_MAX = 64 }; /* most devices that NCCL joins; more use copies */

typedef struct fl_peers fl_peers;

struct fl_dev {
  int index, sm_count;
  fl_precision precision;
  cudaStream_t stream;
  float *workspace; /* partial sums between two launches of one op; 256-byte aligned */
  fl_recording recording[FL_RECORDINGS];
  fl_recording *current; /* what the next play plays */
  uint64_t key, plays;   /* of the capture in progress; number of the last play */
  bool capturing;
  fl_meter meter;
  fl_peers *peers; /* the way to other devices of which this is the first; NULL: not yet */
};

/* Makes d the calling thread's current device; every slot that launches begins with it. */
fl_status fl_cuda_enter(const fl_dev *d);
/* Forgets all recordings, one in progress too; nothing of it runs any more. */
void fl_cuda_forget(fl_dev *d);
/* OK, or DEVICE (MEMORY when there is too little) and one sentence: what was done, the error. */
fl_status fl_cuda_status(cudaError_t error, const char *doing);
#define FL_CUDA(call, doing) FL_TRY(fl_cuda_status(call, doing))
/* comm.cu: ends the way to other devices; also after a failure. */
void fl_cuda_peers_close(fl_dev *d);
/* The status of the launches since the last check. */
#define FL_LAUNCHED(doing) fl_cuda_status(FL_LAUNCH_CHECK(), doing)

/* How many of the `left` lanes the next launch covers when each wants `bytes` of the workspace. */
static inline int fl_group(int left, int64_t bytes) {
  int64_t most = bytes > 0 ? FL_WORKSPACE / bytes : (int64_t)FL_GROUP;
  int n = left < FL_GROUP ? left : FL_GROUP;
  return n < most ? n : (int)most;
}

static inline int64_t fl_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* --- what kernels know of their lanes ------------------------------------------------------- */
typedef struct fl_rows {
  int32_t n[FL_GROUP];
} fl_rows;

typedef struct fl_factors {
  float at[FL_GROUP];
} fl_factors;

typedef struct fl_keys {
  fl_key all; /* but client and nth */
  uint32_t client[FL_GROUP], nth[FL_GROUP];
} fl_keys;

/* Lanes first .. first+n-1 of host arrays, n <= FL_GROUP. */
static inline fl_rows fl_rows_of(fl_batch b, int first, int n) {
  fl_rows rows;
  for (int i = 0; i < FL_GROUP; i++) rows.n[i] = i < n ? b.rows[first + i] : 0;
  return rows;
}

static inline fl_factors fl_factors_of(fl_coef coef, int first, int n) {
  fl_factors factors;
  for (int i = 0; i < FL_GROUP; i++) factors.at[i] = i < n ? fl_coef_at(coef, first + i) : 0;
  return factors;
}

static inline fl_keys fl_keys_of(const fl_draw *draw, int first, int n) {
  fl_keys keys = {
      {draw->seed, draw->purpose, draw->round, 0, 0, draw->step, draw->layer}, {0}, {0}};
  for (int i = 0; i < n; i++) {
    keys.client[i] = draw->client[first + i];
    keys.nth[i] = draw->nth[first + i];
  }
  return keys;
}

static inline FL_HD fl_key fl_keys_at(const fl_keys *keys, int lane) {
  fl_key key = keys->all;
  key.client = keys->client[lane];
  key.nth = keys->nth[lane];
  return key;
}

/* The span of the lanes from `first` on; stays absent when absent. */
static inline fl_span fl_span_from(fl_span s, int64_t first) {
  if (s.at) s.at += first * s.stride;
  return s;
}

static inline fl_cspan fl_cspan_from(fl_cspan s, int64_t first) {
  if (s.at) s.at += first * s.stride;
  return s;
}

/* Where lane c of a span starts; NULL for a span that is absent. */
static inline FL_HD const float *fl_lane(fl_cspan s, int c) {
  return s.at ? s.at + c * s.stride : NULL;
}
static inline FL_HD float *fl_lane_out(fl_span s, int c) {
  return s.at ? s.at + c * s.stride : NULL;
}

/* Whether every lane of a span starts at a multiple of 16 bytes (absent spans do). */
static inline bool fl_span_even(fl_cspan s) {
  return ((uintptr_t)s.at & 15) == 0 && (s.stride & 3) == 0;
}

/* --- the slots of ops.h, file by file ------------------------------------------------------- */
int fl_cuda_count(const char **why);
fl_status fl_cuda_open(const fl_dev_options *options, fl_dev **out);
void fl_cuda_close(fl_dev **dev);
fl_status fl_cuda_room(fl_dev *d, int64_t *bytes);
fl_status fl_cuda_alloc(fl_dev *d, int64_t bytes, void **out);
void fl_cuda_release(fl_dev *d, void **at);
fl_status fl_cuda_upload(fl_dev *d, void *dst, const void *src, int64_t bytes);
fl_status fl_cuda_download(fl_dev *d, void *dst, const void *src, int64_t bytes);
fl_status fl_cuda_sync(fl_dev *d);

fl_status fl_cuda_gather(fl_dev *d, fl_batch b, const fl_source *source, const int32_t *index,
                         int64_t index_stride, const fl_draw *draw, fl_span x, int32_t *label,
                         fl_span target);
fl_status fl_cuda_normal(fl_dev *d, int C, int64_t n, const fl_draw *draw, fl_coef deviation,
                         fl_span x);
fl_status fl_cuda_uniform(fl_dev *d, int C, int64_t n, const fl_draw *draw, float lo, float hi,
                          fl_span x);

fl_status fl_cuda_dense_fwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan w,
                            fl_cspan bias, fl_span y);
fl_status fl_cuda_dense_bwd_data(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                                 fl_span dx);
fl_status fl_cuda_dense_bwd_weights(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                    fl_coef scale, fl_span gw, fl_span gbias);
fl_status fl_cuda_conv_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y);
fl_status fl_cuda_conv_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy, fl_cspan w,
                                fl_span dx);
fl_status fl_cuda_conv_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                   fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias);
fl_status fl_cuda_pool_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                           fl_span y);
fl_status fl_cuda_pool_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                           fl_cspan y, fl_cspan dy, fl_span dx);
fl_status fl_cuda_gnorm_fwd(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x, fl_cspan w,
                            fl_cspan bias, fl_span y, fl_span stat);
fl_status fl_cuda_gnorm_bwd_data(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                 fl_cspan w, fl_cspan stat, fl_cspan dy, fl_span dx);
fl_status fl_cuda_gnorm_bwd_weights(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                    fl_cspan stat, fl_cspan dy, fl_coef scale, fl_span gw,
                                    fl_span gbias);
fl_status fl_cuda_act_fwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan x, fl_span y);
fl_status fl_cuda_act_bwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan saved,
                          fl_cspan dy, fl_span dx);
fl_status fl_cuda_dropout(fl_dev *d, fl_batch b, int64_t n, float p, const fl_draw *draw,
                          fl_cspan x, fl_span y);
fl_status fl_cuda_flatten(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y);

fl_status fl_cuda_embed_fwd(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan w, fl_span y);
fl_status fl_cuda_embed_bwd_weights(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan dy,
                                    fl_coef scale, fl_span gw);
fl_status fl_cuda_lstm_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_span y,
                           fl_span keep);
fl_status fl_cuda_lstm_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                           fl_span keep);
fl_status fl_cuda_gru_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan bias, fl_span y,
                          fl_span keep);
fl_status fl_cuda_gru_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                          fl_span keep);
fl_status fl_cuda_last(fl_dev *d, fl_batch b, int T, int F, bool back, fl_cspan x, fl_span y);
fl_status fl_cuda_depthwise_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                                fl_cspan bias, fl_span y);
fl_status fl_cuda_depthwise_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                     fl_cspan w, fl_span dx);
fl_status fl_cuda_depthwise_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                        fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias);
fl_status fl_cuda_columns(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y);
fl_status fl_cuda_shift_fwd(fl_dev *d, fl_batch b, int64_t n, fl_cspan x, fl_cspan w, fl_span y);
fl_status fl_cuda_shift_bwd_weights(fl_dev *d, fl_batch b, int64_t n, fl_cspan dy, fl_coef scale,
                                   fl_span gw);
fl_status fl_cuda_waves(fl_dev *d, fl_batch b, int T, int F, fl_cspan x, fl_span y);
fl_status fl_cuda_attend_fwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                            fl_span y, fl_span keep);
fl_status fl_cuda_attend_bwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                            fl_cspan keep, fl_cspan dy, fl_span dx);

fl_status fl_cuda_xent(fl_dev *d, fl_batch b, int K, fl_coef norm, const int32_t *label, fl_cspan z,
                       fl_span dz, double *loss, int64_t *hit);
fl_status fl_cuda_regress(fl_dev *d, fl_batch b, int T, fl_regression kind, float delta,
                          fl_coef norm, fl_cspan target, fl_cspan z, fl_span dz, double *loss);

fl_status fl_cuda_step(fl_dev *d, int C, int64_t n, fl_cspan g, fl_coef lr, int n_term,
                       const fl_term *term, fl_span w);
fl_status fl_cuda_axpby(fl_dev *d, int C, int64_t n, fl_coef a, fl_cspan x, fl_coef b, fl_span y);
fl_status fl_cuda_fill(fl_dev *d, int C, int64_t n, float value, fl_span y);
fl_status fl_cuda_measure(fl_dev *d, int C, int64_t n, fl_cspan x, fl_measure *out);
fl_status fl_cuda_clip(fl_dev *d, int C, int64_t n, float limit, fl_span y);
fl_status fl_cuda_adaptive(fl_dev *d, int64_t n, fl_adaptive kind, float lr, float b1, float b2,
                           float eps, const float *u, float *m, float *v, float *w);

fl_status fl_cuda_mix(fl_dev *d, int C, int64_t n, fl_cspan x, const double *factor,
                      int64_t *const *acc);
fl_status fl_cuda_add64(fl_dev *d, int64_t n, const int64_t *x, int64_t *y);
fl_status fl_cuda_unmix(fl_dev *d, int64_t n, int n_acc, const int64_t *const *acc,
                        const double *unit, float *out);

fl_status fl_cuda_conv_relu_fwd(fl_dev *d, fl_batch b, const fl_window *s, const fl_window *pool,
                                fl_cspan x, fl_cspan w, fl_cspan bias, fl_span y, fl_span mask);
fl_status fl_cuda_pool_relu_bwd(fl_dev *d, fl_batch b, const fl_window *pool, fl_cspan mask,
                                fl_cspan dy, fl_span dx);
fl_status fl_cuda_conv_bwd_data_relu(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                     fl_cspan w, fl_cspan x, fl_span dx);
fl_status fl_cuda_product_measure(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                  bool norm, fl_measure *out);
fl_status fl_cuda_product_mix(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                              const double *factor, int64_t *const *acc);

fl_status fl_cuda_capture(fl_dev *d, uint64_t key, bool *known);
fl_status fl_cuda_play(fl_dev *d, bool whole);
fl_status fl_cuda_energy(fl_dev *d, double *joules);
fl_status fl_cuda_gather64(int n_dev, fl_dev *const *dev, int64_t n, int64_t *const *x);
fl_status fl_cuda_spread(int n_dev, fl_dev *const *dev, int64_t n, float *const *x);
fl_status fl_cuda_resident(fl_dev *d, const fl_tape *tape, const fl_pieces *pieces);
extern "C" const fl_tie_ops fl_cuda_tie;

#endif
