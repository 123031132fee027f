#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "formats.h"

typedef struct cifar_args {
  int labels; /* cifar_labels */
} cifar_args;

typedef enum cifar_labels { CIFAR10, CIFAR100_FINE, CIFAR100_COARSE } cifar_labels;

enum { PIXELS = 3 * 32 * 32, FILES_MOST = 6 };

/* Rows are `label_bytes` of labels and then the pixels; the label wanted is byte `label_at`.
 * The last file is the test set. */
typedef struct cifar_layout {
  int classes, label_bytes, label_at, n_file;
  const char *name[FILES_MOST];
} cifar_layout;

static const cifar_layout layouts[] = {
    [CIFAR10] = {10,
                 1,
                 0,
                 6,
                 {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                  "data_batch_5.bin", "test_batch.bin"}},
    [CIFAR100_FINE] = {100, 2, 1, 2, {"train.bin", "test.bin"}},
    [CIFAR100_COARSE] = {20, 2, 0, 2, {"train.bin", "test.bin"}},
};

typedef struct cifar_file {
  char *path;
  unsigned char *rows;
  int64_t n;
} cifar_file;

static fl_status open_file(const char *folder, const char *name, int row_bytes, cifar_file *f) {
  int64_t size;
  f->path = fl_path_join(folder, name);
  if (!f->path) return fl_fail(FEDLANE_MEMORY, "no memory for the path of %s", name);
  if (!fl_file_exists(f->path))
    return fl_fail(FEDLANE_DATA, "the file %s is not in the folder %s", name, folder);
  FL_TRY(fl_read_all(f->path, &f->rows, &size));
  if (size == 0 || size % row_bytes != 0)
    return fl_fail(FEDLANE_DATA,
                   "%s: has %lld bytes, which is not a whole number of rows of %d bytes", f->path,
                   (long long)size, row_bytes);
  f->n = size / row_bytes;
  return FEDLANE_OK;
}

static fl_status fill(const cifar_layout *layout, const cifar_file *f, int64_t at,
                      fl_dataset *out) {
  const unsigned char *row = f->rows;
  uint8_t *x = (uint8_t *)out->x + at * PIXELS;
  for (int64_t e = 0; e < f->n; e++) {
    FL_TRY(fl_dataset_set_label(out, at + e, row[layout->label_at], f->path, e));
    memcpy(x, row + layout->label_bytes, PIXELS);
    row += layout->label_bytes + PIXELS;
    x += PIXELS;
  }
  return FEDLANE_OK;
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  const cifar_args *a = args;
  const cifar_layout *layout = &layouts[a->labels];

  fl_status status;
  cifar_file file[FILES_MOST] = {{0}};
  int last = layout->n_file - 1;
  int64_t at = 0;
  memset(out, 0, sizeof *out);
  for (int i = 0; i <= last; i++) {
    FL_GO(open_file(how->path, layout->name[i], layout->label_bytes + PIXELS, &file[i]));
    *(i < last ? &out->n_train : &out->n_test) += file[i].n;
  }
  out->image = (fl_image){3, 32, 32};
  out->bytes = true;
  out->classes = layout->classes;
  FL_GO(fl_dataset_alloc(out));
  for (int i = 0; i <= last; at += file[i].n, i++) FL_GO(fill(layout, &file[i], at, out));
done:
  for (int i = 0; i <= last; i++) {
    free(file[i].path);
    free(file[i].rows);
  }
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

static const fl_param params[] = {
    {.name = "labels",
     .type = FL_CHOICE,
     .offset = offsetof(cifar_args, labels),
     .dflt = CIFAR10,
     .text = "cifar10,cifar100,cifar100_coarse",
     .help = "which of the two sets, and of CIFAR-100 the 100 fine or the 20 coarse labels"},
};

const fl_format fl_cifar = {
    .record = {.name = "cifar",
               .help = "CIFAR-10 or CIFAR-100 in the binary version, in one folder",
               .paper = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, "
                        "https://www.cs.toronto.edu/~kriz/cifar.html",
               .args_size = sizeof(cifar_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
    .seedless = true,
};
