/* The op table: the seam between mathematics and hardware.
 *
 * One legend everywhere: N population, M cohort, C lanes, B batch, P parameters, K classes,
 * I/O features, H W image.
 *
 * Rules for every slot
 *  - An op works on C lanes at once. Lane c of a span starts at `at + c*stride` (in floats). Stride
 *    0 means that all lanes read the same values; it is allowed for inputs only, except where an op
 *    reduces over lanes. The result of a lane never depends on C or on the other lanes, bit for
 * bit.
 *  - Row-major, float32. Batches are [B, features]; a lane uses its first rows[c] rows. Rows from
 *    rows[c] on are dead: gather fills them with zeros and the losses write zero gradients there,
 *    so an op may process or skip them, but sums over rows must not be changed by them.
 *  - Image activations ([B] images of channels x height x width) are kept in an order that is the
 *    backend's own business, without padding: B * channels*height*width floats, image after image.
 *    Only gather, conv, pool, gnorm, flatten, depthwise and columns look inside; flatten turns an
 *    image into features in channel-height-width order and back. An image of one channel is in
 *    height-width order always, so that it is features already. Weights are in PyTorch's layout
 *    always: convolution [O, I, kernel, kernel], a flat one [O, I, kernel], dense [O, I].
 *  - A sequence of T steps of F features is kept as rows, [B, T, F], the steps of an example one
 *    after another. An op that treats steps alike is called with a batch of B*T rows, a lane's
 *    first rows[c]*T of them live.
 *  - Outputs never alias inputs unless the slot says "in place".
 *  - Activations and gradients of activations are written (=); gradients of weights are
 *    accumulated (+=) with a factor, so that a plain SGD step needs no gradient buffer.
 *  - Pointers inside spans and those marked (device) are device memory; those marked (host) are
 *    host arrays read during the call. On the CPU both are ordinary memory.
 *  - Work is queued on the device's stream. No op allocates or synchronises after the first call
 *    with a given shape; slots of the group "device" say what they do.
 *  - Errors: FEDLANE_DEVICE when the hardware or its library fails, FEDLANE_INTERNAL for a shape
 *    that the walker should never have produced. A NaN or infinity is not an error; it travels.
 * A new slot needs two callers. */
#ifndef FL_OPS_H
#define FL_OPS_H

#include "record.h"
#include "rng.h"
#include "tie.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fl_span {
  float *at;
  int64_t stride;
} fl_span;

typedef struct fl_cspan {
  const float *at;
  int64_t stride;
} fl_cspan;

static inline fl_cspan fl_const(fl_span s) {
  fl_cspan c = {s.at, s.stride};
  return c;
}

/* A factor: one for all lanes, or one a lane (host [C]) when `lane` is not NULL. */
typedef struct fl_coef {
  float all;
  const float *lane;
} fl_coef;

static inline fl_coef fl_all(double value) {
  fl_coef c = {(float)value, NULL};
  return c;
}

static inline float fl_coef_at(fl_coef c, int lane) { return c.lane ? c.lane[lane] : c.all; }

/* The lanes and rows that an op works on. B >= 1 is what buffers are laid out for. */
typedef struct fl_batch {
  int C, B;
  const int32_t *rows; /* (host) [C], each 0 .. B */
} fl_batch;

/* The shape of an example's value: an image; features, {n, 1, 1}; or a sequence, {features, 1, 1}
 * with its steps. */
typedef struct fl_image {
  int channels, height, width;
  int steps; /* 0: no sequence */
} fl_image;

static inline int64_t fl_image_size(fl_image i) {
  return (int64_t)i.channels * i.height * i.width * (i.steps > 0 ? i.steps : 1);
}

/* Square window over images; out.height = (in.height + 2*pad - kernel) / stride + 1. A flat one has
 * height 1: it moves along the width alone, and images keep their height. */
typedef struct fl_window {
  fl_image in, out;
  int kernel, stride, pad; /* kernel, stride >= 1; 0 <= pad < kernel */
  bool flat;
} fl_window;

static inline int fl_window_kernel_h(const fl_window *s) { return s->flat ? 1 : s->kernel; }
static inline int fl_window_stride_h(const fl_window *s) { return s->flat ? 1 : s->stride; }
static inline int fl_window_pad_h(const fl_window *s) { return s->flat ? 0 : s->pad; }

typedef enum fl_act { FL_ACT_RELU, FL_ACT_TANH, FL_ACT_SIGMOID, FL_ACT_GELU, FL_ACT_SQUARE } fl_act;
typedef enum fl_pooling { FL_POOL_MAX, FL_POOL_AVERAGE } fl_pooling; /* average counts padding */
/* LOGISTIC: targets 0 .. 1, each output a class of its own. */
typedef enum fl_regression { FL_LOSS_MSE, FL_LOSS_HUBER, FL_LOSS_LOGISTIC } fl_regression;
typedef enum fl_adaptive { FL_ADAGRAD, FL_ADAM, FL_YOGI } fl_adaptive;

/* a*x added to the gradient by `step`. */
typedef struct fl_term {
  float a;
  fl_cspan x;
} fl_term;
enum { FL_TERMS_MAX = 6 };

/* What attention takes: most steps, and most floats of one head's keys, T * F / heads. */
enum { FL_ATTEND_STEPS = 256, FL_ATTEND_HEAD = 8192 };

/* Where random numbers of C lanes come from: as fl_key, with client and nth a lane. */
typedef struct fl_draw {
  uint32_t seed, purpose, round, step, layer;
  const uint32_t *client, *nth; /* (host) [C] */
} fl_draw;

static inline fl_key fl_draw_key(const fl_draw *d, int lane) {
  fl_key k = {d->seed, d->purpose, d->round, d->client[lane], d->nth[lane], d->step, d->layer};
  return k;
}

/* A resident data set. x: [n] images in channel-height-width order, or sequences [steps, features],
 * uint8 or float (device). */
typedef struct fl_source {
  fl_image image;
  bool bytes;           /* x is uint8; else float */
  const void *x;        /* (device) */
  int n_label;          /* labels an example: 1, or one a step of a sequence */
  const int32_t *label; /* (device) [n, n_label]; NULL for regression */
  const float *target;  /* (device) [n, n_target]; NULL for classification */
  int n_target;
  const float *shift, *scale; /* (host) [channels]: (x - shift) * scale */
  int crop;  /* random crop after zero padding (of the scaled image) by this much */
  bool flip; /* random left-right flip */
} fl_source;

/* Examples of a data set that are read where they lie: lane c row b is example
 * index[c*index_stride + b]. A layer that can do so takes images of one channel, in bytes, neither
 * cropped nor flipped. */
typedef struct fl_pick {
  const fl_source *source;
  const int32_t *index; /* (device) */
  int64_t index_stride;
  int64_t yet; /* so many indices after a batch's B are those of examples that come next */
} fl_pick;
enum { FL_PICK_OUT = 16 }; /* most outputs of such a layer */

/* Size and health of one lane's vector. */
typedef struct fl_measure {
  double sum2; /* sum of squares */
  double peak; /* largest magnitude; +infinity when any element is NaN or infinite */
} fl_measure;

typedef struct fl_dev fl_dev; /* device, stream, workspace: the backend's own */

typedef struct fl_dev_options {
  int index;     /* which device of its kind, from 0; on the CPU: which worker thread */
  int precision; /* fl_precision */
} fl_dev_options;
/* AUTO is only asked of fl_devices_open: fp32 on a CPU, tf32 on a GPU. */
typedef enum fl_precision {
  FL_MATH_AUTO = -1,
  FL_MATH_FP32,
  FL_MATH_TF32,
  FL_MATH_BF16,
  FL_MATH_TF32X3 /* three tf32 products, near fp32 */
} fl_precision;

/* How C lanes go through their local steps: (host) arrays of C, those with most pieces first. */
typedef struct fl_pieces {
  int C, epochs;
  const int32_t *n_piece, *n_row; /* n_piece: of all epochs; n_row: of one */
  const uint32_t *client, *nth;
} fl_pieces;
typedef struct fl_tape fl_tape;

typedef struct fl_ops {
  fl_record record; /* name as in `device:` */
  bool host;        /* device memory is ordinary host memory, and devices share it */

  /* --- device ------------------------------------------------------------------------------ */
  /* How many devices of this kind can be opened now; 0 and a sentence in *why when none. */
  int (*count)(const char **why);
  fl_status (*open)(const fl_dev_options *options, fl_dev **out);
  void (*close)(fl_dev **dev);
  /* Free memory in bytes that a plan may use. */
  fl_status (*room)(fl_dev *d, int64_t *bytes);
  /* bytes of device memory, 64-byte aligned, contents undefined; MEMORY when there is none. */
  fl_status (*alloc)(fl_dev *d, int64_t bytes, void **out);
  void (*release)(fl_dev *d, void **at);
  /* Copies; upload returns when src may be reused, download when dst is filled. */
  fl_status (*upload)(fl_dev *d, void *dst, const void *src, int64_t bytes);
  fl_status (*download)(fl_dev *d, void *dst, const void *src, int64_t bytes);
  /* Waits for all queued work and reports its errors. */
  fl_status (*sync)(fl_dev *d);

  /* --- data -------------------------------------------------------------------------------- */
  /* x = rows of the data set, normalised, cropped and flipped, as image activations.
   * index: (device) lane c row b is example index[c*index_stride + b].
   * Row b draws block b of its lane's stream: word 0 below 2*crop+1 (multiply-shift) the vertical
   * and word 1 the horizontal offset, lowest bit of word 2 the flip. Dead rows: x 0, label -1,
   * target 0. label (device) [C, B, n_label], target: span of [B, n_target]; the one not in use is
   * NULL. Element i of an example belongs to channel i / (height*width) mod channels. Sequences are
   * neither cropped nor flipped. x.at NULL: not wanted, where a backend has dense_pick_fwd. */
  fl_status (*gather)(fl_dev *d, fl_batch b, const fl_source *source, const int32_t *index,
                      int64_t index_stride, const fl_draw *draw, fl_span x, int32_t *label,
                      fl_span target);
  /* x += deviation * standard normal (element i: Box-Muller, in float, of the pair of 32-bit words
   * 2*(i/2), 2*(i/2)+1; even i the cosine, odd i the sine) over n elements a lane. */
  fl_status (*normal)(fl_dev *d, int C, int64_t n, const fl_draw *draw, fl_coef deviation,
                      fl_span x);
  /* x = lo + (hi - lo) * uniform(0, 1), element i from 32-bit word i. */
  fl_status (*uniform)(fl_dev *d, int C, int64_t n, const fl_draw *draw, float lo, float hi,
                       fl_span x);

  /* --- layers ------------------------------------------------------------------------------ */
  /* y[B,O] = x[B,I] w' + bias. bias.at NULL: none. 2*B*I*O flop a lane, each. */
  fl_status (*dense_fwd)(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan w, fl_cspan bias,
                         fl_span y);
  /* dx[B,I] = dy[B,O] w. */
  fl_status (*dense_bwd_data)(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                              fl_span dx);
  /* gw[O,I] += scale * dy'x; gbias[O] += scale * column sums of dy (gbias.at NULL: none). Dead rows
   * are not read. */
  fl_status (*dense_bwd_weights)(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                 fl_coef scale, fl_span gw, fl_span gbias);
  /* y = convolution (cross-correlation) of x with w[O,I,k,k] + bias; zero padding. */
  fl_status (*conv_fwd)(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                        fl_cspan bias, fl_span y);
  fl_status (*conv_bwd_data)(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy, fl_cspan w,
                             fl_span dx);
  fl_status (*conv_bwd_weights)(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan dy,
                                fl_coef scale, fl_span gw, fl_span gbias);
  /* Max ignores padding and sends its gradient to the first largest element in scan order. */
  fl_status (*pool_fwd)(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                        fl_span y);
  /* dx = gradient; x and y are read for max only. */
  fl_status (*pool_bwd)(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                        fl_cspan y, fl_cspan dy, fl_span dx);
  /* Group normalisation (1803.08494), eps 1e-5: y = (x - mean) / sqrt(var + eps) * w + bias with
   * w, bias [channels]; stat keeps [B, groups, 2] = mean, 1/deviation for the backward pass. */
  fl_status (*gnorm_fwd)(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x, fl_cspan w,
                         fl_cspan bias, fl_span y, fl_span stat);
  fl_status (*gnorm_bwd_data)(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x, fl_cspan w,
                              fl_cspan stat, fl_cspan dy, fl_span dx);
  fl_status (*gnorm_bwd_weights)(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                 fl_cspan stat, fl_cspan dy, fl_coef scale, fl_span gw,
                                 fl_span gbias);
  /* n features a row, in place allowed except gelu and square. GELU is the exact form
   * x * Phi(x). */
  fl_status (*act_fwd)(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan x, fl_span y);
  /* dx = dy * f'; saved: y for relu, tanh and sigmoid, x for gelu and square. dx may be dy (in
   * place). */
  fl_status (*act_bwd)(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan saved, fl_cspan dy,
                       fl_span dx);
  /* y = x * keep / (1 - p), in place allowed; the backward pass is the same call on gradients.
   * Element row*n + i is kept when its 16-bit draw >= round(p * 65536). 0 <= p < 1. Elements are
   * counted in the buffer's own order, so masks agree between backends for features only. */
  fl_status (*dropout)(fl_dev *d, fl_batch b, int64_t n, float p, const fl_draw *draw, fl_cspan x,
                       fl_span y);
  /* y = image activations as features in channel-height-width order (back: the inverse). */
  fl_status (*flatten)(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y);

  /* --- more layers ------------------------------------------------------------------------- */
  /* Depthwise convolution: channel k of y from channel k of x alone, w [channels, 1, k, k] + bias;
   * zero padding. s->in and s->out have as many channels. */
  fl_status (*depthwise_fwd)(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                             fl_cspan bias, fl_span y);
  fl_status (*depthwise_bwd_data)(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                  fl_cspan w, fl_span dx);
  fl_status (*depthwise_bwd_weights)(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                     fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias);
  /* y = the columns of image activations as a sequence of s.width steps of channels*height
   * features, in channel-height order (back: the inverse). */
  fl_status (*columns)(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y);
  /* One embedding a row: y[F] = w[id] with w [V, F] and id = x, a whole number from 0 to
   * V-1 that is kept as a float. b: rows, as many as there are tokens. */
  fl_status (*embed_fwd)(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan w, fl_span y);
  /* gw[id] += scale * dy, rows ascending; dead rows are not read. */
  fl_status (*embed_bwd_weights)(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan dy,
                                 fl_coef scale, fl_span gw);
  /* LSTM (doi 10.1162/neco.1997.9.8.1735, with forget gates) over the T steps of B examples, from
   * states of zero. w [4H,H]: from the outputs of the step before. y [B,T,H]. keep, for the way
   * back, three blocks one after another: the gates [B,T,4H] in PyTorch's order input, forget,
   * cell, output, which hold before what the input adds to them, bias included; the cells [B,T,H];
   * and the outputs of the step before [B,T,H]. */
  fl_status (*lstm_fwd)(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_span y, fl_span keep);
  /* From dy [B,T,H], the gates in keep become the gradients of what the input added, zeros in dead
   * rows. */
  fl_status (*lstm_bwd)(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy, fl_span keep);
  /* GRU as in PyTorch: gates reset, update and new; new = tanh(g_n + reset * (w_n h + bias_n)), g
   * what the input adds. w [3H,H], bias [3H], y [B,T,H]. keep, four blocks: the gates [B,T,3H],
   * before: g; w_n h + bias_n [B,T,H]; the outputs of the step before [B,T,H]; and for the way
   * back [B,T,3H]. */
  fl_status (*gru_fwd)(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan bias, fl_span y,
                       fl_span keep);
  /* The gates in keep become the gradients of g, and the fourth block those of w h + bias; zeros in
   * dead rows. */
  fl_status (*gru_bwd)(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy, fl_span keep);
  /* y[B,F] = the last step of x [B,T,F]; back: the inverse, zeros at the other steps. */
  fl_status (*last)(fl_dev *d, fl_batch b, int T, int F, bool back, fl_cspan x, fl_span y);
  /* y[n] = x[n] + w[n] in each row, in place allowed. */
  fl_status (*shift_fwd)(fl_dev *d, fl_batch b, int64_t n, fl_cspan x, fl_cspan w, fl_span y);
  /* gw[n] += scale * column sums of dy; dead rows are not read. */
  fl_status (*shift_bwd_weights)(fl_dev *d, fl_batch b, int64_t n, fl_cspan dy, fl_coef scale,
                                 fl_span gw);
  /* y = x + the waves of 1706.03762, section 3.5: feature f of step t of each row [T,F] gains
   * sin(t / 10000^(f/F)) where f is even, else cos(t / 10000^((f-1)/F)); in place allowed. */
  fl_status (*waves)(fl_dev *d, fl_batch b, int T, int F, fl_cspan x, fl_span y);
  /* Scaled dot-product attention (1706.03762) of `heads` heads over the T steps of B examples.
   * x [B,T,3F]: queries, keys and values of a step, head after head within each; y [B,T,F]. causal:
   * a step sees itself and those before it. F is a multiple of heads. keep [B,heads,T,T]: the
   * probabilities, for the way back; at NULL: not wanted. Always in float, whatever the precision
   * of the device; 4*B*T*T*F flop a lane. */
  fl_status (*attend_fwd)(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                          fl_span y, fl_span keep);
  /* dx [B,T,3F] from dy [B,T,F]; zeros in dead rows. */
  fl_status (*attend_bwd)(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                          fl_cspan keep, fl_cspan dy, fl_span dx);

  /* --- losses ------------------------------------------------------------------------------ */
  /* Softmax cross-entropy. dz = norm * (softmax(z) - one-hot); dz.at NULL: not wanted.
   * loss[c] += sum over live rows, hit[c] += rows whose first largest logit is the label.
   * loss, hit: (device) [C]. A live row whose label is -1 counts for nothing: it adds neither loss
   * nor hit, and its dz is 0. Other labels outside 0 .. K-1 never get here: the reader refuses
   * them. */
  fl_status (*xent)(fl_dev *d, fl_batch b, int K, fl_coef norm, const int32_t *label, fl_cspan z,
                    fl_span dz, double *loss, int64_t *hit);
  /* Row loss: mean over the T targets of (z-t)^2 (mse), or of Huber's function with threshold
   * `delta`: e^2/2 inside, delta*(|e| - delta/2) outside; logistic: log(1 + e^z) - t*z. dz carries
   * norm. */
  fl_status (*regress)(fl_dev *d, fl_batch b, int T, fl_regression kind, float delta, fl_coef norm,
                       fl_cspan target, fl_cspan z, fl_span dz, double *loss);

  /* --- vectors ----------------------------------------------------------------------------- */
  /* w = w - lr * (g + sum a*x): the heart. g.at NULL: no gradient. A term's x may be w itself. */
  fl_status (*step)(fl_dev *d, int C, int64_t n, fl_cspan g, fl_coef lr, int n_term,
                    const fl_term *term, fl_span w);
  /* y = a*x + b*y. x.at NULL: y = b*y. b == 0 (for all): y is not read. In place (x = y) allowed.
   */
  fl_status (*axpby)(fl_dev *d, int C, int64_t n, fl_coef a, fl_cspan x, fl_coef b, fl_span y);
  fl_status (*fill)(fl_dev *d, int C, int64_t n, float value, fl_span y);
  /* out[c], (device) [C]: sums in double over a fixed order that does not depend on C. */
  fl_status (*measure)(fl_dev *d, int C, int64_t n, fl_cspan x, fl_measure *out);
  /* y *= min(1, limit / norm2(y)) a lane. */
  fl_status (*clip)(fl_dev *d, int C, int64_t n, float limit, fl_span y);
  /* The server's adaptive step on the mean update u (2003.00295, algorithm 2), all in place:
   * m = b1*m + (1-b1)*u;  v = v + u^2 (adagrad) | b2*v + (1-b2)*u^2 (adam) |
   * v - (1-b2)*u^2*sign(v - u^2) (yogi);  w += lr * m / (sqrt(v) + eps). One lane of n. */
  fl_status (*adaptive)(fl_dev *d, int64_t n, fl_adaptive kind, float lr, float b1, float b2,
                        float eps, const float *u, float *m, float *v, float *w);

  /* --- lanes to one ------------------------------------------------------------------------ */
  /* Exact sums: total[i] += llrint((double)x_c[i] * factor[c]) for every lane with factor != 0,
   * rounding halves to even. The caller chooses factors so that no sum can overflow (mix.h).
   * acc: (host) [C] the (device) accumulator of n integers that lane c adds to. */
  fl_status (*mix)(fl_dev *d, int C, int64_t n, fl_cspan x, const double *factor,
                   int64_t *const *acc);
  /* y += x over n integers (device), modulo 2^64. */
  fl_status (*add64)(fl_dev *d, int64_t n, const int64_t *x, int64_t *y);
  /* out[i] = (float) sum over k of unit[k] * acc[k][i], in double, k ascending.
   * acc, unit: (host) [n_acc]. */
  fl_status (*unmix)(fl_dev *d, int64_t n, int n_acc, const int64_t *const *acc, const double *unit,
                     float *out);

  /* --- optional: NULL where a backend has no faster way than the slots above ---------------- */
  /* dense_bwd_data, then dense_bwd_weights, with one pass over the weights: gw may be w. The same
   * bits as the two calls. */
  fl_status (*dense_bwd)(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy, fl_cspan w,
                         fl_span dx, fl_coef scale, fl_span gw, fl_span gbias);
  /* A hint: examples index[0 .. n-1] (host) of a source will be read soon. */
  void (*fetch)(fl_dev *d, const fl_source *source, int n, const int32_t *index);
  /* dense_fwd and dense_bwd_weights of what gather would make of a pick, within rounding: bytes are
   * read twice, and floats neither written nor read. O <= FL_PICK_OUT. */
  fl_status (*dense_pick_fwd)(fl_dev *d, fl_batch b, int O, const fl_pick *pick, fl_cspan w,
                              fl_cspan bias, fl_span y);
  fl_status (*dense_pick_bwd_weights)(fl_dev *d, fl_batch b, int O, const fl_pick *pick,
                                      fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias);
  /* A block of layers: a convolution, relu, and max pooling before or after the relu. pool: its
   * window over the convolution's output, always 2 x 2 with stride 2 and no padding; NULL: none. y:
   * what the last of them leaves. mask: bytes, one an element of y and in its order, [B, elements];
   * the stride is in floats as ever: 0 .. 3 the place of the largest in its window in scan order, 4
   * where it is not positive. Not written without pooling; at NULL: not wanted. The same bits as
   * the separate slots. */
  fl_status (*conv_relu_fwd)(fl_dev *d, fl_batch b, const fl_window *s, const fl_window *pool,
                             fl_cspan x, fl_cspan w, fl_cspan bias, fl_span y, fl_span mask);
  /* The way back through the relu and the pooling of such a block: dx is the gradient of the
   * convolution's output. */
  fl_status (*pool_relu_bwd)(fl_dev *d, fl_batch b, const fl_window *pool, fl_cspan mask,
                             fl_cspan dy, fl_span dx);
  /* conv_bwd_data, then 0 where x, the convolution's input, is not positive: the way back through
   * a relu that stands before it. */
  fl_status (*conv_bwd_data_relu)(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                  fl_cspan w, fl_cspan x, fl_span dx);
  /* Size and health of the product that dense_bwd_weights would add with scale 1, x'dy [O, I] over
   * a lane's rows, without forming it. out[c], (device) [C]: sum2 through the Gram matrices of x
   * and dy, 0 unless norm is set; peak: a bound, the largest norm of a column of x times that of
   * dy, +infinity when any element is not finite or the bound is beyond 2^127. */
  fl_status (*product_measure)(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                               bool norm, fl_measure *out);
  /* `mix` of that product, without forming it: acc[c] [O, I]. A lane's integers do not depend on
   * the other lanes; lanes with factor 0 are left out. */
  fl_status (*product_mix)(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                           const double *factor, int64_t *const *acc);
  /* Recorded work: what is queued between capture and play is kept instead, and play queues it as a
   * whole. key names it: when *known comes back true, the same work (the same slots with the same
   * arguments) was kept under this key before, and nothing is to be queued before play. No copies
   * between host and device and no sync in between. Every capture that succeeds is followed by
   * play; whole false: something failed in between, what was kept is forgotten, nothing is queued.
   * A few recordings are kept, the least recently played one is thrown out. We allocate nothing
   * here; the driver takes host and device memory of its own when a recording is made and when it
   * is first played, and none when a known one is. */
  fl_status (*capture)(fl_dev *d, uint64_t key, bool *known);
  fl_status (*play)(fl_dev *d, bool whole);
  /* Several devices, from one thread while the others rest: x[0] = the sum of x[k], n integers on
   * device k each, after which the other x[k] hold anything; and x[k] = x[0] for n floats. (host)
   * arrays of n_dev. Both return when it is done. Only where devices share memory may they be
   * missing. */
  fl_status (*gather64)(int n_dev, fl_dev *const *dev, int64_t n, int64_t *const *x);
  fl_status (*spread)(int n_dev, fl_dev *const *dev, int64_t n, float *const *x);
  /* Joules that the device has used since some fixed moment, whoever made it work. UNSUPPORTED
   * where nothing counts. Devices that share one counter do not count twice: the sum over a kind's
   * devices is what they used. Never waits for queued work; counters may be some 100 ms late. */
  fl_status (*energy)(fl_dev *d, double *joules);
  /* All local steps of C lanes in one launch: what `tape` holds (tape.h), again for each piece of a
   * lane. Piece p, from 0, of lane c has min(B, n_row[c] - p mod (n_piece[c] / epochs) * B) live
   * rows, whatever the tape's calls say; its losses' gradients have the factor one over these, its
   * indices start p*B further and its draws have step p. The results are those of the calls one by
   * one within rounding, and a lane's bits depend on its own shapes alone. Image activations and
   * masks that the tape's calls leave behind are in an order of their own. pieces NULL: only asks.
   * UNSUPPORTED, with the reason, where the calls one by one are the better way or the only one. */
  fl_status (*resident)(fl_dev *d, const fl_tape *tape, const fl_pieces *pieces);
  /* The way to a device of another process; NULL: this backend has none. */
  const fl_tie_ops *tie;
} fl_ops;

#ifdef __cplusplus
}
#endif
#endif
