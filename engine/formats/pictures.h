/* From a list of image files to a data set: what the formats of images share. */
#ifndef FL_PICTURES_H
#define FL_PICTURES_H

#include "dataset.h"
#include "image_file.h"

enum { FL_PICTURE_TARGETS = 4, FL_PICTURE_MORE = 3 };

/* One example. Zeroed members are what an ordinary one has. */
typedef struct fl_picture {
  char *path;
  char *more[FL_PICTURE_MORE];  /* images stacked behind it as further channels, then NULL */
  int top, bottom, left, right; /* pixels to cut off */
  int full_height, full_width;  /* what the list says of its size; 0: nothing */
  bool test, mirror;
  int32_t label, client; /* client: of a training example, any number from 0 up; -1: none */
  const char *list;      /* the list that names it, kept by the caller; NULL: none */
  int64_t row;           /* of the list */
  float target[FL_PICTURE_TARGETS];
} fl_picture;

typedef struct fl_pictures {
  const fl_load *how;
  fl_dataset *out;
  int64_t n, room;
  fl_picture *at;
  int channels, height, width; /* of an image; height 0: as the first file, and all alike */
  int stacked;                 /* images of each example besides the first */
} fl_pictures;

/* Takes p over, and copies of its paths. Errors: MEMORY. */
fl_status fl_pictures_add(fl_pictures *set, const fl_picture *p);
void fl_pictures_close(fl_pictures *set);

/* What to do about a failed check: returns `status`, or, where bad files and rows may be left out,
 * notes the thread's sentence, counts one and returns OK. For DATA and IO. */
fl_status fl_pictures_forgive(const fl_pictures *set, fl_status status);

/* Reads all pictures in the order of the list, training before test examples, and sets everything
 * in *out but `classes`, which is set already, 0 for regression with n_target, and what
 * fl_load leaves open. The first bad file of the list is the one that is told of. Clients are
 * numbered anew without gaps. With classes each of them must have a training example.
 * Errors: DATA, IO, MEMORY. Cost: the decoding, on how->threads cores. */
fl_status fl_pictures_read(fl_pictures *set);

#endif
