#include "image_file.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "files.h"
#include "image_codec.h"

static fl_status decode(const fl_image_source *in, fl_pixels *out) {
  const unsigned char *b = in->at;
  if (in->size > 2 && b[0] == 'P' && (b[1] == '5' || b[1] == '6'))
    return fl_image_decode_pnm(in, out);
  if (in->size > 2 && b[0] == 0xff && b[1] == 0xd8) return fl_image_decode_jpeg(in, out);
  if (in->size > 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0) return fl_image_decode_png(in, out);
  return fl_fail(FEDLANE_DATA, "%s: is no PPM, PGM, PNG or JPEG file%s", in->path,
                 in->size == 0 ? "; it is empty" : "");
}

static fl_status open_and_decode(fl_image_source *in, fl_pixels *out) {
  unsigned char *bytes = NULL;
  FL_TRY(fl_read_all(in->path, &bytes, &in->size));
  in->at = bytes;
  fl_status status = decode(in, out);
  free(bytes);
  return status;
}

fl_status fl_image_read_file(const fl_image_read *want, uint8_t *out) {
  fl_pixels pixels = {0};
  fl_image_memory own = {0};
  fl_image_source in = {
      .path = want->path, .want = want, .memory = want->memory ? want->memory : &own};
  fl_status status = open_and_decode(&in, &pixels);
  if (status == FEDLANE_OK) status = fl_image_scale(want, &pixels, out);
  free(own.at);
  return status;
}

fl_status fl_image_file_size(const char *path, int *height, int *width) {
  fl_pixels pixels = {0};
  fl_image_source in = {.path = path};
  FL_TRY(open_and_decode(&in, &pixels));
  *height = pixels.full_height;
  *width = pixels.full_width;
  return FEDLANE_OK;
}

bool fl_image_file_named(const char *name) {
  static const char *const known[] = {".ppm", ".pgm", ".png", ".jpg", ".jpeg"};
  const char *dot = strrchr(name, '.');
  for (int i = 0; dot && i < (int)(sizeof known / sizeof *known); i++)
    if (strcasecmp(dot, known[i]) == 0) return true;
  return false;
}
