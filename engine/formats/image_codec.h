/* The decoders behind image_file.h. */
#ifndef FL_IMAGE_CODEC_H
#define FL_IMAGE_CODEC_H

#include "status.h"

enum { FL_IMAGE_PIXELS_MOST = 100000000 };

/* A file in memory, and what is wanted of it. */
typedef struct fl_image_source {
  const char *path; /* for messages */
  const unsigned char *at;
  int64_t size;
  int channels;    /* 1 or 3, where the decoder can choose; 0: the header alone */
  int most_shrink; /* the image may be given at 1/2, 1/4 or 1/8 of its size down to 1/this */
} fl_image_source;

/* Pixels [height, width, channels] in a new array (free it); NULL when only the header was read. */
typedef struct fl_pixels {
  int full_height, full_width; /* of the file */
  int height, width, shrink;   /* of the array: the file's by shrink, rounded up */
  int channels;                /* 1 or 3 */
  uint8_t *at;
} fl_pixels;

fl_status fl_image_decode_pnm(const fl_image_source *in, fl_pixels *out);
fl_status fl_image_decode_png(const fl_image_source *in, fl_pixels *out);
fl_status fl_image_decode_jpeg(const fl_image_source *in, fl_pixels *out);

/* Sets the sizes of *out, with shrink 1. Errors: DATA when one is 0 or there are too many pixels.
 */
fl_status fl_pixels_size(const fl_image_source *in, int64_t height, int64_t width, fl_pixels *out);
/* The array for the sizes set. Errors: MEMORY. */
fl_status fl_pixels_alloc(const fl_image_source *in, fl_pixels *out);

#endif
