/* Any bytes given to the IDX reader as images and labels are refused or read within bounds. The
 * input is two files: its first two bytes, little-endian, are the length of the labels. */
#include <stdlib.h>

#include "dataset.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const fl_dataset *set) {
  int64_t n = set->n_train + set->n_test;
  for (int64_t i = 0; i < n; i++)
    if (set->label[i] < 0 || set->label[i] >= set->classes) abort();
  volatile unsigned sum = 0;
  const unsigned char *byte = set->x;
  int64_t bytes = n * fl_image_size(set->image) * (set->bytes ? 1 : (int64_t)sizeof(float));
  for (int64_t i = 0; i < bytes; i++) sum = sum + byte[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const fl_format *format = (const fl_format *)fl_catalogue_find(&fl_formats, "idx");
  fl_dataset set = {0};
  if (size < 2) return 0;
  size_t labels = data[0] + 256u * data[1];
  data += 2;
  size -= 2;
  if (labels > size) labels = size;
  fl_scratch_write("train-labels-idx1-ubyte", data, labels);
  fl_scratch_write("t10k-labels-idx1-ubyte", data, labels);
  fl_scratch_write("train-images-idx3-ubyte", data + labels, size - labels);
  fl_scratch_write("t10k-images-idx3-ubyte", data + labels, size - labels);
  void *args = calloc(1, format->record.args_size + 1);
  if (!args) return 0;
  fl_record_defaults(&format->record, args);
  fl_status status =
      format->load(&(fl_load){.path = fl_scratch(), .seed = 1, .threads = 1}, args, &set);
  if (status == FEDLANE_OK) {
    check(&set);
  } else if (!fedlane_error()[0]) {
    abort();
  }
  fl_dataset_close(&set);
  free(args);
  return 0;
}
