/* The only file that knows oneDNN. It compiles with 2.x, which describes an operation before it
 * asks for a primitive, and with 3.x, which asks at once; everything else is common.
 *
 * Everything here runs on the calling thread: an OpenMP build of oneDNN asks how many threads it
 * may use when a primitive is made and when it runs, and is told one both times. So the bits are
 * the same inside and outside a parallel region. */
#include <dnnl.h>
#include <omp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t layout_ref;
static layout_ref layout_of(const layout *l) { return *l; }
static dnnl_status_t layout_make(layout *out, int n, const dnnl_dims_t dims,
                                 dnnl_format_tag_t tag) {
  return dnnl_memory_desc_create_with_tag(out, n, dims, dnnl_f32, tag);
}
static void layout_drop(layout *l) {
  if (*l) dnnl_memory_desc_destroy(*l);
}
#else
typedef dnnl_memory_desc_t layout;
typedef const dnnl_memory_desc_t *layout_ref;
static layout_ref layout_of(const layout *l) { return l; }
static dnnl_status_t layout_make(layout *out, int n, const dnnl_dims_t dims,
                                 dnnl_format_tag_t tag) {
  return dnnl_memory_desc_init_by_tag(out, n, dims, dnnl_f32, tag);
}
static void layout_drop(layout *l) { (void)l; }
#endif

/* The tensors of a convolution; x and y are gradients in the backward passes. */
enum { X, W, BIAS, Y, SIDES };

/* One tensor: `outer` is the caller's, `inner` what the primitive works on. They are the same
 * object unless the layouts differ; then one is copied into the other, by `turn` or, where it is
 * NULL, from planes to vectors of 16 channels or back. */
typedef struct side {
  dnnl_memory_t outer, inner;
  dnnl_primitive_t turn;
  int64_t inner_bytes; /* of scratch; 0 when there is none */
  bool read, used;
} side;

typedef struct conv_key {
  fl_window s;
  int pass, rows, bias;
} conv_key;

struct fl_nn_conv {
  conv_key key;
  dnnl_primitive_t primitive;
  dnnl_memory_t pad; /* oneDNN's scratchpad */
  int64_t pad_bytes;
  side side[SIDES];
  int arg[SIDES];
  char *scratch; /* where the handles of pad and the inner tensors point */
  char name[48];
};

struct fl_nn {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_attr_t attr;
  fl_nn_conv **conv;
  int n_conv;
  char *scratch;
  int64_t scratch_bytes;
};

#define NN_TRY(call)                                                                               \
  do {                                                                                             \
    dnnl_status_t nn_status_ = (call);                                                             \
    if (nn_status_ != dnnl_success)                                                                \
      return fl_fail(FEDLANE_DEVICE, "oneDNN refused with status %d: %s", (int)nn_status_, #call); \
  } while (0)

fl_status fl_nn_open(fl_nn **out) {
  fl_nn *nn = *out = calloc(1, sizeof *nn);
  if (!nn) return fl_fail(FEDLANE_MEMORY, "no memory for a oneDNN engine");
  NN_TRY(dnnl_engine_create(&nn->engine, dnnl_cpu, 0));
  NN_TRY(dnnl_stream_create(&nn->stream, nn->engine, dnnl_stream_default_flags));
  NN_TRY(dnnl_primitive_attr_create(&nn->attr));
  NN_TRY(dnnl_primitive_attr_set_scratchpad_mode(nn->attr, dnnl_scratchpad_mode_user));
  return FEDLANE_OK;
}

/* Windows end in a flag and whatever lies behind it. */
static bool same(const conv_key *a, const conv_key *b) {
  return a->pass == b->pass && a->rows == b->rows && a->bias == b->bias && a->s.flat == b->s.flat &&
         !memcmp(&a->s, &b->s, offsetof(fl_window, flat));
}

static void conv_close(fl_nn_conv *conv) {
  for (int i = 0; i < SIDES; i++) {
    side *t = &conv->side[i];
    if (t->turn) dnnl_primitive_destroy(t->turn);
    if (t->inner && t->inner != t->outer) dnnl_memory_destroy(t->inner);
    if (t->outer) dnnl_memory_destroy(t->outer);
  }
  if (conv->pad) dnnl_memory_destroy(conv->pad);
  if (conv->primitive) dnnl_primitive_destroy(conv->primitive);
  free(conv);
}

void fl_nn_close(fl_nn **out) {
  fl_nn *nn = *out;
  if (!nn) return;
  for (int i = 0; i < nn->n_conv; i++) conv_close(nn->conv[i]);
  free(nn->conv);
  free(nn->scratch);
  if (nn->attr) dnnl_primitive_attr_destroy(nn->attr);
  if (nn->stream) dnnl_stream_destroy(nn->stream);
  if (nn->engine) dnnl_engine_destroy(nn->engine);
  free(nn);
  *out = NULL;
}

static dnnl_format_tag_t image_tag(int channels) {
  return fl_beside(channels) == 16 ? dnnl_nChw16c : dnnl_nchw;
}

/* Asks for a convolution whose tensors have the given layouts. */
static dnnl_status_t ask(fl_nn *nn, const conv_key *key, const layout *want,
                         dnnl_primitive_desc_t *out) {
  const dnnl_alg_kind_t how = dnnl_convolution_direct;
  const fl_window *s = &key->s;
  dnnl_dims_t stride = {fl_window_stride_h(s), s->stride}, pad = {fl_window_pad_h(s), s->pad};
  layout_ref x = layout_of(&want[X]), w = layout_of(&want[W]), y = layout_of(&want[Y]);
  layout_ref bias = key->bias ? layout_of(&want[BIAS]) : NULL;
#if DNNL_VERSION_MAJOR >= 3
  dnnl_dims_t dilate = {0, 0};
  if (key->pass == FL_PASS_FWD)
    return dnnl_convolution_forward_primitive_desc_create(out, nn->engine, dnnl_forward_training,
                                                          how, x, w, bias, y, stride, dilate, pad,
                                                          pad, nn->attr);
  if (key->pass == FL_PASS_BWD_DATA)
    return dnnl_convolution_backward_data_primitive_desc_create(
        out, nn->engine, how, x, w, y, stride, dilate, pad, pad, NULL, nn->attr);
  return dnnl_convolution_backward_weights_primitive_desc_create(
      out, nn->engine, how, x, w, bias, y, stride, dilate, pad, pad, NULL, nn->attr);
#else
  dnnl_convolution_desc_t desc;
  dnnl_status_t status;
  if (key->pass == FL_PASS_FWD)
    status = dnnl_convolution_forward_desc_init(&desc, dnnl_forward_training, how, x, w, bias, y,
                                                stride, pad, pad);
  else if (key->pass == FL_PASS_BWD_DATA)
    status = dnnl_convolution_backward_data_desc_init(&desc, how, x, w, y, stride, pad, pad);
  else
    status =
        dnnl_convolution_backward_weights_desc_init(&desc, how, x, w, bias, y, stride, pad, pad);
  if (status != dnnl_success) return status;
  return dnnl_primitive_desc_create(out, &desc, nn->attr, nn->engine, NULL);
#endif
}

static const char *name_of(dnnl_primitive_desc_t pd) {
  const char *name = "";
  dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
  return name;
}

static bool is_slow(dnnl_primitive_desc_t pd) {
  return !strncmp(name_of(pd), "ref", 3) || !strncmp(name_of(pd), "gemm", 4);
}

/* oneDNN likes vectors of 16 channels, and pictures of 1 to 3 planes as what is read. */
static bool likes(const conv_key *key) {
  fl_image x = key->s.in, y = key->s.out;
  bool picture = x.channels <= 3 && key->pass != FL_PASS_BWD_DATA;
  return (fl_beside(x.channels) == 16 || picture) && fl_beside(y.channels) == 16;
}

/* The private order where oneDNN has a fast kernel for it, else whatever order it prefers. A fixed
 * rule of the shape, so that bits repeat. Winograd is ours (winograd.c). */
static fl_status choose(fl_nn *nn, const conv_key *key, const layout *own, const layout *any,
                        dnnl_primitive_desc_t *out) {
  if (likes(key) && ask(nn, key, own, out) == dnnl_success) {
    if (!is_slow(*out)) return FEDLANE_OK;
    dnnl_primitive_desc_destroy(*out);
  }
  *out = NULL;
  NN_TRY(ask(nn, key, any, out));
  return FEDLANE_OK;
}

/* Makes one side: the caller's layout against the one that the primitive asks for. */
static fl_status side_make(fl_nn *nn, side *t, const layout *own, const layout *vectors,
                           layout_ref need) {
  layout_ref mine = layout_of(own);
  t->used = true;
  NN_TRY(dnnl_memory_create(&t->outer, mine, nn->engine, DNNL_MEMORY_NONE));
  t->inner = t->outer;
  if (dnnl_memory_desc_equal(mine, need)) return FEDLANE_OK;
  t->inner = NULL;
  NN_TRY(dnnl_memory_create(&t->inner, need, nn->engine, DNNL_MEMORY_NONE));
  t->inner_bytes = ((int64_t)dnnl_memory_desc_get_size(need) + 63) / 64 * 64;
  if (dnnl_memory_desc_equal(layout_of(vectors), need)) return FEDLANE_OK;
  dnnl_primitive_desc_t pd = NULL;
  NN_TRY(dnnl_reorder_primitive_desc_create(&pd, t->read ? mine : need, nn->engine,
                                            t->read ? need : mine, nn->engine, NULL));
  dnnl_status_t status = dnnl_primitive_create(&t->turn, pd);
  dnnl_primitive_desc_destroy(pd);
  NN_TRY(status);
  return FEDLANE_OK;
}

static fl_status sides_make(fl_nn *nn, fl_nn_conv *conv, dnnl_primitive_desc_t pd,
                            const layout *own, const layout *vectors) {
  static const struct {
    int side, arg;
    bool read;
    dnnl_query_t query;
  } role[3][SIDES] = {
      {{X, DNNL_ARG_SRC, true, dnnl_query_src_md},
       {W, DNNL_ARG_WEIGHTS, true, dnnl_query_weights_md},
       {BIAS, DNNL_ARG_BIAS, true, dnnl_query_weights_md},
       {Y, DNNL_ARG_DST, false, dnnl_query_dst_md}},
      {{X, DNNL_ARG_DIFF_SRC, false, dnnl_query_diff_src_md},
       {W, DNNL_ARG_WEIGHTS, true, dnnl_query_weights_md},
       {BIAS, 0, false, dnnl_query_undef},
       {Y, DNNL_ARG_DIFF_DST, true, dnnl_query_diff_dst_md}},
      {{X, DNNL_ARG_SRC, true, dnnl_query_src_md},
       {W, DNNL_ARG_DIFF_WEIGHTS, false, dnnl_query_diff_weights_md},
       {BIAS, DNNL_ARG_DIFF_BIAS, false, dnnl_query_diff_weights_md},
       {Y, DNNL_ARG_DIFF_DST, true, dnnl_query_diff_dst_md}},
  };
  for (int i = 0; i < SIDES; i++) {
    if (i == BIAS && !conv->key.bias) continue;
    conv->arg[i] = role[conv->key.pass][i].arg;
    conv->side[i].read = role[conv->key.pass][i].read;
    layout_ref need = dnnl_primitive_desc_query_md(pd, role[conv->key.pass][i].query, i == BIAS);
    FL_TRY(side_make(nn, &conv->side[i], &own[i], &vectors[i], need));
  }
  layout_ref pad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
  NN_TRY(dnnl_memory_create(&conv->pad, pad, nn->engine, DNNL_MEMORY_NONE));
  conv->pad_bytes = ((int64_t)dnnl_memory_desc_get_size(pad) + 63) / 64 * 64;
  return FEDLANE_OK;
}

/* Makes room for the largest convolution so far. */
static fl_status scratch_grow(fl_nn *nn, const fl_nn_conv *conv) {
  int64_t bytes = conv->pad_bytes + 64;
  for (int i = 0; i < SIDES; i++) bytes += conv->side[i].inner_bytes;
  if (bytes <= nn->scratch_bytes) return FEDLANE_OK;
  free(nn->scratch);
  nn->scratch_bytes = 0;
  nn->scratch = aligned_alloc(64, (size_t)bytes);
  if (!nn->scratch)
    return fl_fail(FEDLANE_MEMORY, "no %lld bytes left for a convolution", (long long)bytes);
  nn->scratch_bytes = bytes;
  return FEDLANE_OK;
}

static fl_status conv_make(fl_nn *nn, fl_nn_conv *conv) {
  const fl_window *s = &conv->key.s;
  dnnl_dims_t dims[SIDES] = {
      {conv->key.rows, s->in.channels, s->in.height, s->in.width},
      {s->out.channels, s->in.channels, fl_window_kernel_h(s), s->kernel},
      {s->out.channels},
      {conv->key.rows, s->out.channels, s->out.height, s->out.width},
  };
  dnnl_format_tag_t tag[SIDES] = {image_tag(s->in.channels), dnnl_oihw, dnnl_x,
                                  image_tag(s->out.channels)};
  layout own[SIDES] = {0}, want[SIDES] = {0}, any[SIDES] = {0}, vectors[SIDES] = {0};
  dnnl_primitive_desc_t pd = NULL;
  fl_status status = FEDLANE_OK;
  for (int i = 0; i < SIDES; i++) {
    int n = i == BIAS ? 1 : 4;
    dnnl_format_tag_t free_tag = i == BIAS ? dnnl_x : dnnl_format_tag_any;
    layout_make(&own[i], n, dims[i], tag[i]);
    layout_make(&want[i], n, dims[i], i == W ? free_tag : tag[i]);
    layout_make(&any[i], n, dims[i], free_tag);
    layout_make(&vectors[i], n, dims[i], i == X || i == Y ? dnnl_nChw16c : tag[i]);
  }
  FL_GO(choose(nn, &conv->key, want, any, &pd));
  strncpy(conv->name, name_of(pd), sizeof conv->name - 1);
  if (dnnl_primitive_create(&conv->primitive, pd) != dnnl_success)
    FL_GO(fl_fail(FEDLANE_DEVICE, "oneDNN cannot make the convolution %s", conv->name));
  FL_GO(sides_make(nn, conv, pd, own, vectors));
  FL_GO(scratch_grow(nn, conv));
done:
  for (int i = 0; i < SIDES; i++) {
    layout_drop(&own[i]);
    layout_drop(&want[i]);
    layout_drop(&any[i]);
    layout_drop(&vectors[i]);
  }
  if (pd) dnnl_primitive_desc_destroy(pd);
  return status;
}

/* One thread for what follows; returns what to give back to serial_end. */
static int serial_begin(void) {
  int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  return threads;
}

static void serial_end(int threads) { omp_set_num_threads(threads); }

fl_status fl_nn_conv_get(fl_nn *nn, fl_pass pass, int rows, bool bias, const fl_window *s,
                         fl_nn_conv **out) {
  conv_key key = {.s = *s, .pass = (int)pass, .rows = rows, .bias = bias};
  for (int i = 0; i < nn->n_conv; i++)
    if (same(&nn->conv[i]->key, &key)) {
      *out = nn->conv[i];
      return FEDLANE_OK;
    }
  fl_nn_conv **more = realloc(nn->conv, (size_t)(nn->n_conv + 1) * sizeof *more);
  if (more) nn->conv = more;
  fl_nn_conv *conv = more ? calloc(1, sizeof *conv) : NULL;
  if (!conv) return fl_fail(FEDLANE_MEMORY, "no memory for a convolution");
  conv->key = key;
  int threads = serial_begin();
  fl_status status = conv_make(nn, conv);
  serial_end(threads);
  if (status != FEDLANE_OK) {
    conv_close(conv);
    return status;
  }
  *out = nn->conv[nn->n_conv++] = conv;
  return FEDLANE_OK;
}

/* Points the scratchpad and the inner tensors into the scratch, if it has moved. */
static fl_status scratch_place(fl_nn *nn, fl_nn_conv *conv) {
  if (conv->scratch == nn->scratch) return FEDLANE_OK;
  char *at = nn->scratch;
  NN_TRY(dnnl_memory_set_data_handle(conv->pad, at));
  at += conv->pad_bytes;
  for (int i = 0; i < SIDES; i++) {
    side *t = &conv->side[i];
    if (t->inner_bytes == 0) continue;
    NN_TRY(dnnl_memory_set_data_handle(t->inner, at));
    at += t->inner_bytes;
  }
  conv->scratch = nn->scratch;
  return FEDLANE_OK;
}

/* One image from planes to vectors of 16 channels, the last one filled up with zeros, or back; some
 * pixels of all channels after another, so that their vectors stay in the first cache level. */
static void turn_image(bool back, int channels, int64_t pixels, float *planes, float *vectors) {
  enum { PART = 64 };
  int64_t whole = channels / 16 * 16 * pixels, all = (channels + 15) / 16 * 16 * pixels;
  if (!back) memset(vectors + whole, 0, (size_t)(all - whole) * sizeof(float));
  for (int64_t first = 0; first < pixels; first += PART)
    for (int k = 0; k < channels; k++) {
      float *plane = planes + k * pixels, *lane = vectors + k / 16 * 16 * pixels + k % 16;
      int64_t end = first + PART < pixels ? first + PART : pixels;
      if (back)
        for (int64_t p = first; p < end; p++) plane[p] = lane[p * 16];
      else
        for (int64_t p = first; p < end; p++) lane[p * 16] = plane[p];
    }
}

static fl_status turn(fl_nn *nn, const fl_nn_conv *conv, int i) {
  const side *t = &conv->side[i];
  if (t->turn) {
    dnnl_exec_arg_t arg[2] = {{DNNL_ARG_FROM, t->read ? t->outer : t->inner},
                              {DNNL_ARG_TO, t->read ? t->inner : t->outer}};
    NN_TRY(dnnl_primitive_execute(t->turn, nn->stream, 2, arg));
    return FEDLANE_OK;
  }
  void *planes = NULL, *vectors = NULL;
  NN_TRY(dnnl_memory_get_data_handle(t->outer, &planes));
  NN_TRY(dnnl_memory_get_data_handle(t->inner, &vectors));
  fl_image s = i == X ? conv->key.s.in : conv->key.s.out;
  int64_t pixels = (int64_t)s.height * s.width, up = (s.channels + 15) / 16 * 16;
  for (int64_t row = 0; row < conv->key.rows; row++)
    turn_image(!t->read, s.channels, pixels, (float *)planes + row * s.channels * pixels,
               (float *)vectors + row * up * pixels);
  return FEDLANE_OK;
}

static fl_status run(fl_nn *nn, fl_nn_conv *conv, float *const at[SIDES]) {
  dnnl_exec_arg_t arg[SIDES + 1] = {{DNNL_ARG_SCRATCHPAD, conv->pad}};
  int n = 1;
  FL_TRY(scratch_place(nn, conv));
  for (int i = 0; i < SIDES; i++) {
    const side *t = &conv->side[i];
    if (!t->used) continue;
    NN_TRY(dnnl_memory_set_data_handle(t->outer, at[i]));
    if (t->inner_bytes > 0 && t->read) FL_TRY(turn(nn, conv, i));
    arg[n].arg = conv->arg[i];
    arg[n++].memory = t->inner;
  }
  NN_TRY(dnnl_primitive_execute(conv->primitive, nn->stream, n, arg));
  for (int i = 0; i < SIDES; i++)
    if (conv->side[i].inner_bytes > 0 && !conv->side[i].read) FL_TRY(turn(nn, conv, i));
  NN_TRY(dnnl_stream_wait(nn->stream));
  return FEDLANE_OK;
}

fl_status fl_nn_conv_run(fl_nn *nn, fl_nn_conv *conv, float *x, float *w, float *bias, float *y) {
  float *const at[SIDES] = {x, w, bias, y};
  int threads = serial_begin();
  fl_status status = run(nn, conv, at);
  serial_end(threads);
  return status;
}

const char *fl_nn_conv_name(const fl_nn_conv *conv) { return conv->name; }

fl_status fl_nn_gemm(int64_t m, int64_t n, int64_t k, float alpha, fl_matrix a, fl_matrix b,
                     float beta, float *c, int64_t step) {
  int threads = serial_begin();
  dnnl_status_t status = dnnl_sgemm(a.turned ? 'T' : 'N', b.turned ? 'T' : 'N', m, n, k, alpha,
                                    a.at, a.step, b.at, b.step, beta, c, step);
  serial_end(threads);
  NN_TRY(status);
  return FEDLANE_OK;
}
