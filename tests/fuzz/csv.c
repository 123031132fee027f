/* Any bytes given to the CSV reader as training and test rows are refused or read within bounds,
 * whether bad rows end the reading or are left out. The first byte chooses the options. */
#include <stdlib.h>
#include <string.h>

#include "dataset.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const fl_format *format;

/* The place of an argument. */
static void *at(void *args, const char *name) {
  for (int i = 0; i < format->record.n_param; i++)
    if (strcmp(format->record.param[i].name, name) == 0)
      return (char *)args + format->record.param[i].offset;
  abort();
}

static void check(const fl_dataset *set) {
  int64_t n = set->n_train + set->n_test, values = n * fl_image_size(set->image);
  volatile float sum = 0;
  for (int64_t i = 0; set->label && i < n; i++)
    if (set->label[i] < 0 || set->label[i] >= set->classes) abort();
  for (int64_t i = 0; set->client && i < set->n_train; i++)
    if (set->client[i] < 0 || set->client[i] >= set->n_client) abort();
  for (int64_t i = 0; i < values; i++) sum = sum + ((const float *)set->x)[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fl_dataset set = {0};
  if (size < 1) return 0;
  format = (const fl_format *)fl_catalogue_find(&fl_formats, "csv");
  uint8_t options = *data;
  fl_scratch_write("a.csv", data + 1, size - 1);
  fl_scratch_write("b.csv", data + 1, (size - 1) / 2);
  void *args = calloc(1, format->record.args_size);
  if (!args) return 0;
  fl_record_defaults(&format->record, args);
  *(bool *)at(args, "header") = options & 1;
  *(bool *)at(args, "indicators") = options & 2;
  if (options & 4) *(const char **)at(args, "categories") = "1";
  if (options & 8) *(const char **)at(args, "test") = "b.csv";
  if (options & 16) *(const char **)at(args, "separator") = "blank";
  *(int *)at(args, "task") = (options & 96) >> 5;
  if ((options & 96) == 96) *(int *)at(args, "task") = 0;
  fl_load how = {.path = fl_scratch(), .seed = 1, .threads = 1, .skip_bad = options & 128};
  if (format->load(&how, args, &set) == FEDLANE_OK)
    check(&set);
  else if (!fedlane_error()[0])
    abort();
  fl_dataset_close(&set);
  free(args);
  return 0;
}
