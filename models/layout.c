/* Where activations and gradients live. Every buffer has a life, from the first to the last layer
 * pass that touches it: forward passes are times 0 .. L-1, backward passes L .. 2L-1. Buffers whose
 * lives do not meet share memory: the largest are placed first, each at the lowest offset that is
 * free for all of its life. */
#include <limits.h>
#include <stdlib.h>

#include "layers.h"

typedef struct block {
  int64_t size, at;
  int from, to;
  bool kept; /* in the history of implicit layers, not among the activations */
} block;

/* The buffers while they are being placed; arrays of n_layer + 1, by value. */
typedef struct builder {
  const fl_model *model;
  int L;
  bool train;
  int *use;       /* layers that read the value */
  int *root;      /* the value whose buffer this one shares; itself when it has its own */
  int *back_root; /* the same for gradients */
  unsigned *kept; /* FL_READS_ flags of the passes that will read the buffer after this value */
  block *value, *grad, *stat, *scratch;
} builder;

static void live(block *b, int time) {
  if (time < b->from) b->from = time;
  if (time > b->to) b->to = time;
}

static void grow(block *b, int64_t floats) {
  int64_t size = (floats + 15) / 16 * 16;
  if (size > b->size) b->size = size;
}

/* Whether layer i leaves every float where it is: a flatten of one channel before a dense layer
 * that alone reads it, and reads the activations, not a history. */
static bool moves_nothing(const builder *w, int i) {
  const fl_node *n = &w->model->node[i], *next = n + 1;
  return n->layer.kind == FL_FLATTEN && n->in.channels == 1 && w->use[n->x] == 1 && i + 1 < w->L &&
         next->layer.kind == FL_DENSE && next->x == i + 1 && w->use[i + 1] == 1 && !next->implicit;
}

/* Decides which values and gradients share the buffer of their layer's input. */
static void share(builder *w) {
  for (int i = 0; i < w->L; i++) {
    w->use[w->model->node[i].x]++;
    if (w->model->node[i].skip >= 0) w->use[w->model->node[i].skip]++;
  }
  for (int i = 0; i < w->L; i++) {
    const fl_node *n = &w->model->node[i];
    int y = i + 1;
    unsigned harm = w->kept[n->x] & (n->kind->keeps_sign ? ~(unsigned)FL_READS_SIGN_Y : ~0u);
    bool alone = n->x > 0 && w->use[n->x] == 1;
    bool over = (alone && n->kind->in_place && !harm) || moves_nothing(w, i);
    w->root[y] = over ? w->root[n->x] : y;
    w->kept[y] = (n->kind->reads & (FL_READS_Y | FL_READS_SIGN_Y)) | (over ? w->kept[n->x] : 0);
  }
  w->back_root[w->L] = w->L;
  for (int i = w->L - 1; i >= 0; i--) {
    const fl_node *n = &w->model->node[i];
    bool alone = n->x > 0 && w->use[n->x] == 1;
    if (alone && (n->kind->back_in_place || moves_nothing(w, i)))
      w->back_root[n->x] = w->back_root[i + 1];
  }
}

/* The inputs of implicit layers and the gradients of their outputs outlive the step. */
static void keep(builder *w) {
  for (int i = 0; i < w->L; i++) {
    if (!w->model->node[i].implicit) continue;
    w->value[w->root[w->model->node[i].x]].kept = true;
    w->grad[w->back_root[i + 1]].kept = true;
  }
}

/* The lives of the buffers that layer i touches on the way back. */
static void live_back(builder *w, int i) {
  const fl_node *n = &w->model->node[i];
  int y = i + 1, time = 2 * w->L - 1 - i;
  const int input[2] = {n->x, n->skip};
  const bool wanted[2] = {n->dx, n->dskip}, first[2] = {n->first, n->first_skip};
  if (n->kind->reads & FL_READS_X) live(&w->value[w->root[n->x]], time);
  if (n->kind->reads & (FL_READS_Y | FL_READS_SIGN_Y)) live(&w->value[w->root[y]], time);
  live(&w->stat[y], time);
  live(&w->grad[w->back_root[y]], time);
  grow(&w->grad[w->back_root[y]], fl_image_size(n->out));
  for (int k = 0; k < 2; k++) {
    if (!wanted[k]) continue;
    int64_t size = fl_image_size(fl_value_shape(w->model, input[k]));
    live(&w->grad[w->back_root[input[k]]], time);
    grow(&w->grad[w->back_root[input[k]]], size);
    if (first[k] || !n->kind->back_data) continue;
    live(&w->scratch[y], time);
    grow(&w->scratch[y], size);
  }
}

static void live_all(builder *w) {
  grow(&w->value[0], fl_image_size(w->model->info.input));
  for (int i = 0; i < w->L; i++) {
    const fl_node *n = &w->model->node[i];
    live(&w->value[w->root[n->x]], i);
    if (n->skip >= 0) live(&w->value[w->root[n->skip]], i);
    live(&w->value[w->root[i + 1]], i);
    grow(&w->value[w->root[i + 1]], fl_image_size(n->out));
    live(&w->stat[i + 1], i);
    grow(&w->stat[i + 1], n->n_stat);
    if (n->block_end) live(&w->value[w->root[n->block_end + 1]], i);
    if (n->block_end && n->pool) live(&w->stat[n->pool + 1], i);
    if (w->train && fl_goes_back(n)) live_back(w, i);
  }
}

static bool meet(const block *a, const block *b) {
  return a->from <= b->to && b->from <= a->to && a->at < b->at + b->size && b->at < a->at + a->size;
}

static int larger_first(const void *left, const void *right) {
  const block *a = *(block *const *)left, *b = *(block *const *)right;
  if (a->size != b->size) return a->size < b->size ? 1 : -1;
  return a < b ? -1 : a > b;
}

/* Places n blocks; the first n_fixed keep their order at the front. Returns the floats used. */
static int64_t place(int n, int n_fixed, block **b) {
  int64_t total = 0;
  qsort(b + n_fixed, (size_t)(n - n_fixed), sizeof *b, larger_first);
  for (int k = 0; k < n; k++) {
    b[k]->at = 0;
    for (int j = 0; j < k; j++) {
      if (!meet(b[k], b[j])) continue;
      b[k]->at = b[j]->at + b[j]->size;
      j = -1;
    }
    if (b[k]->at + b[k]->size > total) total = b[k]->at + b[k]->size;
  }
  return total;
}

/* The model's input, output and output gradient live for ever, in front; the rest follows. Kept
 * blocks lie one after another. */
static int64_t place_all(builder *w, block *blocks, block **order, int64_t *kept) {
  int n = 0, count = w->L + 1;
  *kept = 0;
  block *fixed[3] = {&w->value[0], &w->value[w->root[w->L]], &w->grad[w->L]};
  for (int k = 0; k < (w->train ? 3 : 2); k++) {
    live(fixed[k], 0);
    live(fixed[k], INT_MAX);
    order[n++] = fixed[k];
  }
  int n_fixed = n;
  for (int k = 0; k < 4 * count; k++) {
    if (blocks[k].size == 0 || blocks[k].to == INT_MAX) continue;
    if (!blocks[k].kept) order[n++] = &blocks[k];
    if (!blocks[k].kept) continue;
    blocks[k].at = *kept;
    *kept += blocks[k].size;
  }
  return place(n, n_fixed, order);
}

fl_status fl_layout_make(const fl_model *model, bool train, fl_layout *out) {
  fl_status status = FEDLANE_OK;
  size_t count = (size_t)model->n_layer + 1;
  int *ints = calloc(4 * count, sizeof *ints);
  block *blocks = calloc(4 * count, sizeof *blocks);
  block **order = calloc(4 * count, sizeof *order);
  out->at = calloc(count, sizeof *out->at);
  if (!ints || !blocks || !order || !out->at) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for the layout of %d layers", model->n_layer);
    goto done;
  }
  builder w = {.model = model,
               .L = model->n_layer,
               .train = train,
               .use = ints,
               .root = ints + count,
               .back_root = ints + 2 * count,
               .kept = (unsigned *)(ints + 3 * count),
               .value = blocks,
               .grad = blocks + count,
               .stat = blocks + 2 * count,
               .scratch = blocks + 3 * count};
  for (size_t k = 0; k < count; k++) w.back_root[k] = (int)k;
  for (size_t k = 0; k < 4 * count; k++) blocks[k].from = INT_MAX, blocks[k].to = -1;
  share(&w);
  if (train) keep(&w);
  live_all(&w);
  out->total = place_all(&w, blocks, order, &out->kept);
  for (size_t v = 0; v < count; v++) {
    const block *value = &w.value[w.root[v]], *grad = &w.grad[w.back_root[v]];
    out->at[v] = (fl_place){.value = value->at,
                            .grad = grad->at,
                            .stat = w.stat[v].at,
                            .scratch = w.scratch[v].at,
                            .value_kept = value->kept,
                            .grad_kept = grad->kept};
  }
done:
  free(ints);
  free(blocks);
  free(order);
  return status;
}
