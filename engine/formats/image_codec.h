/* The decoders behind image_file.h. */
#ifndef FL_IMAGE_CODEC_H
#define FL_IMAGE_CODEC_H

#include "image_file.h"

enum { FL_IMAGE_PIXELS_MOST = 100000000 };

/* A file in memory, and what is wanted of it. */
typedef struct fl_image_source {
  const char *path; /* for messages */
  const unsigned char *at;
  int64_t size;
  const fl_image_read *want; /* NULL: the header alone */
  fl_image_memory *memory;   /* for the pixels */
} fl_image_source;

/* Pixels [height, width, channels] in in->memory; NULL when only the header was read. */
typedef struct fl_pixels {
  int full_height, full_width; /* of the file */
  int height, width, shrink;   /* of the array: the file's by shrink, rounded up */
  int most_shrink;             /* how far it may be shrunk, where the decoder can do that */
  int channels;                /* 1, or 4: red, green, blue and one that means nothing */
  uint8_t *at;
} fl_pixels;

fl_status fl_image_decode_pnm(const fl_image_source *in, fl_pixels *out);
fl_status fl_image_decode_png(const fl_image_source *in, fl_pixels *out);
fl_status fl_image_decode_jpeg(const fl_image_source *in, fl_pixels *out);

/* image_pixels.c: sets the sizes of *out, with shrink 1, and most_shrink. Errors: DATA when one is
 * 0, there are too many pixels, or they are not what is wanted. */
fl_status fl_pixels_size(const fl_image_source *in, int64_t height, int64_t width, fl_pixels *out);
/* The array for the sizes set. Errors: MEMORY. */
fl_status fl_pixels_alloc(const fl_image_source *in, fl_pixels *out);

/* image_scale.c: the result from what was decoded. Errors: MEMORY. */
fl_status fl_image_scale(const fl_image_read *want, const fl_pixels *in, uint8_t *out);

#endif
