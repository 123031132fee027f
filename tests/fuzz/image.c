/* Any bytes given to the image reader are refused with a sentence, or read within bounds. */
#include <stdio.h>
#include <stdlib.h>

#include "formats/image_file.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[128];
  fl_scratch_write("image", data, size);
  snprintf(path, sizeof path, "%s/image", fl_scratch());
  int height = 0, width = 0;
  fl_status known = fl_image_file_size(path, &height, &width);
  if (known == FEDLANE_OK ? height < 1 || width < 1 : !fedlane_error()[0]) abort();
  if ((int64_t)height * width > 1000000) return 0; /* allowed, but it would only take time */
  for (int channels = 1; channels <= 3; channels += 2) {
    uint8_t out[3 * 5 * 4];
    fl_image_read want = {.path = path, .channels = channels, .height = 5, .width = 4};
    fl_status status = fl_image_read_file(&want, out);
    if (status == FEDLANE_OK ? known != FEDLANE_OK : !fedlane_error()[0]) abort();
  }
  return 0;
}
