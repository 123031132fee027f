/* Implicit dense layers: which they are, where their history lies, and their passes. */
#include <stdlib.h>

#include "layers.h"

enum { WORTH_IT = 1 << 16 }; /* least weights of an implicit layer: below, copies are cheap */

/* A step with weights of one's own reads them twice and writes them once; one with a history reads
 * half of it twice on the average. The factor of about four between the two leaves room for the
 * history's arithmetic. Layers whose input or output gradient has its fixed place in the
 * activations stay as they are. */
static bool implies(const fl_model *m, const fl_node *n, fl_imply how, int64_t rows) {
  int64_t I = n->in.channels, O = n->layer.out;
  bool later = false;
  for (int i = n->place + 1; i < m->n_layer; i++) later = later || m->node[i].n_tensor > 0;
  if (n->layer.kind != FL_DENSE || n->tie >= 0 || n->in.steps > 0 || n->x == 0 || !later ||
      how == FL_IMPLY_NEVER)
    return false;
  return how == FL_IMPLY_ALWAYS || (I * O >= WORTH_IT && rows * (I + O) <= I * O);
}

/* The sizes of a lane's history. */
static void size_history(fl_model *m, int64_t rows, int B) {
  fl_history_layout *h = &m->history;
  *h = (fl_history_layout){.B = B, .rows = rows};
  for (int i = 0; i < m->n_layer; i++) {
    const fl_node *n = &m->node[i];
    int wider = n->in.channels > n->layer.out ? n->in.channels : n->layer.out;
    if (n->implicit && wider > h->width) h->width = wider;
  }
  h->gram = (B + 15) / 16 * 16;
  h->scratch = h->gram + (B * rows + 15) / 16 * 16;
  h->kept = h->scratch + (B * h->width + 15) / 16 * 16;
}

static void add_part(fl_model *m, fl_part part) {
  if (part.n > 0) m->part[m->n_part++] = part;
}

/* Cuts the weight vector at the implicit layers. */
static void cut(fl_model *m) {
  int64_t at = 0;
  m->n_part = 0;
  for (int i = 0; i < m->n_layer; i++) {
    const fl_node *n = &m->node[i];
    if (!n->implicit) continue;
    const fl_tensor *t = &m->tensor[n->tensor];
    add_part(m, (fl_part){.at = at, .n = t->at - at});
    add_part(m, (fl_part){.at = t->at,
                          .n = t->count,
                          .implicit = true,
                          .I = n->in.channels,
                          .O = n->layer.out,
                          .x_at = fl_kept_at(m, m->train.at[n->x].value),
                          .d_at = fl_kept_at(m, m->train.at[i + 1].grad)});
    at = t->at + (t->count + 15) / 16 * 16;
  }
  add_part(m, (fl_part){.at = at, .n = m->info.P - at});
}

fl_status fl_model_imply(fl_model *m, fl_imply how, int64_t pieces, int B) {
  int n_implicit = 0;
  for (int i = 0; i < m->n_layer; i++) {
    m->node[i].implicit = implies(m, &m->node[i], how, pieces * B);
    n_implicit += m->node[i].implicit;
  }
  fl_part *part = realloc(m->part, ((size_t)n_implicit * 2 + 1) * sizeof *part);
  if (!part) return fl_fail(FEDLANE_MEMORY, "no memory for the parts of a model");
  m->part = part;
  free(m->train.at);
  FL_TRY(fl_layout_make(m, true, &m->train));
  size_history(m, pieces * B, B);
  cut(m);
  return FEDLANE_OK;
}

int64_t fl_model_history(const fl_model *m) {
  if (m->train.kept == 0) return 0;
  return (fl_kept_at(m, m->train.kept) + 15) / 16 * 16;
}

int fl_model_parts(const fl_model *m) { return m->n_part; }

const fl_part *fl_model_part(const fl_model *m, int i) { return &m->part[i]; }

fl_status fl_history_open(const fl_model *m, const fl_ops *ops, fl_dev *dev, int C, fl_span at) {
  if (fl_model_history(m) == 0) return FEDLANE_OK;
  return ops->fill(dev, C, m->history.B, 1, at);
}

/* Where one pass of one layer finds its pieces of the history. */
typedef struct view {
  int I, O, rows;     /* rows: of the pieces before */
  fl_cspan w0, extra; /* of this layer */
  fl_cspan x, d;      /* from the first piece's rows on */
  fl_cspan ones;
  fl_span gram, scratch;
} view;

static fl_span inside(const fl_history *h, int64_t at) {
  return (fl_span){h->at.at + at, h->at.stride};
}

static view view_of(const fl_model *m, const fl_history *h, const fl_pass *p) {
  const fl_node *n = p->node;
  int64_t w_at = m->tensor[n->tensor].at;
  const fl_place *at = m->train.at;
  view v = {.I = n->in.channels,
            .O = n->layer.out,
            .rows = h->piece * m->history.B,
            .w0 = {h->w0.at + w_at, h->w0.stride},
            .ones = fl_const(h->at),
            .gram = inside(h, m->history.gram),
            .scratch = inside(h, m->history.scratch)};
  if (h->extra.at) v.extra = (fl_cspan){h->extra.at + w_at, h->extra.stride};
  v.x = fl_const(inside(h, fl_kept_at(m, at[n->x].value)));
  v.d = fl_const(inside(h, fl_kept_at(m, at[n->place + 1].grad)));
  return v;
}

/* y = b*y + a*scratch, over n features a row. */
static fl_status add_scratch(const fl_pass *p, const view *v, int n, double a, double b,
                             fl_span y) {
  return p->ops->axpby(p->dev, p->b.C, (int64_t)p->b.B * n, fl_all(a), fl_const(v->scratch),
                       fl_all(b), y);
}

/* Dead rows of a piece stay in the history among living ones, so they have to be zero. */
static fl_status clear_dead(const fl_pass *p, int n, fl_span x) {
  for (int c = 0; c < p->b.C; c++) {
    int64_t live = p->b.rows[c];
    fl_span dead = {x.at + c * x.stride + live * n, 0};
    if (live < p->b.B) FL_TRY(p->ops->fill(p->dev, 1, (p->b.B - live) * n, 0, dead));
  }
  return FEDLANE_OK;
}

/* y = whole*y + pulled * product with E - keep * product with the history: forward of x into y,
 * else of dy into dx. */
static fl_status add_rest(const fl_history *h, const fl_pass *p, const view *v, bool forward,
                          double whole) {
  const fl_ops *ops = p->ops;
  int n = forward ? v->O : v->I, depth = forward ? v->I : v->O;
  fl_cspan in = fl_const(forward ? p->x : p->dy), near = forward ? v->x : v->d;
  fl_cspan far = forward ? v->d : v->x, none = {0};
  fl_span y = forward ? p->y : p->dx;
  if (h->pulled != 0 && v->extra.at) {
    FL_TRY(forward ? ops->dense_fwd(p->dev, p->b, v->I, v->O, in, v->extra, none, v->scratch)
                   : ops->dense_bwd_data(p->dev, p->b, v->I, v->O, in, v->extra, v->scratch));
    FL_TRY(add_scratch(p, v, n, h->pulled, whole, y));
    whole = 1;
  }
  if (v->rows > 0) {
    FL_TRY(ops->dense_fwd(p->dev, p->b, depth, v->rows, in, near, none, v->gram));
    FL_TRY(ops->dense_bwd_data(p->dev, p->b, n, v->rows, fl_const(v->gram), far, v->scratch));
    FL_TRY(add_scratch(p, v, n, -h->keep, whole, y));
    whole = 1;
  }
  if ((float)whole == 1) return FEDLANE_OK;
  return ops->axpby(p->dev, p->b.C, (int64_t)p->b.B * n, fl_all(0), none, fl_all(whole), y);
}

fl_status fl_implicit_forward(const fl_model *m, const fl_history *h, const fl_pass *p) {
  const fl_ops *ops = p->ops;
  view v = view_of(m, h, p);
  fl_cspan none = {0};
  bool bias_apart = p->bias.at && (float)h->whole != 1;
  double whole = p->bias.at ? 1 : h->whole; /* still to be multiplied */
  FL_TRY(clear_dead(p, v.I, p->x));
  FL_TRY(ops->dense_fwd(p->dev, p->b, v.I, v.O, fl_const(p->x), v.w0, bias_apart ? none : p->bias,
                        p->y));
  if (bias_apart) {
    FL_TRY(ops->dense_fwd(p->dev, p->b, 1, v.O, v.ones, p->bias, none, v.scratch));
    FL_TRY(add_scratch(p, &v, v.O, 1, h->whole, p->y));
  }
  return add_rest(h, p, &v, true, whole);
}

fl_status fl_implicit_data(const fl_model *m, const fl_history *h, const fl_pass *p) {
  view v = view_of(m, h, p);
  FL_TRY(p->ops->dense_bwd_data(p->dev, p->b, v.I, v.O, fl_const(p->dy), v.w0, p->dx));
  return add_rest(h, p, &v, false, h->whole);
}

fl_status fl_implicit_weights(const fl_model *m, const fl_history *h, const fl_pass *p) {
  view v = view_of(m, h, p);
  fl_cspan none = {0};
  fl_span no_bias = {0};
  if (p->gbias.at)
    FL_TRY(p->ops->dense_bwd_weights(p->dev, p->b, 1, v.O, v.ones, fl_const(p->dy), p->scale,
                                     p->gbias, no_bias));
  FL_TRY(
      p->ops->axpby(p->dev, p->b.C, (int64_t)p->b.B * v.O, fl_all(0), none, fl_all(h->add), p->dy));
  return clear_dead(p, v.O, p->dy);
}
