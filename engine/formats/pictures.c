#include "pictures.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fl_status fl_pictures_add(fl_pictures *set, const fl_picture *p) {
  if (set->n == set->room) {
    int64_t room = set->room ? 2 * set->room : 1024;
    fl_picture *grown = realloc(set->at, (size_t)room * sizeof *grown);
    if (!grown)
      return fl_fail(FEDLANE_MEMORY, "no memory for a list of %lld images", (long long)room);
    set->at = grown;
    set->room = room;
  }
  fl_picture *own = &set->at[set->n++];
  *own = *p;
  own->path = strdup(p->path);
  bool all = own->path;
  for (int k = 0; k < FL_PICTURE_MORE && p->more[k]; k++) {
    own->more[k] = strdup(p->more[k]);
    all = all && own->more[k];
  }
  return all ? FEDLANE_OK : fl_fail(FEDLANE_MEMORY, "no memory for the path %s", p->path);
}

static void forget(fl_picture *p) {
  free(p->path);
  for (int k = 0; k < FL_PICTURE_MORE; k++) free(p->more[k]);
}

void fl_pictures_close(fl_pictures *set) {
  for (int64_t i = 0; i < set->n; i++) forget(&set->at[i]);
  free(set->at);
  set->at = NULL;
  set->n = set->room = 0;
}

fl_status fl_pictures_forgive(const fl_pictures *set, fl_status status) {
  bool bad = status == FEDLANE_DATA || status == FEDLANE_IO;
  if (!bad || !set->how->skip_bad) return status;
  set->out->skipped++;
  return fl_dataset_note(set->out, "left out: %s", fedlane_error());
}

/* Training examples before test examples, else in the order of the list. */
static fl_status part(fl_pictures *set) {
  fl_picture *parted = malloc((size_t)set->n * sizeof *parted);
  int64_t n = 0;
  if (!parted) return fl_fail(FEDLANE_MEMORY, "no memory for %lld images", (long long)set->n);
  for (int test = 0; test < 2; test++)
    for (int64_t i = 0; i < set->n; i++)
      if (set->at[i].test == test) parted[n++] = set->at[i];
  free(set->at);
  set->at = parted;
  set->room = set->n;
  return FEDLANE_OK;
}

static void count(fl_pictures *set) {
  set->out->n_train = set->out->n_test = 0;
  for (int64_t i = 0; i < set->n; i++)
    ++*(set->at[i].test ? &set->out->n_test : &set->out->n_train);
}

/* The size of all examples, where none is asked for: that of the first file that can be read.
 * *first is then its number, else -1. */
static fl_status find_size(fl_pictures *set, int64_t *first) {
  *first = -1;
  for (int64_t i = 0; set->height == 0 && i < set->n; i++) {
    fl_status status = fl_image_file_size(set->at[i].path, &set->height, &set->width);
    if (status == FEDLANE_OK)
      *first = i;
    else if (status == FEDLANE_MEMORY || !set->how->skip_bad)
      return status;
  }
  if (set->height == 0) return fl_fail(FEDLANE_DATA, "%s: no image can be read", set->how->path);
  return FEDLANE_OK;
}

/* Reads picture i, and what is stacked behind it, to its place. first: the picture whose size all
 * must have; -1: any size will do. */
static fl_status read_one(const fl_pictures *set, int64_t i, int64_t first,
                          fl_image_memory *memory) {
  const fl_picture *p = &set->at[i];
  char by[512];
  uint8_t *x = set->out->x;
  fl_image_read want = {.path = p->path,
                        .top = p->top,
                        .bottom = p->bottom,
                        .left = p->left,
                        .right = p->right,
                        .channels = set->channels,
                        .height = set->height,
                        .width = set->width,
                        .full_height = p->full_height,
                        .full_width = p->full_width,
                        .full_by = by,
                        .mirror = p->mirror,
                        .memory = memory};
  if (first >= 0) {
    want.full_height = set->height;
    want.full_width = set->width;
    snprintf(by, sizeof by, "%.480s is", set->at[first].path);
  } else {
    snprintf(by, sizeof by, "%.400s says in row %lld", p->list ? p->list : "", (long long)p->row);
  }
  int64_t each = fl_image_size(set->out->image) / (1 + set->stacked);
  x += i * (1 + set->stacked) * each;
  fl_status status = fl_image_read_file(&want, x);
  for (int k = 0; k < set->stacked && status == FEDLANE_OK; k++) {
    want.path = p->more[k];
    status = fl_image_read_file(&want, x + (1 + k) * each);
  }
  if (status == FEDLANE_OK || !p->list) return status;
  return fl_fail(status, "%s: row %lld: %s", p->list, (long long)p->row, fedlane_error());
}

/* Reads all pictures, several at a time; bad[i]: picture i could not be read. Where that is no
 * reason to go on, those after the first bad one need not be read. */
static void read_all(const fl_pictures *set, int64_t first, bool *bad) {
  _Atomic int64_t end = set->n, done = 0;
#pragma omp parallel num_threads(set->how->threads)
  {
    fl_image_memory memory = {0};
#pragma omp for schedule(dynamic, 4)
    for (int64_t i = 0; i < set->n; i++) {
      int64_t seen = atomic_load(&end);
      int64_t before = atomic_fetch_add(&done, 1);
      if (omp_get_thread_num() == 0) fl_dataset_tell(before + 1, set->n);
      if (i > seen) continue;
      bad[i] = read_one(set, i, first, &memory) != FEDLANE_OK;
      if (!bad[i] || set->how->skip_bad) continue;
      while (i < seen && !atomic_compare_exchange_weak(&end, &seen, i)) continue;
    }
    free(memory.at);
  }
}

/* Leaves out what is marked: the others move up, in x and in the list. */
static void leave_out(fl_pictures *set, const bool *bad) {
  int64_t each = fl_image_size(set->out->image), to = 0;
  uint8_t *x = set->out->x;
  for (int64_t i = 0; i < set->n; i++) {
    if (bad[i]) {
      forget(&set->at[i]);
      continue;
    }
    if (to < i) memcpy(x + to * each, x + i * each, (size_t)each);
    set->at[to++] = set->at[i];
  }
  set->n = to;
}

/* Reads bad pictures once more, in the order of the list and in this thread, for their sentences.
 */
static fl_status tell(const fl_pictures *set, int64_t first, const bool *bad) {
  for (int64_t i = 0; i < set->n; i++) {
    if (!bad[i]) continue;
    fl_status status = read_one(set, i, first, NULL);
    if (status == FEDLANE_OK)
      status = fl_fail(FEDLANE_IO, "%s: changed while it was read", set->at[i].path);
    FL_TRY(fl_pictures_forgive(set, status));
  }
  return FEDLANE_OK;
}

/* Marks test examples whose class has no training example, after a check of all classes. */
static fl_status check_classes(const fl_pictures *set, bool *bad) {
  int classes = set->out->classes;
  fl_status status = FEDLANE_OK;
  int64_t *n = calloc((size_t)classes + 1, sizeof *n);
  if (!n) return fl_fail(FEDLANE_MEMORY, "no memory for %d classes", classes);
  for (int64_t i = 0; i < set->n; i++) n[set->at[i].label] += !set->at[i].test;
  for (int64_t i = 0; i < set->n; i++) {
    const fl_picture *p = &set->at[i];
    bad[i] = n[p->label] == 0;
    if (bad[i])
      FL_GO(fl_pictures_forgive(
          set, fl_fail(FEDLANE_DATA, "%s: is of class %d, of which there is no training example",
                       p->path, p->label)));
  }
  for (int k = 0; k < classes; k++)
    if (n[k] == 0 && !set->how->skip_bad)
      FL_GO(fl_fail(FEDLANE_DATA, "%s: class %d of %d has no training example", set->how->path, k,
                    classes));
done:
  free(n);
  return status;
}

static int ascending(const void *a, const void *b) {
  int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return (x > y) - (x < y);
}

/* Clients that are left get the numbers from 0 on, in the order of the old ones. */
static fl_status number_clients(const fl_pictures *set) {
  fl_dataset *d = set->out;
  int32_t *old = malloc((size_t)d->n_train * sizeof *old), n = 0;
  d->client = malloc((size_t)d->n_train * sizeof *d->client);
  if (!old || !d->client) {
    free(old);
    return fl_fail(FEDLANE_MEMORY, "no memory for the clients of %lld images",
                   (long long)d->n_train);
  }
  for (int64_t i = 0; i < d->n_train; i++) old[i] = set->at[i].client;
  qsort(old, (size_t)d->n_train, sizeof *old, ascending);
  for (int64_t i = 0; i < d->n_train; i++)
    if (n == 0 || old[n - 1] != old[i]) old[n++] = old[i];
  for (int64_t i = 0; i < d->n_train; i++) {
    const int32_t *at = bsearch(&set->at[i].client, old, (size_t)n, sizeof *old, ascending);
    d->client[i] = (int32_t)(at - old);
  }
  d->n_client = n;
  free(old);
  return FEDLANE_OK;
}

static fl_status read_and_check(fl_pictures *set, int64_t first, bool *bad) {
  read_all(set, first, bad);
  FL_TRY(tell(set, first, bad));
  leave_out(set, bad);
  if (set->out->classes == 0) return FEDLANE_OK;
  FL_TRY(check_classes(set, bad));
  leave_out(set, bad);
  return FEDLANE_OK;
}

fl_status fl_pictures_read(fl_pictures *set) {
  fl_dataset *d = set->out;
  fl_status status;
  int64_t first;
  bool *bad = NULL;
  if (set->n == 0) return fl_fail(FEDLANE_DATA, "%s: has no image", set->how->path);
  FL_GO(part(set));
  FL_GO(find_size(set, &first));
  d->image = (fl_image){set->channels * (1 + set->stacked), set->height, set->width};
  d->bytes = true;
  count(set);
  FL_GO(fl_dataset_alloc(d));
  bad = calloc((size_t)set->n, sizeof *bad);
  if (!bad) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for %lld images", (long long)set->n));
  FL_GO(read_and_check(set, first, bad));
  count(set);
  if (d->n_train == 0)
    FL_GO(fl_fail(FEDLANE_DATA, "%s: no training image is left", set->how->path));
  for (int64_t i = 0; i < set->n; i++)
    if (d->n_target > 0)
      memcpy(d->target + i * d->n_target, set->at[i].target, (size_t)d->n_target * sizeof(float));
    else
      d->label[i] = set->at[i].label;
  if (set->at[0].client >= 0) status = number_clients(set);
done:
  free(bad);
  return status;
}
