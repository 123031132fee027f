/* Any bytes given to the reader of LEAF's JSON are refused or read within bounds. The first byte
 * chooses the kind. */
#include <stdlib.h>
#include <string.h>

#include "dataset.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const fl_dataset *set) {
  for (int64_t i = 0; i < set->n_train + set->n_test; i++)
    if (set->label[i] < 0 || set->label[i] >= set->classes) abort();
  for (int64_t i = 0; i < set->n_train; i++)
    if (set->client[i] < 0 || set->client[i] >= set->n_client) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const fl_format *format = (const fl_format *)fl_catalogue_find(&fl_formats, "leaf");
  fl_dataset set = {0};
  if (size < 1) return 0;
  fl_scratch_write("a.json", data + 1, size - 1);
  void *args = calloc(1, format->record.args_size);
  if (!args) return 0;
  fl_record_defaults(&format->record, args);
  for (int i = 0; i < format->record.n_param; i++)
    if (strcmp(format->record.param[i].name, "kind") == 0)
      *(int *)(void *)((char *)args + format->record.param[i].offset) = *data % 3;
  fl_load how = {.path = fl_scratch(), .seed = 1, .threads = 1, .skip_bad = *data & 128};
  if (format->load(&how, args, &set) == FEDLANE_OK)
    check(&set);
  else if (!fedlane_error()[0])
    abort();
  fl_dataset_close(&set);
  free(args);
  return 0;
}
