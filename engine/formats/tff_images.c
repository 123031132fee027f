/* Sets of images: EMNIST by writer, CIFAR-100. */
#include <stdlib.h>

#include "formats/table.h"
#include "formats/tff.h"

/* A set of images: its files, arrays and shapes. */
typedef struct picture_set {
  const char *file[2]; /* training and test */
  const char *x;
  fl_image image;
  int classes;
  bool bytes; /* pixels are uint8, row by row with the channels innermost; else float */
} picture_set;

static const picture_set pictures[] = {
    [FL_TFF_EMNIST] =
        {{"fed_emnist_train.h5", "fed_emnist_test.h5"}, "pixels", {1, 28, 28}, 62, false},
    [FL_TFF_DIGITS] = {{"fed_emnist_digitsonly_train.h5", "fed_emnist_digitsonly_test.h5"},
                       "pixels",
                       {1, 28, 28},
                       10,
                       false},
    [FL_TFF_CIFAR100] =
        {{"fed_cifar100_train.h5", "fed_cifar100_test.h5"}, "image", {3, 32, 32}, 100, true},
};

/* Examples of a client, after a look at the shapes of its arrays. */
static fl_status count(const fl_tff_part *p, int64_t client, const picture_set *set, int64_t *out) {
  fl_h5_shape x, y;
  fl_tff_name xs = fl_tff_array(p, client, set->x), ys = fl_tff_array(p, client, "label");
  FL_TRY(fl_h5_shape_of(p->file, xs.at, &x));
  FL_TRY(fl_h5_shape_of(p->file, ys.at, &y));
  bool good = x.n_dim == (set->bytes ? 4 : 3) && x.dim[1] == set->image.height &&
              x.dim[2] == set->image.width && (!set->bytes || x.dim[3] == set->image.channels);
  if (!good)
    return fl_fail(FEDLANE_DATA, "%s: '%s' does not hold images of %d x %d", p->path, xs.at,
                   set->image.height, set->image.width);
  if (y.count != x.dim[0])
    return fl_fail(FEDLANE_DATA, "%s: '%s' holds %lld labels for %lld images", p->path, ys.at,
                   (long long)y.count, (long long)x.dim[0]);
  *out = x.dim[0];
  return FEDLANE_OK;
}

/* Examples to be read of each client, n[client], and of all. */
static fl_status count_part(const fl_load *how, const fl_tff_part *p, const picture_set *set,
                            int64_t *n, fl_dataset *out, int64_t *all) {
  for (int64_t c = 0; c < p->client.n; c++) {
    fl_status status = count(p, c, set, &n[c]);
    if (status == FEDLANE_OK)
      *all += n[c];
    else
      FL_TRY(fl_pass_over(how, status, &out->skipped));
  }
  return FEDLANE_OK;
}

/* Rows of channels-innermost pixels become planes. */
static void to_planes(fl_image s, const uint8_t *from, uint8_t *to) {
  int area = s.height * s.width;
  for (int i = 0; i < area; i++)
    for (int k = 0; k < s.channels; k++) to[k * area + i] = from[i * s.channels + k];
}

/* Reads the n examples of a client to the place `at`. label: scratch [n]. */
static fl_status read_client(const fl_tff_part *p, int64_t c, const picture_set *set, int64_t n,
                             int64_t at, int32_t *label, uint8_t *raw, fl_dataset *out) {
  int64_t size = fl_image_size(set->image);
  fl_tff_name xs = fl_tff_array(p, c, set->x), ys = fl_tff_array(p, c, "label");
  FL_TRY(fl_h5_ints(p->file, ys.at, n, label));
  if (set->bytes) {
    FL_TRY(fl_h5_bytes(p->file, xs.at, n * size, raw));
    for (int64_t i = 0; i < n; i++)
      to_planes(set->image, raw + i * size, (uint8_t *)out->x + (at + i) * size);
  } else {
    FL_TRY(fl_h5_floats(p->file, xs.at, n * size, (float *)out->x + at * size));
  }
  for (int64_t i = 0; i < n; i++) FL_TRY(fl_dataset_set_label(out, at + i, label[i], ys.at, i));
  return FEDLANE_OK;
}

static fl_status read_part(const fl_tff_part *p, const picture_set *set, const int64_t *n,
                           int64_t at, int32_t *client, fl_dataset *out) {
  int64_t most = 1;
  for (int64_t c = 0; c < p->client.n; c++) most = n[c] > most ? n[c] : most;
  int32_t *label = malloc((size_t)most * sizeof *label);
  uint8_t *raw = malloc((size_t)(most * fl_image_size(set->image)));
  fl_status status = FEDLANE_OK;
  if (!label || !raw) status = fl_fail(FEDLANE_MEMORY, "no memory to read %s", p->path);
  for (int64_t c = 0; status == FEDLANE_OK && c < p->client.n; at += n[c], c++) {
    fl_dataset_tell(c, p->client.n);
    if (n[c] > 0) status = read_client(p, c, set, n[c], at, label, raw, out);
    for (int64_t i = 0; client && i < n[c]; i++) client[at + i] = (int32_t)c;
  }
  free(label);
  free(raw);
  return status;
}

fl_status fl_tff_images(const fl_load *how, const fl_tff_args *a, fl_tff_part *p, fl_dataset *out) {
  const picture_set *set = &pictures[a->set];
  int64_t *n[2] = {NULL, NULL}, *total[2] = {&out->n_train, &out->n_test};
  fl_status status;
  out->image = set->image;
  out->bytes = set->bytes;
  out->classes = set->classes;
  for (int i = 0; i < 2; i++) {
    FL_GO(fl_tff_open(how->path, set->file[i], a->clients, &p[i]));
    n[i] = calloc((size_t)p[i].client.n + 1, sizeof **n);
    if (!n[i]) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for the clients of %s", p[i].path));
    FL_GO(count_part(how, &p[i], set, n[i], out, total[i]));
  }
  FL_GO(fl_dataset_alloc(out));
  out->client = malloc((size_t)out->n_train * sizeof *out->client);
  out->n_client = (int32_t)p[0].client.n;
  if (!out->client) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for clients"));
  FL_GO(read_part(&p[0], set, n[0], 0, out->client, out));
  FL_GO(read_part(&p[1], set, n[1], out->n_train, NULL, out));
done:
  free(n[0]);
  free(n[1]);
  return status;
}
