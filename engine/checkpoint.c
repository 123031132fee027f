/* A checkpoint is `output`/checkpoint/state.safetensors (round, digest, server vectors, which half
 * of each client's place counts and its sum, and a sum over all of these) and clients.bin (two
 * halves a client). The state file is written last, aside, and renamed: whatever is interrupted,
 * the previous checkpoint stays whole.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "files.h"
#include "run.h"
#include "safetensors.h"

static const char *const slot_name[FL_SLOTS] = {"slot0", "slot1", "slot2", "slot3"};
static const char SIDES[] = "clients", SUMS[] = "client_sums"; /* what fl_store_save() says */

typedef struct paths {
  char *folder, *state, *clients;
} paths;

static fl_status paths_open(const fedlane_run *run, paths *p) {
  p->folder = fl_path_join(run->config->general.output, "checkpoint");
  p->state = p->folder ? fl_path_join(p->folder, "state.safetensors") : NULL;
  p->clients = p->folder ? fl_path_join(p->folder, "clients.bin") : NULL;
  if (p->state && p->clients) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no memory for the name of a checkpoint");
}

static void paths_close(paths *p) {
  free(p->folder);
  free(p->state);
  free(p->clients);
}

enum { SUM = 17 };

/* The sum over a round and n tensors as text. */
static void sum_of(const char *round, int n, const fl_st_tensor *t, char out[SUM]) {
  uint64_t h = fl_digest(round, strlen(round));
  for (int i = 0; i < n; i++)
    h = fl_digest_on(h, t[i].data, (size_t)(t[i].count * fl_dtype_size(t[i].type)));
  snprintf(out, SUM, "%016" PRIx64, h);
}

static fl_st_tensor row_of(const char *name, fl_dtype type, int64_t n, const void *data) {
  return (fl_st_tensor){
      .name = name, .type = type, .n_dim = 1, .dim = {n}, .count = n, .data = data};
}

static fl_status write_state(fedlane_run *run, const char *path) {
  const fl_server *s = &run->server;
  int n = 1 + run->algorithm->n_server_slot, count = 0;
  fl_st_tensor out[FL_SLOTS + 3];
  char round[32], sum[SUM];
  float *copy = malloc((size_t)(4 * s->P * n));
  fl_status status = FEDLANE_OK;
  if (!copy) return fl_fail(FEDLANE_MEMORY, "no memory for a checkpoint of %d vectors", n);
  for (int i = 0; i < n; i++) {
    float *to = copy + i * s->P;
    FL_GO(s->ops->download(s->dev, to, i ? s->slot[i - 1] : s->w, 4 * s->P));
    out[count++] = row_of(i ? slot_name[i - 1] : "w", FL_F32, s->P, to);
  }
  FL_GO(s->ops->sync(s->dev));
  if (run->store.n > 0) {
    out[count++] = row_of(SIDES, FL_U8, run->store.n, run->store.fresh);
    out[count++] = row_of(SUMS, FL_I64, run->store.n, run->store.sum);
  }
  snprintf(round, sizeof round, "%d", run->round);
  sum_of(round, count, out, sum);
  const char *meta[] = {"kind",   "fedlane checkpoint 1", "round", round,
                        "digest", run->config->digest,    "sum",   sum};
  FL_GO(fl_st_write(path, count, out, FL_COUNT(meta) / 2, meta));
done:
  free(copy);
  return status;
}

fl_status fl_checkpoint_save(fedlane_run *run) {
  paths p = {0};
  fl_status status;
  if (!*run->config->general.output || run->last_checkpoint == run->round) return FEDLANE_OK;
  FL_GO(paths_open(run, &p));
  FL_GO(fl_make_folder(p.folder));
  FL_GO(fl_store_save(&run->store, p.clients));
  FL_GO(write_state(run, p.state));
  fl_store_saved(&run->store);
  run->last_checkpoint = run->round;
done:
  paths_close(&p);
  return status;
}

/* Finds a tensor, which joins those that have been found. */
static fl_status vector_of(const fl_st_file *file, const char *path, const char *name,
                           fl_dtype type, int64_t count, fl_st_tensor *found, int *n) {
  const fl_st_tensor *t = fl_st_find(file, name);
  if (!t || t->type != type || t->count != count)
    return fl_fail(FEDLANE_DATA, "%s: '%s' is missing or not %lld values of %s", path, name,
                   (long long)count, fl_dtype_name(type));
  found[(*n)++] = *t;
  return FEDLANE_OK;
}

static bool read_round(const char *text, int *out) {
  char *end;
  long round = strtol(text, &end, 10);
  *out = (int)round;
  return *text && !*end && round >= 0 && round <= INT32_MAX;
}

static fl_status read_state(fedlane_run *run, const fl_st_file *file, const paths *p) {
  fl_server *s = &run->server;
  const char *digest = fl_st_metadata(file, "digest"), *round = fl_st_metadata(file, "round");
  const char *said = fl_st_metadata(file, "sum");
  fl_st_tensor found[FL_SLOTS + 3];
  char sum[SUM];
  int last = 0, n = 0, n_server = 1 + run->algorithm->n_server_slot;
  if (!digest || !said || !round || !read_round(round, &last))
    return fl_fail(FEDLANE_DATA, "%s is not a checkpoint of fedlane", p->state);
  if (strcmp(digest, run->config->digest) != 0)
    return fl_fail(FEDLANE_USAGE,
                   "%s belongs to another configuration (digest %s; this one has %s); compare "
                   "%s/config.yaml, or choose another output",
                   p->state, digest, run->config->digest, run->config->general.output);
  for (int i = 0; i < n_server; i++)
    FL_TRY(vector_of(file, p->state, i ? slot_name[i - 1] : "w", FL_F32, s->P, found, &n));
  if (run->store.n > 0) FL_TRY(vector_of(file, p->state, SIDES, FL_U8, run->store.n, found, &n));
  if (run->store.n > 0 && fl_st_find(file, SUMS)) /* older checkpoints have none */
    FL_TRY(vector_of(file, p->state, SUMS, FL_I64, run->store.n, found, &n));
  sum_of(round, n, found, sum);
  if (strcmp(sum, said) != 0)
    return fl_fail(FEDLANE_DATA, "%s is damaged: its sum is %s, and it should be %s", p->state, sum,
                   said);
  for (int i = 0; i < n_server; i++)
    FL_TRY(s->ops->upload(s->dev, i ? s->slot[i - 1] : s->w, found[i].data, 4 * s->P));
  if (run->store.n > 0)
    FL_TRY(fl_store_load(&run->store, p->clients, found[n_server].data,
                         n > n_server + 1 ? found[n_server + 1].data : NULL));
  run->round = run->last_checkpoint = last;
  return FEDLANE_OK;
}

fl_status fl_checkpoint_load(fedlane_run *run) {
  paths p = {0};
  fl_st_file *file = NULL;
  fl_status status;
  FL_GO(paths_open(run, &p));
  if (!fl_file_exists(p.state)) goto done; /* killed before its first checkpoint: from the start */
  FL_GO(fl_st_open(p.state, &file));
  FL_GO(read_state(run, file, &p));
done:
  fl_st_close(&file);
  paths_close(&p);
  return status;
}
