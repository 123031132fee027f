/* The array that a decoder fills: its size, and its memory. */
#include <stdlib.h>

#include "image_codec.h"

/* Checks the file's size against what is known of it, and the edges against its size. */
static fl_status check(const fl_image_read *want, const fl_pixels *in) {
  int high = in->full_height, across = in->full_width;
  if (want->full_height > 0 && (want->full_height != high || want->full_width != across))
    return fl_fail(FEDLANE_DATA, "%s: is %d x %d pixels (width x height), but %s %d x %d",
                   want->path, across, high, want->full_by, want->full_width, want->full_height);
  if ((int64_t)want->top + want->bottom >= high || (int64_t)want->left + want->right >= across)
    return fl_fail(FEDLANE_DATA,
                   "%s: is %d x %d pixels (width x height); cutting %d + %d rows and %d + %d "
                   "columns off leaves nothing",
                   want->path, across, high, want->top, want->bottom, want->left, want->right);
  return FEDLANE_OK;
}

fl_status fl_pixels_size(const fl_image_source *in, int64_t height, int64_t width, fl_pixels *out) {
  const fl_image_read *want = in->want;
  if (height < 1 || width < 1 || height > FL_IMAGE_PIXELS_MOST / width)
    return fl_fail(FEDLANE_DATA,
                   "%s: is %lld x %lld pixels; an image has at least one and at most %d", in->path,
                   (long long)width, (long long)height, FL_IMAGE_PIXELS_MOST);
  out->height = out->full_height = (int)height;
  out->width = out->full_width = (int)width;
  out->shrink = out->most_shrink = 1;
  if (!want) return FEDLANE_OK;
  FL_TRY(check(want, out));
  int high = (out->height - want->top - want->bottom) / want->height;
  int across = (out->width - want->left - want->right) / want->width;
  out->most_shrink = high < across ? high : across;
  return FEDLANE_OK;
}

fl_status fl_pixels_alloc(const fl_image_source *in, fl_pixels *out) {
  fl_image_memory *m = in->memory;
  size_t size = (size_t)out->height * (size_t)out->width * (size_t)out->channels;
  if (m->size < size) {
    free(m->at);
    m->at = malloc(size);
    m->size = m->at ? size : 0;
  }
  out->at = m->at;
  if (out->at) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no memory for the %d x %d pixels of %s", out->width, out->height,
                 in->path);
}
