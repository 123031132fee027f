/* Any text given to the configuration reader is read or refused with a sentence. What is read must
 * read back from its own resolved form to the same configuration. */
#include <stdlib.h>
#include <string.h>

#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *text = calloc(1, size + 1);
  fl_config *first = NULL, *second = NULL;
  if (!text) return 0;
  memcpy(text, data, size);
  fl_status status = fl_config_parse("input", text, 0, NULL, &first);
  if (status == FEDLANE_OK) {
    if (fl_config_parse("resolved", first->resolved, 0, NULL, &second) != FEDLANE_OK) abort();
    if (strcmp(first->digest, second->digest) != 0) abort();
    if (strcmp(first->resolved, second->resolved) != 0) abort();
  } else if (first || !fedlane_error()[0]) {
    abort();
  }
  fl_config_close(&first);
  fl_config_close(&second);
  free(text);
  return 0;
}
