#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "safetensors.h"

static fl_status download(fedlane_run *run) {
  fl_server *s = &run->server;
  FL_TRY(s->ops->download(s->dev, run->host_w, s->w, 4 * s->P));
  return s->ops->sync(s->dev);
}

fl_status fl_weights_save(fedlane_run *run, const char *path) {
  int n = fl_model_about(run->model)->n_tensor;
  char seed[32], round[32];
  fl_st_tensor *out = calloc((size_t)n, sizeof *out);
  fl_status status = FEDLANE_OK;
  if (!out) return fl_fail(FEDLANE_MEMORY, "no memory to save %d tensors", n);
  FL_GO(download(run));
  for (int i = 0; i < n; i++) {
    const fl_tensor *t = fl_model_tensor(run->model, i);
    out[i] = (fl_st_tensor){.name = t->name,
                            .type = FL_F32,
                            .n_dim = t->n_dim,
                            .count = t->count,
                            .data = run->host_w + t->at};
    for (int k = 0; k < t->n_dim; k++) out[i].dim[k] = t->dim[k];
  }
  snprintf(seed, sizeof seed, "%lld", (long long)run->config->general.seed);
  snprintf(round, sizeof round, "%d", run->round);
  const char *meta[] = {"format",       "pt", "fedlane.round", round,
                        "fedlane.seed", seed, "fedlane.name",  run->config->general.name};
  FL_GO(fl_st_write(path, n, out, FL_COUNT(meta) / 2, meta));
done:
  free(out);
  return status;
}

static bool same_shape(const fl_tensor *want, const fl_st_tensor *have) {
  if (have->n_dim != want->n_dim) return false;
  for (int k = 0; k < want->n_dim; k++)
    if (have->dim[k] != want->dim[k]) return false;
  return true;
}

fl_status fl_weights_load(const fl_model *model, const char *path, float *w) {
  fl_st_file *file = NULL;
  fl_status status;
  int n = fl_model_about(model)->n_tensor;
  FL_GO(fl_st_open(path, &file));
  if (fl_st_count(file) != n) {
    status =
        fl_fail(FEDLANE_DATA, "%s holds %d tensors; the model has %d", path, fl_st_count(file), n);
    goto done;
  }
  for (int i = 0; i < n; i++) {
    const fl_tensor *want = fl_model_tensor(model, i);
    const fl_st_tensor *have = fl_st_find(file, want->name);
    if (!have || have->type != FL_F32 || !same_shape(want, have)) {
      status = fl_fail(FEDLANE_DATA,
                       "%s: tensor '%s' is %s; the model needs it as F32 of %lld values in %d "
                       "dimensions",
                       path, want->name, have ? "of another type or shape" : "missing",
                       (long long)want->count, want->n_dim);
      goto done;
    }
    memcpy(w + want->at, have->data, 4 * (size_t)want->count);
  }
done:
  fl_st_close(&file);
  return status;
}

fedlane_status fedlane_save(fedlane_run *run, const char *path) {
  return fl_weights_save(run, path);
}

fedlane_status fedlane_tensor(fedlane_run *run, const char *name, const float **at,
                              int64_t *count) {
  for (int i = 0; i < fl_model_about(run->model)->n_tensor; i++) {
    const fl_tensor *t = fl_model_tensor(run->model, i);
    if (strcmp(t->name, name) != 0) continue;
    FL_TRY(download(run));
    *at = run->host_w + t->at;
    *count = t->count;
    return FEDLANE_OK;
  }
  return fl_fail(FEDLANE_USAGE, "the model has no tensor '%s'", name);
}
