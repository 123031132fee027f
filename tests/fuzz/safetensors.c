/* Any bytes given to the safetensors reader are refused, or every tensor lies inside the file. */
#include "safetensors.h"

#include <stdio.h>
#include <stdlib.h>

#include "dataset.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte of every tensor: the sanitizer sees what lies outside. */
static void touch(const fl_st_file *file) {
  volatile unsigned sum = 0;
  for (int i = 0; i < fl_st_count(file); i++) {
    const fl_st_tensor *t = fl_st_at(file, i);
    const unsigned char *byte = t->data;
    for (int64_t k = 0; k < t->count * fl_dtype_size(t->type); k++) sum = sum + byte[k];
    if (fl_st_find(file, t->name) != t) abort();
  }
}

static void load(const char *path) {
  const fl_format *format = (const fl_format *)fl_catalogue_find(&fl_formats, "safetensors");
  fl_dataset set = {0};
  void *args = calloc(1, format->record.args_size + 1);
  if (!args) return;
  fl_record_defaults(&format->record, args);
  if (format->load(&(fl_load){.path = path, .seed = 1, .threads = 1}, args, &set) != FEDLANE_OK &&
      !fedlane_error()[0])
    abort();
  fl_dataset_close(&set);
  free(args);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[128];
  fl_st_file *file = NULL;
  fl_scratch_write("input.safetensors", data, size);
  snprintf(path, sizeof path, "%s/input.safetensors", fl_scratch());
  if (fl_st_open(path, &file) == FEDLANE_OK) {
    touch(file);
    load(path);
  } else if (file || !fedlane_error()[0]) {
    abort();
  }
  fl_st_close(&file);
  return 0;
}
