#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "formats.h"

typedef struct idx_args {
  const char *train_images, *train_labels, *test_images, *test_labels;
  int64_t classes;
} idx_args;

enum { DIMS_MOST = 4 };

/* The element types of the format by their code in the third byte of a file. */
enum { U8 = 0x08, I8 = 0x09, I16 = 0x0b, I32 = 0x0c, F32 = 0x0d, F64 = 0x0e };

/* One file, unpacked and checked. */
typedef struct idx_file {
  char *path;
  unsigned char *bytes;      /* the whole file */
  const unsigned char *data; /* the elements, big-endian */
  int type, n_dim;
  int64_t dim[DIMS_MOST], count;
} idx_file;

static int type_size(int type) {
  switch (type) {
    case U8:
    case I8:
      return 1;
    case I16:
      return 2;
    case I32:
    case F32:
      return 4;
    case F64:
      return 8;
    default:
      return 0;
  }
}

static uint64_t big_endian(const unsigned char *at, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; i++) value = value << 8 | at[i];
  return value;
}

static double element(const idx_file *f, int64_t i) {
  int size = type_size(f->type);
  uint64_t bits = big_endian(f->data + i * size, size);
  uint32_t low = (uint32_t)bits;
  float single;
  double wide;
  switch (f->type) {
    case U8:
      return (double)bits;
    case I8:
      return (int8_t)bits;
    case I16:
      return (int16_t)bits;
    case I32:
      return (int32_t)bits;
    case F32:
      memcpy(&single, &low, sizeof single);
      return single;
    default:
      memcpy(&wide, &bits, sizeof wide);
      return wide;
  }
}

static void close_file(idx_file *f) {
  free(f->path);
  free(f->bytes);
}

/* f->path = folder/name, or folder/name.gz when only that is there. */
static fl_status find_file(const char *folder, const char *name, idx_file *f) {
  f->path = fl_path_join(folder, name);
  if (!f->path) return fl_fail(FEDLANE_MEMORY, "no memory for the path of %s", name);
  if (fl_file_exists(f->path)) return FEDLANE_OK;
  size_t size = strlen(f->path) + sizeof ".gz";
  char *packed = realloc(f->path, size);
  if (!packed) return fl_fail(FEDLANE_MEMORY, "no memory for the path of %s", name);
  f->path = packed;
  strcat(f->path, ".gz");
  if (fl_file_exists(f->path)) return FEDLANE_OK;
  return fl_fail(FEDLANE_DATA, "neither %s nor %s.gz is in the folder %s", name, name, folder);
}

static fl_status parse(idx_file *f, int64_t size) {
  const unsigned char *b = f->bytes;
  if (size < 4)
    return fl_fail(FEDLANE_DATA, "%s: %lld bytes are too few for an IDX file", f->path,
                   (long long)size);
  f->type = b[2];
  f->n_dim = b[3];
  if (b[0] != 0 || b[1] != 0 || type_size(f->type) == 0 || f->n_dim < 1 || f->n_dim > DIMS_MOST)
    return fl_fail(
        FEDLANE_DATA,
        "%s: begins with %02x %02x %02x %02x; an IDX file begins with 00 00, a type (08, "
        "09, 0b, 0c, 0d or 0e) and 1 to %d dimensions",
        f->path, b[0], b[1], b[2], b[3], DIMS_MOST);
  int64_t header = 4 + 4 * f->n_dim, need;
  if (size < header)
    return fl_fail(FEDLANE_DATA, "%s: %lld bytes are too few for a header of %lld", f->path,
                   (long long)size, (long long)header);
  f->count = 1;
  bool fits = true;
  for (int i = 0; i < f->n_dim; i++) {
    f->dim[i] = (int64_t)big_endian(b + 4 + 4 * i, 4);
    fits = fits && !__builtin_mul_overflow(f->count, f->dim[i], &f->count);
  }
  fits = fits && !__builtin_mul_overflow(f->count, type_size(f->type), &need) &&
         !__builtin_add_overflow(need, header, &need);
  if (!fits || need != size)
    return fl_fail(FEDLANE_DATA, "%s: has %lld bytes, but its header describes %lld", f->path,
                   (long long)size, fits ? (long long)need : (long long)INT64_MAX);
  f->data = b + header;
  return FEDLANE_OK;
}

static fl_status open_file(const char *folder, const char *name, idx_file *f) {
  int64_t size;
  FL_TRY(find_file(folder, name, f));
  FL_TRY(fl_read_all(f->path, &f->bytes, &size));
  return parse(f, size);
}

static fl_status check_pair(const idx_file *images, const idx_file *labels) {
  if (images->n_dim < 2)
    return fl_fail(FEDLANE_DATA, "%s: has 1 dimension; images have 2 to %d", images->path,
                   DIMS_MOST);
  if (labels->n_dim != 1 || labels->type == F32 || labels->type == F64)
    return fl_fail(FEDLANE_DATA,
                   "%s: has %d dimensions and type %02x; labels are whole numbers in 1 dimension",
                   labels->path, labels->n_dim, labels->type);
  if (images->dim[0] != labels->dim[0])
    return fl_fail(FEDLANE_DATA, "%s has %lld images, but %s has %lld labels", images->path,
                   (long long)images->dim[0], labels->path, (long long)labels->dim[0]);
  return FEDLANE_OK;
}

static fl_status check_same_images(const idx_file *train, const idx_file *test) {
  bool same = train->type == test->type && train->n_dim == test->n_dim;
  for (int i = 1; same && i < train->n_dim; i++) same = train->dim[i] == test->dim[i];
  if (same) return FEDLANE_OK;
  return fl_fail(FEDLANE_DATA, "%s and %s differ in the type or the size of their images",
                 train->path, test->path);
}

static fl_status fill_floats(const idx_file *f, float *x) {
  for (int64_t i = 0; i < f->count; i++) {
    x[i] = (float)element(f, i);
    if (!isfinite(x[i]))
      return fl_fail(FEDLANE_DATA, "%s: image %lld holds a value that is not finite", f->path,
                     (long long)(i / (f->count / f->dim[0])));
  }
  return FEDLANE_OK;
}

/* Copies one pair of files to the examples from `at` on. */
static fl_status fill(const idx_file *images, const idx_file *labels, int64_t at, fl_dataset *out) {
  int64_t first = at * fl_image_size(out->image);
  if (out->bytes)
    memcpy((uint8_t *)out->x + first, images->data, (size_t)images->count);
  else
    FL_TRY(fill_floats(images, (float *)out->x + first));
  for (int64_t e = 0; e < labels->count; e++)
    FL_TRY(fl_dataset_set_label(out, at + e, (int64_t)element(labels, e), labels->path, e));
  return FEDLANE_OK;
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  const idx_args *a = args;

  fl_status status;
  idx_file file[4] = {{0}}; /* images and labels for training, then for the test */
  const char *const name[4] = {a->train_images, a->train_labels, a->test_images, a->test_labels};
  memset(out, 0, sizeof *out);
  for (int i = 0; i < 4; i++) FL_GO(open_file(how->path, name[i], &file[i]));
  FL_GO(check_pair(&file[0], &file[1]));
  FL_GO(check_pair(&file[2], &file[3]));
  FL_GO(check_same_images(&file[0], &file[2]));
  FL_GO(
      fl_image_from_sizes(file[0].path, "images", file[0].n_dim - 1, file[0].dim + 1, &out->image));
  out->bytes = file[0].type == U8;
  out->n_train = file[0].dim[0];
  out->n_test = file[2].dim[0];
  out->classes = (int)a->classes;
  FL_GO(fl_dataset_alloc(out));
  FL_GO(fill(&file[0], &file[1], 0, out));
  FL_GO(fill(&file[2], &file[3], out->n_train, out));
  fl_dataset_count_classes(out);
done:
  for (int i = 0; i < 4; i++) close_file(&file[i]);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

static const fl_param params[] = {
    {.name = "train_images",
     .type = FL_TEXT,
     .offset = offsetof(idx_args, train_images),
     .text = "train-images-idx3-ubyte",
     .help = "file of the training images, with or without .gz"},
    {.name = "train_labels",
     .type = FL_TEXT,
     .offset = offsetof(idx_args, train_labels),
     .text = "train-labels-idx1-ubyte",
     .help = "file of the training labels"},
    {.name = "test_images",
     .type = FL_TEXT,
     .offset = offsetof(idx_args, test_images),
     .text = "t10k-images-idx3-ubyte",
     .help = "file of the test images"},
    {.name = "test_labels",
     .type = FL_TEXT,
     .offset = offsetof(idx_args, test_labels),
     .text = "t10k-labels-idx1-ubyte",
     .help = "file of the test labels"},
    {.name = "classes",
     .type = FL_INT,
     .offset = offsetof(idx_args, classes),
     .dflt = 0,
     .lo = 0,
     .hi = FL_CLASSES_MAX,
     .help = "number of classes; 0: one more than the largest label"},
};

const fl_format fl_idx = {
    .record = {.name = "idx",
               .help = "the four IDX files of MNIST and its relatives in one folder, plain or .gz",
               .paper = "LeCun et al., Gradient-based learning applied to document recognition, "
                        "1998, doi:10.1109/5.726791",
               .args_size = sizeof(idx_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
    .seedless = true,
};
