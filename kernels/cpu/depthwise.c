/* Depthwise convolutions by vector loops: each place of the window, for one row of output pixels at
 * a time, is a row of inputs times one number a channel. Rows are short, so everything but the
 * first reading comes from the first cache level. */
#include <string.h>

#include "cpu.h"

enum { V = 16 };

/* Outputs from .. to-1 of a row see an input through a column of the window, output i the input at
 * first + i*stride. */
typedef struct reach {
  int from, to, first;
} reach;

static reach reach_of(const fl_window *s, int column) {
  int first = column - s->pad, last = s->in.width - 1 - first;
  int from = first < 0 ? (s->stride - 1 - first) / s->stride : 0;
  int to = last >= 0 ? last / s->stride + 1 : 0;
  return (reach){from, to < s->out.width ? to : s->out.width, first};
}

/* What the passes walk over: groups of channels that lie beside each other. */
typedef struct plan {
  const fl_window *s;
  int groups, beside, taps;
  int64_t in, out; /* floats a group */
  reach *column;   /* scratch: of each column of the window */
  float *filter;   /* scratch: filters or their gradients, [groups][taps][beside] */
  float *sum;      /* scratch: gradients of biases, [groups][beside] */
} plan;

static fl_status plan_make(fl_dev *d, const fl_window *s, plan *out) {
  int beside = fl_beside(s->in.channels);
  plan p = {.s = s, .groups = s->in.channels / beside, .beside = beside};
  void *scratch = NULL;
  p.taps = fl_window_kernel_h(s) * s->kernel;
  p.in = (int64_t)s->in.height * s->in.width * beside;
  p.out = (int64_t)s->out.height * s->out.width * beside;
  int64_t filters = (int64_t)s->in.channels * p.taps, floats = filters + s->in.channels;
  FL_TRY(fl_cpu_scratch(d, floats * (int64_t)sizeof(float) + s->kernel * (int64_t)sizeof(reach),
                        &scratch));
  p.filter = scratch;
  p.sum = p.filter + filters;
  p.column = (reach *)(p.sum + s->in.channels);
  for (int kw = 0; kw < s->kernel; kw++) p.column[kw] = reach_of(s, kw);
  *out = p;
  return FEDLANE_OK;
}

/* Filters [channels][taps] as the loops want them. */
static void lay_filters(const plan *p, const float *w) {
  for (int g = 0; g < p->groups; g++)
    for (int t = 0; t < p->taps; t++)
      for (int k = 0; k < p->beside; k++)
        p->filter[(g * p->taps + t) * p->beside + k] = w[(g * p->beside + k) * p->taps + t];
}

/* y[i] += w * x[i] for n pixels that are x_step and y_step pixels apart. */
static void add_line(int beside, int64_t n, const float *w, const float *restrict x, int64_t x_step,
                     float *restrict y, int64_t y_step) {
  if (beside == 1) {
    float one = *w;
    FL_SIMD
    for (int64_t i = 0; i < n; i++) y[i * y_step] += one * x[i * x_step];
    return;
  }
  fl_v16 all = *(const fl_v16 *)w;
  for (int64_t i = 0; i < n; i++) {
    fl_v16 *to = (fl_v16 *)(y + i * y_step * V);
    *to = FL_MADD(all, *(const fl_v16 *)(x + i * x_step * V), *to);
  }
}

static inline void product_at(int64_t i, const float *x, int64_t step, const float *dy,
                              fl_v16 *sum) {
  *sum = FL_MADD(*(const fl_v16 *)(x + i * step * V), *(const fl_v16 *)(dy + i * V), *sum);
}

/* sum += the products of n pixels of x, which are step pixels apart, and of dy. */
static void add_products(int beside, int64_t n, const float *restrict x, int64_t step,
                         const float *restrict dy, float *sum) {
  enum { CHAINS = 4 };
  fl_v16 part[CHAINS] = {{0}};
  float one = 0;
  for (int64_t i = 0; beside == 1 && i < n; i++) one += x[i * step] * dy[i];
  if (beside == 1) *sum += one;
  if (beside == 1) return;
  int64_t i = 0;
  for (; i + CHAINS <= n; i += CHAINS)
    for (int k = 0; k < CHAINS; k++) product_at(i + k, x, step, dy, &part[k]);
  for (; i < n; i++) product_at(i, x, step, dy, &part[0]);
  *(fl_v16 *)sum += (part[0] + part[1]) + (part[2] + part[3]);
}

/* One image's group through the window: x adds to the outputs, or y, gradients of outputs, to the
 * gradients of inputs, at `to`; both together add their products to the filters' place. */
static void walk(const plan *p, int g, const float *x, const float *y, float *to) {
  const fl_window *s = p->s;
  int64_t stride = s->stride;
  for (int h = 0; h < s->out.height; h++) {
    int top = h * fl_window_stride_h(s) - fl_window_pad_h(s);
    float *w = p->filter + (int64_t)g * p->taps * p->beside;
    for (int kh = 0; kh < fl_window_kernel_h(s); kh++)
      for (int kw = 0; kw < s->kernel; kw++, w += p->beside) {
        reach r = p->column[kw];
        if (top + kh < 0 || top + kh >= s->in.height || r.from >= r.to) continue;
        int64_t in = (int64_t)(top + kh) * s->in.width + r.first + r.from * stride,
                n = r.to - r.from;
        int64_t out = (int64_t)h * s->out.width + r.from;
        in *= p->beside;
        out *= p->beside;
        if (!y)
          add_line(p->beside, n, w, x + in, stride, to + out, 1);
        else if (!x)
          add_line(p->beside, n, w, y + out, 1, to + in, stride);
        else
          add_products(p->beside, n, x + in, stride, y + out, w);
      }
  }
}

fl_status fl_cpu_depthwise_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                               fl_cspan bias, fl_span y) {
  plan p;
  FL_TRY(plan_make(d, s, &p));
  for (int c = 0; c < b.C; c++) {
    const float *add = bias.at ? fl_lane(bias, c) : NULL;
    lay_filters(&p, fl_lane(w, c));
    for (int64_t n = 0; n < (int64_t)fl_rows_used(b, c) * p.groups; n++) {
      int g = (int)(n % p.groups);
      float *to = fl_lane_out(y, c) + n * p.out;
      for (int64_t i = 0; i < p.out; i += p.beside)
        for (int k = 0; k < p.beside; k++) to[i + k] = add ? add[g * p.beside + k] : 0;
      walk(&p, g, fl_lane(x, c) + n * p.in, NULL, to);
    }
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_depthwise_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                    fl_cspan w, fl_span dx) {
  plan p;
  FL_TRY(plan_make(d, s, &p));
  for (int c = 0; c < b.C; c++) {
    lay_filters(&p, fl_lane(w, c));
    for (int64_t n = 0; n < (int64_t)fl_rows_used(b, c) * p.groups; n++) {
      float *to = fl_lane_out(dx, c) + n * p.in;
      memset(to, 0, (size_t)p.in * sizeof *to);
      walk(&p, (int)(n % p.groups), NULL, fl_lane(dy, c) + n * p.out, to);
    }
  }
  return FEDLANE_OK;
}

/* gw += scale * the sums, likewise gbias. */
static void add_sums(const plan *p, float scale, float *gw, float *gbias) {
  for (int k = 0; k < p->s->in.channels; k++) {
    const float *sums = p->filter + (int64_t)(k / p->beside) * p->taps * p->beside + k % p->beside;
    for (int t = 0; t < p->taps; t++) gw[(int64_t)k * p->taps + t] += scale * sums[t * p->beside];
    if (gbias) gbias[k] += scale * p->sum[k];
  }
}

fl_status fl_cpu_depthwise_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                       fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias) {
  plan p;
  FL_TRY(plan_make(d, s, &p));
  for (int c = 0; c < b.C; c++) {
    memset(p.filter, 0, (size_t)s->in.channels * (size_t)(p.taps + 1) * sizeof(float));
    for (int64_t n = 0; n < (int64_t)fl_rows_used(b, c) * p.groups; n++) {
      int g = (int)(n % p.groups);
      const float *from = fl_lane(dy, c) + n * p.out;
      walk(&p, g, fl_lane(x, c) + n * p.in, from, NULL);
      for (int64_t i = 0; gbias.at && i < p.out; i += p.beside)
        for (int k = 0; k < p.beside; k++) p.sum[g * p.beside + k] += from[i + k];
    }
    add_sums(&p, fl_coef_at(scale, c), fl_lane_out(gw, c), gbias.at ? fl_lane_out(gbias, c) : NULL);
  }
  return FEDLANE_OK;
}

/* One image's columns; b: channels beside each other. */
static void turn_image(fl_image s, int b, bool back, const float *restrict x, float *restrict y) {
  int64_t features = (int64_t)s.channels * s.height;
  for (int64_t g = 0; g < s.channels / b; g++)
    for (int64_t h = 0; h < s.height; h++)
      for (int64_t w = 0; w < s.width; w++)
        for (int64_t k = 0; k < b; k++) {
          int64_t pixel = ((g * s.height + h) * s.width + w) * b + k;
          int64_t step = w * features + (g * b + k) * s.height + h;
          y[back ? pixel : step] = x[back ? step : pixel];
        }
}

/* Dead rows become zeros: of examples and of steps, not the same ones are worked on (fl_rows_used).
 */
fl_status fl_cpu_columns(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y) {
  (void)d;
  int64_t size = fl_image_size(s);
  for (int c = 0; c < b.C; c++) {
    const float *xs = fl_lane(x, c);
    float *ys = fl_lane_out(y, c);
    for (int row = 0; row < b.rows[c]; row++)
      turn_image(s, fl_beside(s.channels), back, xs + row * size, ys + row * size);
    memset(ys + b.rows[c] * size, 0, (size_t)((b.B - b.rows[c]) * size) * sizeof *ys);
  }
  return FEDLANE_OK;
}
