/* The network: oneDNN's convolutions and matrix products, and plain loops for what lies between.
 * It compiles with oneDNN 2.x and 3.x. How each convolution is done is found out at the start, by
 * timing the ways that there are. Pooling is a plain loop, as 2.x does it slowly. */
#include <dnnl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plain.h"

/* Channels that lie beside one another in an image. */
#ifdef __AVX512F__
#define LANES 16
#define BESIDE dnnl_nChw16c
#else
#define LANES 8
#define BESIDE dnnl_nChw8c
#endif

#define DO(call)                                                            \
  do {                                                                      \
    dnnl_status_t status_ = (call);                                         \
    if (status_ != dnnl_success) die("status %d: %s", (int)status_, #call); \
  } while (0)

const char *const part_name[PARTS] = {"gather",          "conv1_relu",    "conv2", "pool_relu_turn",
                                      "dropout",         "dense",         "loss",  "conv2_weights",
                                      "conv2_data_relu", "conv1_weights", "seat",  "mix"};

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t layout;
static layout layout_new(int n, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
  dnnl_memory_desc_t d;
  DO(dnnl_memory_desc_create_with_tag(&d, n, dims, dnnl_f32, tag));
  return d;
}
#else
typedef const dnnl_memory_desc_t *layout;
static layout layout_new(int n, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
  dnnl_memory_desc_t *d = make(sizeof *d);
  DO(dnnl_memory_desc_init_by_tag(d, n, dims, dnnl_f32, tag));
  return d;
}
#endif

typedef struct shape {
  int in, side, out;
} shape;

static const shape shape1 = {3, 32, 32}, shape2 = {32, 30, 64};

enum { FORWARD, BACK_DATA, BACK_WEIGHTS, PASSES };
enum { X, W, B, Y, SIDES };

/* l holds the layouts of x, weights, bias and y, or of their gradients. */
static dnnl_status_t conv_describe(dnnl_engine_t engine, int pass, dnnl_alg_kind_t how,
                                   const layout *l, dnnl_primitive_attr_t attr,
                                   dnnl_primitive_desc_t *out) {
  const dnnl_dims_t one = {1, 1}, no = {0, 0};
#if DNNL_VERSION_MAJOR >= 3
  if (pass == FORWARD)
    return dnnl_convolution_forward_primitive_desc_create(
        out, engine, dnnl_forward_training, how, l[X], l[W], l[B], l[Y], one, no, no, no, attr);
  if (pass == BACK_DATA)
    return dnnl_convolution_backward_data_primitive_desc_create(out, engine, how, l[X], l[W], l[Y],
                                                                one, no, no, no, NULL, attr);
  return dnnl_convolution_backward_weights_primitive_desc_create(out, engine, how, l[X], l[W], l[B],
                                                                 l[Y], one, no, no, no, NULL, attr);
#else
  dnnl_convolution_desc_t d;
  dnnl_status_t status;
  if (pass == FORWARD)
    status = dnnl_convolution_forward_desc_init(&d, dnnl_forward_training, how, l[X], l[W], l[B],
                                                l[Y], one, no, no);
  else if (pass == BACK_DATA)
    status = dnnl_convolution_backward_data_desc_init(&d, how, l[X], l[W], l[Y], one, no, no);
  else
    status =
        dnnl_convolution_backward_weights_desc_init(&d, how, l[X], l[W], l[B], l[Y], one, no, no);
  return status ? status : dnnl_primitive_desc_create(out, &d, attr, engine, NULL);
#endif
}

/* A primitive with its arguments. */
typedef struct call {
  dnnl_primitive_t primitive;
  dnnl_exec_arg_t arg[6];
  int n;
} call;

/* A convolution with the reorders before and after it, and the memory between them. */
typedef struct chain {
  call call[SIDES + 1];
  dnnl_memory_t own[SIDES + 1];
  int n, n_own;
  char name[64];
} chain;

static void call_run(const call *c, dnnl_stream_t stream) {
  DO(dnnl_primitive_execute(c->primitive, stream, c->n, c->arg));
}

static void chain_run(const chain *c, dnnl_stream_t stream) {
  for (int i = 0; i < c->n; i++) call_run(&c->call[i], stream);
  DO(dnnl_stream_wait(stream));
}

static void chain_close(chain *c) {
  for (int i = 0; i < c->n; i++) DO(dnnl_primitive_destroy(c->call[i].primitive));
  for (int i = 0; i < c->n_own; i++) DO(dnnl_memory_destroy(c->own[i]));
}

static dnnl_memory_t memory(dnnl_engine_t engine, layout l, void *at) {
  dnnl_memory_t m;
  DO(dnnl_memory_create(&m, l, engine, at));
  return m;
}

static layout layout_of(dnnl_memory_t m) {
  layout l;
  DO(dnnl_memory_get_memory_desc(m, &l));
  return l;
}

static call reorder(dnnl_engine_t engine, dnnl_memory_t from, dnnl_memory_t to) {
  call out = {.arg = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}, .n = 2};
  dnnl_primitive_desc_t pd;
  DO(dnnl_reorder_primitive_desc_create(&pd, layout_of(from), engine, layout_of(to), engine, NULL));
  DO(dnnl_primitive_create(&out.primitive, pd));
  DO(dnnl_primitive_desc_destroy(pd));
  return out;
}

typedef struct tensor {
  float *at;
  size_t n;
  dnnl_memory_t m;
} tensor;

struct net {
  int rows;
  bool train;
  float dropout;
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_attr_t attr;
  float *w, *dw; /* a client's weights, and the gradients of convolutions */
  tensor x, y1, y2, pooled, flat, dy1, dy2, dpooled, dflat;
  chain conv1, conv2, weights1, data2, weights2;
  call flatten, unflatten;
  int32_t *place; /* which of its four values each pooled one is */
  float *mask_flat, *mask_hidden, *hidden, *turned, *logits, *dhidden, *dlogits;
  int32_t *label;
  uint32_t drawn; /* counts the random numbers of dropout */
  double clock;
  tally tally;
};

static double chain_time(const net *t, const chain *c) {
  double best = 1e9;
  for (int i = 0; i < 8; i++) {
    double begin = now(CLOCK_MONOTONIC);
    chain_run(c, t->stream);
    best = fmin(best, now(CLOCK_MONOTONIC) - begin);
  }
  return best;
}

/* A convolution by one algorithm, in its neighbours' layouts or in those that it likes best. m
 * holds x, weights, bias and y, or their gradients; weights are always as it likes. */
static bool conv_try(const net *t, int pass, dnnl_alg_kind_t how, bool likes, shape s,
                     const dnnl_memory_t m[SIDES], chain *c) {
  static const int role[PASSES][SIDES] = {
      {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
      {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, 0, DNNL_ARG_DIFF_DST},
      {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS, DNNL_ARG_DIFF_DST}};
  static const int written[PASSES] = {1 << Y, 1 << X, 1 << W | 1 << B};
  const dnnl_dims_t dims[SIDES] = {{t->rows, s.in, s.side, s.side},
                                   {s.out, s.in, 3, 3},
                                   {s.out},
                                   {t->rows, s.out, s.side - 2, s.side - 2}};
  layout l[SIDES] = {0};
  dnnl_primitive_desc_t pd;
  const char *name = "";
  call conv = {0}, after[SIDES];
  int n_after = 0;
  for (int i = 0; i < SIDES; i++) {
    bool any = i == W || (likes && i != B);
    if (m[i]) l[i] = any ? layout_new(4, dims[i], dnnl_format_tag_any) : layout_of(m[i]);
  }
  if (conv_describe(t->engine, pass, how, l, t->attr, &pd) != dnnl_success) return false;
  *c = (chain){0};
  DO(dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name));
  snprintf(c->name, sizeof c->name, "%s", name);
  layout pad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
  c->own[c->n_own++] = memory(t->engine, pad, DNNL_MEMORY_ALLOCATE);
  conv.arg[conv.n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, c->own[0]};
  for (int i = 0; i < SIDES; i++) {
    if (!m[i]) continue;
    layout want = dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, role[pass][i]);
    dnnl_memory_t inner = m[i];
    if (!dnnl_memory_desc_equal(layout_of(m[i]), want)) {
      inner = c->own[c->n_own++] = memory(t->engine, want, DNNL_MEMORY_ALLOCATE);
      if (written[pass] >> i & 1)
        after[n_after++] = reorder(t->engine, inner, m[i]);
      else
        c->call[c->n++] = reorder(t->engine, m[i], inner);
    }
    conv.arg[conv.n++] = (dnnl_exec_arg_t){role[pass][i], inner};
  }
  DO(dnnl_primitive_create(&conv.primitive, pd));
  DO(dnnl_primitive_desc_destroy(pd));
  c->call[c->n++] = conv;
  for (int i = 0; i < n_after; i++) c->call[c->n++] = after[i];
  return true;
}

/* The fastest of all ways, reorders included. */
static chain conv_new(const net *t, int pass, shape s, dnnl_memory_t x, const dnnl_memory_t w[2],
                      dnnl_memory_t y) {
  const dnnl_alg_kind_t how[] = {dnnl_convolution_direct, dnnl_convolution_winograd,
                                 dnnl_convolution_auto};
  const dnnl_memory_t m[SIDES] = {x, w[0], pass == BACK_DATA ? NULL : w[1], y};
  chain best = {0}, c;
  double least = 1e9;
  for (int i = 0; i < 6; i++) {
    if (!conv_try(t, pass, how[i / 2], i % 2, s, m, &c)) continue;
    double seconds = chain_time(t, &c);
    chain_close(seconds < least ? &best : &c);
    if (seconds < least) best = c;
    least = fmin(least, seconds);
  }
  if (best.n == 0) die("oneDNN has no convolution of %d to %d channels", s.in, s.out);
  return best;
}

static tensor tensor_new(const net *t, int channels, int side, dnnl_format_tag_t tag) {
  dnnl_dims_t dims = {t->rows, channels, side, side};
  tensor out = {.n = (size_t)(t->rows * channels * side * side)};
  out.at = floats(out.n);
  out.m = memory(t->engine, layout_new(4, dims, tag), out.at);
  return out;
}

/* The weights and the bias of a convolution, or their gradients, which begin at `at`. */
static void weights_new(const net *t, shape s, float *at, dnnl_memory_t out[2]) {
  const dnnl_dims_t dims = {s.out, s.in, 3, 3};
  out[0] = memory(t->engine, layout_new(4, dims, dnnl_oihw), at);
  out[1] = memory(t->engine, layout_new(1, dims, dnnl_x), at + s.out * s.in * 9);
}

net *net_new(int rows, bool train, float dropout, uint32_t seed) {
  net *t = make(sizeof *t);
  const size_t n = (size_t)rows;
  dnnl_memory_t w1[2], w2[2], dw1[2], dw2[2];
  *t = (net){.rows = rows, .train = train, .dropout = dropout, .drawn = seed};
  DO(dnnl_engine_create(&t->engine, dnnl_cpu, 0));
  DO(dnnl_stream_create(&t->stream, t->engine, dnnl_stream_default_flags));
  DO(dnnl_primitive_attr_create(&t->attr));
  DO(dnnl_primitive_attr_set_scratchpad_mode(t->attr, dnnl_scratchpad_mode_user));
  t->w = floats(WEIGHTS);
  t->x = tensor_new(t, 3, 32, dnnl_nchw);
  t->y1 = tensor_new(t, 32, 30, BESIDE);
  t->y2 = tensor_new(t, 64, 28, BESIDE);
  t->pooled = tensor_new(t, 64, 14, BESIDE);
  t->place = make(t->pooled.n * sizeof *t->place);
  t->flat = tensor_new(t, 64, 14, dnnl_nchw);
  t->hidden = floats(n * HIDDEN);
  t->turned = floats(n * HIDDEN);
  t->logits = floats(n * CLASSES);
  t->label = make(n * sizeof *t->label);
  weights_new(t, shape1, t->w + W1, w1);
  weights_new(t, shape2, t->w + W2, w2);
  t->conv1 = conv_new(t, FORWARD, shape1, t->x.m, w1, t->y1.m);
  t->conv2 = conv_new(t, FORWARD, shape2, t->y1.m, w2, t->y2.m);
  t->flatten = reorder(t->engine, t->pooled.m, t->flat.m);
  t->tally.kernel[CONV1] = t->conv1.name;
  t->tally.kernel[CONV2] = t->conv2.name;
  if (!train) return t;
  t->dw = floats(CONVS);
  t->tally.sum = floats(WEIGHTS);
  t->dy1 = tensor_new(t, 32, 30, BESIDE);
  t->dy2 = tensor_new(t, 64, 28, BESIDE);
  t->dpooled = tensor_new(t, 64, 14, BESIDE);
  t->dflat = tensor_new(t, 64, 14, dnnl_nchw);
  t->mask_flat = floats(n * FLAT);
  t->mask_hidden = floats(n * HIDDEN);
  t->dhidden = floats(n * HIDDEN);
  t->dlogits = floats(n * CLASSES);
  weights_new(t, shape1, t->dw + W1, dw1);
  weights_new(t, shape2, t->dw + W2, dw2);
  t->weights1 = conv_new(t, BACK_WEIGHTS, shape1, t->x.m, dw1, t->dy1.m);
  t->weights2 = conv_new(t, BACK_WEIGHTS, shape2, t->y1.m, dw2, t->dy2.m);
  t->data2 = conv_new(t, BACK_DATA, shape2, t->dy1.m, w2, t->dy2.m);
  t->unflatten = reorder(t->engine, t->dflat.m, t->dpooled.m);
  t->tally.kernel[WEIGHTS2] = t->weights2.name;
  t->tally.kernel[DATA2] = t->data2.name;
  t->tally.kernel[WEIGHTS1] = t->weights1.name;
  return t;
}

/* Two rows of 28 vectors give one of 14. */
static void pool(const net *t) {
  for (int i = 0; i < t->rows * 64 / LANES * 14 * 14; i++) {
    const float *restrict x = t->y2.at + (i / 14 * 56 + i % 14 * 2) * LANES;
    float *restrict y = t->pooled.at + i * LANES;
    int32_t *restrict place = t->place + i * LANES;
    for (int k = 0; k < LANES; k++) {
      float most = x[k], right = x[k + LANES], low = x[k + 28 * LANES], last = x[k + 29 * LANES];
      int32_t at = 0;
      at = right > most ? 1 : at, most = right > most ? right : most;
      at = low > most ? 2 : at, most = low > most ? low : most;
      at = last > most ? 3 : at, most = last > most ? last : most;
      y[k] = most;
      place[k] = at;
    }
  }
}

static void pool_back(const net *t) {
  for (int i = 0; i < t->rows * 64 / LANES * 14 * 14; i++) {
    float *restrict dx = t->dy2.at + (i / 14 * 56 + i % 14 * 2) * LANES;
    const float *restrict dy = t->dpooled.at + i * LANES;
    const int32_t *restrict place = t->place + i * LANES;
    for (int k = 0; k < LANES; k++) {
      dx[k] = place[k] == 0 ? dy[k] : 0;
      dx[k + LANES] = place[k] == 1 ? dy[k] : 0;
      dx[k + 28 * LANES] = place[k] == 2 ? dy[k] : 0;
      dx[k + 29 * LANES] = place[k] == 3 ? dy[k] : 0;
    }
  }
}

static void relu(float *x, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] : 0;
}

/* y is what relu gave. */
static void relu_back(const float *y, float *dy, size_t n) {
  for (size_t i = 0; i < n; i++) dy[i] = y[i] > 0 ? dy[i] : 0;
}

static void multiply(float *x, const float *by, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] *= by[i];
}

/* A counter and a hash: every value of x stays with probability 1 - p. */
static void drop(net *t, float *x, float *mask, size_t n, float p) {
  const uint32_t limit = (uint32_t)(p * 16777216.0F), first = t->drawn;
  const float scale = 1 / (1 - p);
  for (size_t i = 0; i < n; i++) {
    uint32_t h = first + (uint32_t)i;
    h = (h ^ h >> 16) * 0x7feb352dU;
    h = (h ^ h >> 15) * 0x846ca68bU;
    mask[i] = (h ^ h >> 16) >> 8 < limit ? 0 : scale;
  }
  t->drawn += (uint32_t)n;
  multiply(x, mask, n);
}

static void gemm(char a_turned, char b_turned, int m, int n, int k, float alpha, const float *a,
                 const float *b, float beta, float *c) {
  DO(dnnl_sgemm(a_turned, b_turned, m, n, k, alpha, a, a_turned == 'T' ? m : k, b,
                b_turned == 'T' ? k : n, beta, c, n));
}

static void add_bias(float *y, const float *b, int rows, int n) {
  for (int i = 0; i < rows; i++)
    for (int k = 0; k < n; k++) y[i * n + k] += b[k];
}

static void step_bias(float *b, const float *dy, int rows, int n, float lr) {
  for (int i = 0; i < rows; i++)
    for (int k = 0; k < n; k++) b[k] -= lr * dy[i * n + k];
}

/* Adds up losses and hits; the gradient is that of the mean over the rows. */
static void cross_entropy(net *t) {
  for (int i = 0; i < t->rows; i++) {
    const float *z = t->logits + i * CLASSES;
    const int label = t->label[i];
    float sum = 0, e[CLASSES];
    int best = 0;
    for (int k = 1; k < CLASSES; k++) best = z[k] > z[best] ? k : best;
    for (int k = 0; k < CLASSES; k++) sum += e[k] = expf(z[k] - z[best]);
    t->tally.loss += (double)(logf(sum) - (z[label] - z[best]));
    t->tally.hits += best == label;
    for (int k = 0; t->train && k < CLASSES; k++)
      t->dlogits[i * CLASSES + k] = (e[k] / sum - (float)(k == label)) / (float)t->rows;
  }
}

static void lap(net *t, int part) {
  double at = now(CLOCK_MONOTONIC);
  t->tally.part[part] += at - t->clock;
  t->clock = at;
}

/* The first dense product is turned, y' = w x': twice as fast as y = x w' for so few rows. */
static void forward(net *t) {
  const int n = t->rows;
  chain_run(&t->conv1, t->stream);
  relu(t->y1.at, t->y1.n);
  lap(t, CONV1);
  chain_run(&t->conv2, t->stream);
  lap(t, CONV2);
  pool(t);
  relu(t->pooled.at, t->pooled.n);
  call_run(&t->flatten, t->stream);
  lap(t, POOL);
  if (t->train) drop(t, t->flat.at, t->mask_flat, t->flat.n, 0.25F * t->dropout);
  lap(t, DROP);
  gemm('N', 'T', HIDDEN, n, FLAT, 1, t->w + W3, t->flat.at, 0, t->turned);
  for (int i = 0; i < n * HIDDEN; i++) t->hidden[i] = t->turned[i % HIDDEN * n + i / HIDDEN];
  add_bias(t->hidden, t->w + B3, n, HIDDEN);
  relu(t->hidden, (size_t)n * HIDDEN);
  if (t->train) drop(t, t->hidden, t->mask_hidden, (size_t)n * HIDDEN, 0.5F * t->dropout);
  gemm('N', 'T', n, CLASSES, HIDDEN, 1, t->hidden, t->w + W4, 0, t->logits);
  add_bias(t->logits, t->w + B4, n, CLASSES);
  lap(t, DENSE);
  cross_entropy(t);
  lap(t, LOSS);
}

/* Gradients of dense layers go straight into their weights, once these have been used. */
static void backward(net *t, float lr) {
  const int n = t->rows;
  gemm('N', 'N', n, HIDDEN, CLASSES, 1, t->dlogits, t->w + W4, 0, t->dhidden);
  gemm('T', 'N', CLASSES, HIDDEN, n, -lr, t->dlogits, t->hidden, 1, t->w + W4);
  step_bias(t->w + B4, t->dlogits, n, CLASSES, lr);
  multiply(t->dhidden, t->mask_hidden, (size_t)n * HIDDEN);
  relu_back(t->hidden, t->dhidden, (size_t)n * HIDDEN);
  gemm('N', 'N', n, FLAT, HIDDEN, 1, t->dhidden, t->w + W3, 0, t->dflat.at);
  gemm('T', 'N', HIDDEN, FLAT, n, -lr, t->dhidden, t->flat.at, 1, t->w + W3);
  step_bias(t->w + B3, t->dhidden, n, HIDDEN, lr);
  lap(t, DENSE);
  multiply(t->dflat.at, t->mask_flat, t->flat.n);
  lap(t, DROP);
  call_run(&t->unflatten, t->stream);
  relu_back(t->pooled.at, t->dpooled.at, t->pooled.n);
  pool_back(t);
  lap(t, POOL);
  chain_run(&t->weights2, t->stream);
  lap(t, WEIGHTS2);
  chain_run(&t->data2, t->stream);
  relu_back(t->y1.at, t->dy1.at, t->y1.n);
  lap(t, DATA2);
  chain_run(&t->weights1, t->stream);
  for (int i = 0; i < CONVS; i++) t->w[i] -= lr * t->dw[i];
  lap(t, WEIGHTS1);
}

static void seat(net *t, const work *work) {
  t->clock = now(CLOCK_MONOTONIC);
  memcpy(t->w, work->w, WEIGHTS * sizeof *t->w);
  lap(t, SEAT);
}

void net_train(net *t, const work *work, const int32_t *rows) {
  const float weight = 1 / (float)work->cohort;
  seat(t, work);
  for (int i = 0; i < work->share; i++) {
    memcpy(t->x.at + i % BATCH * PIXELS, work->x + (int64_t)rows[i] * PIXELS, PIXELS * 4);
    t->label[i % BATCH] = work->y[rows[i]];
    if ((i + 1) % BATCH != 0) continue;
    lap(t, GATHER);
    forward(t);
    backward(t, work->lr);
  }
  for (int i = 0; i < WEIGHTS; i++) t->tally.sum[i] += weight * (t->w[i] - work->w[i]);
  lap(t, MIX);
}

void net_test(net *t, const work *work, int64_t first) {
  seat(t, work);
  memcpy(t->x.at, work->x_test + first * PIXELS, TEST_BATCH * PIXELS * sizeof *t->x.at);
  memcpy(t->label, work->y_test + first, TEST_BATCH * sizeof *t->label);
  forward(t);
}

tally *net_tally(net *t) { return &t->tally; }

const char *net_version(void) {
  static char text[32];
  const dnnl_version_t *v = dnnl_version();
  snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
  return text;
}
