/* PNG by libpng: every kind of pixel becomes 8-bit grey or colour, transparency is dropped. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "image_codec.h"

/* What a decoding holds. It outlives the jump that ends it. */
typedef struct decoding {
  const fl_image_source *in;
  fl_pixels *out;
  int64_t at; /* bytes read */
  png_struct *png;
  png_info *info;
  uint8_t **row;
  fl_status status; /* why it ended, when that is not libpng's own reason */
  char why[128];
} decoding;

static void on_error(png_struct *png, const char *why) {
  decoding *d = png_get_error_ptr(png);
  strncpy(d->why, why, sizeof d->why - 1);
  png_longjmp(png, 1);
}

static void on_warning(png_struct *png, const char *why) { (void)png, (void)why; }

static void on_read(png_struct *png, uint8_t *to, size_t n) {
  decoding *d = png_get_io_ptr(png);
  if ((int64_t)n > d->in->size - d->at) png_error(png, "the file ends too early");
  memcpy(to, d->in->at + d->at, n);
  d->at += (int64_t)n;
}

/* Leaves by a jump, with a sentence of ours. */
static void check(decoding *d, fl_status status) {
  d->status = status;
  if (status != FEDLANE_OK) png_longjmp(d->png, 1);
}

static void decode(decoding *d) {
  fl_pixels *out = d->out;
  png_set_read_fn(d->png, d, on_read);
  png_set_user_limits(d->png, FL_IMAGE_PIXELS_MOST, FL_IMAGE_PIXELS_MOST);
  png_read_info(d->png, d->info);
  check(d, fl_pixels_size(d->in, png_get_image_height(d->png, d->info),
                          png_get_image_width(d->png, d->info), out));
  out->channels = png_get_color_type(d->png, d->info) & PNG_COLOR_MASK_COLOR ? 4 : 1;
  if (!d->in->want) return;
  png_set_expand(d->png);
  png_set_scale_16(d->png);
  png_set_strip_alpha(d->png);
  if (out->channels == 4) png_set_filler(d->png, 255, PNG_FILLER_AFTER);
  png_set_interlace_handling(d->png);
  png_read_update_info(d->png, d->info);
  size_t row = (size_t)out->width * (size_t)out->channels;
  if (png_get_rowbytes(d->png, d->info) != row) png_error(d->png, "its rows have another length");
  check(d, fl_pixels_alloc(d->in, out));
  d->row = malloc((size_t)out->height * sizeof *d->row);
  if (!d->row) check(d, fl_fail(FEDLANE_MEMORY, "no memory for the rows of %s", d->in->path));
  for (int i = 0; i < out->height; i++) d->row[i] = out->at + (size_t)i * row;
  png_read_image(d->png, d->row);
  png_read_end(d->png, NULL);
}

fl_status fl_image_decode_png(const fl_image_source *in, fl_pixels *out) {
  decoding d = {.in = in, .out = out};
  d.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &d, on_error, on_warning);
  if (d.png) d.info = png_create_info_struct(d.png);
  if (!d.info) {
    png_destroy_read_struct(&d.png, NULL, NULL);
    return fl_fail(FEDLANE_MEMORY, "no memory to decode %s", in->path);
  }
  if (setjmp(png_jmpbuf(d.png)) == 0)
    decode(&d);
  else if (d.status == FEDLANE_OK)
    d.status = fl_fail(FEDLANE_DATA, "%s: is a damaged PNG: %s", in->path, d.why);
  png_destroy_read_struct(&d.png, &d.info, NULL);
  free(d.row);
  return d.status;
}
