/* Images from files: PPM and PGM, PNG and JPEG, told by their first bytes. */
#ifndef FL_IMAGE_FILE_H
#define FL_IMAGE_FILE_H

#include <stddef.h>

#include "status.h"

/* Memory that a thread keeps from one image to the next, so that it need not be asked for each
 * time. Zeroed at first; free(at) in the end. */
typedef struct fl_image_memory {
  uint8_t *at;
  size_t size;
} fl_image_memory;

/* What to make of an image file: the part within the edges that are cut off, scaled. */
typedef struct fl_image_read {
  const char *path;
  int top, bottom, left, right; /* pixels to cut off each edge */
  int channels;                 /* of the result: 1 (brightness) or 3 (red, green, blue) */
  int height, width;            /* of the result */
  int full_height, full_width;  /* what the file must have; 0: any */
  const char *full_by;          /* who says so, such as "a.png is" */
  bool mirror;                  /* left and right exchanged */
  fl_image_memory *memory;      /* NULL: none is kept */
} fl_image_read;

/* Writes bytes [channels, height, width]. Each pixel is the mean of the area that it covers, or
 * lies on the straight line between two pixels where the image is made larger, along each axis; an
 * image of the right size is left as it is. A JPEG is decoded at a half, a quarter or an eighth of
 * its size where that is enough. Files of more than 100 million pixels are refused, and so is any
 * damage. Errors: DATA, IO, MEMORY with the file's name. Cost: the decoding. Thread-safe. */
fl_status fl_image_read_file(const fl_image_read *want, uint8_t *out);

/* The size of an image, from its header alone. Errors: as above. */
fl_status fl_image_file_size(const char *path, int *height, int *width);

/* Whether a name ends in .ppm, .pgm, .png, .jpg or .jpeg, in capitals or not. */
bool fl_image_file_named(const char *name);

#endif
