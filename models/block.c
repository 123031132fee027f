/* Layers that go together as one op, where the backend has it: fewer passes over activations. */
#include "layers.h"

/* The layer after i, when it alone reads the output of layer i, the model's input for i of -1; else
 * NULL. */
static fl_node *only_reader(fl_model *m, int i) {
  fl_node *reader = NULL;
  for (int j = i + 1; j < m->n_layer; j++) {
    fl_node *n = &m->node[j];
    if (n->x != i + 1 && n->skip != i + 1) continue;
    if (reader || n->skip == i + 1) return NULL;
    reader = n;
  }
  return reader && reader->place == i + 1 ? reader : NULL;
}

static bool is_relu(const fl_node *n) { return n && n->layer.kind == FL_RELU; }

static bool is_block_pool(const fl_node *n) {
  return n && n->layer.kind == FL_MAX_POOL && n->window.kernel == 2 && n->window.stride == 2 &&
         n->window.pad == 0;
}

/* The mask of a pooling layer, a byte an output. */
static void keep_mask(fl_node *conv, fl_node *pool) {
  conv->pool = pool->pool = pool->place;
  pool->n_stat = (fl_image_size(pool->out) + 3) / 4;
}

/* A convolution with the relu, and maybe the pooling, that follow it in either order. */
static void find_block(fl_model *m, fl_node *conv) {
  fl_node *second = only_reader(m, conv->place), *third = NULL;
  if (second) third = only_reader(m, second->place);
  if (is_block_pool(second) && is_relu(third)) {
    keep_mask(conv, second);
    third->covered = true;
    conv->block_end = third->place;
  } else if (is_relu(second) && is_block_pool(third)) {
    keep_mask(conv, third);
    second->covered = true;
    conv->block_end = third->place;
  } else if (is_relu(second)) {
    conv->block_end = second->place;
  }
}

/* A relu before a convolution that alone reads it goes back within the convolution's gradient. */
static void find_mask(fl_model *m, fl_node *relu) {
  fl_node *conv = only_reader(m, relu->place);
  bool alone = relu->dx && only_reader(m, relu->x - 1) == relu;
  if (relu->covered || !alone || !conv || conv->layer.kind != FL_CONV) return;
  conv->masks = relu->covered = true;
}

/* A dense layer of few outputs that alone reads the model's input, images of one channel, as they
 * come or flattened. */
static void find_pick(fl_model *m) {
  fl_image in = m->info.input;
  fl_node *first = only_reader(m, -1);
  if (first && first->layer.kind == FL_FLATTEN) first = only_reader(m, 0);
  bool fits = first && first->layer.kind == FL_DENSE && first->layer.out <= FL_PICK_OUT;
  if (fits && in.channels == 1 && in.steps == 0) first->picks = first->tie < 0;
}

bool fl_model_picks(const fl_model *m, const fl_ops *ops, const fl_source *source) {
  bool one = false;
  for (int i = 0; i < m->n_layer && i < 2; i++)
    one = one || (m->node[i].picks && !m->node[i].implicit);
  return one && ops->dense_pick_fwd && ops->dense_pick_bwd_weights && source->bytes &&
         source->crop == 0 && !source->flip;
}

void fl_blocks_find(fl_model *m) {
  find_pick(m);
  for (int i = 0; i < m->n_layer; i++)
    if (m->node[i].layer.kind == FL_CONV) find_block(m, &m->node[i]);
  for (int i = 0; i < m->n_layer; i++)
    if (is_relu(&m->node[i])) find_mask(m, &m->node[i]);
}
