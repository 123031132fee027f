/* What the two halves of the format tff share: sets of images and sets of text. */
#ifndef FL_TFF_H
#define FL_TFF_H

#include "dataset.h"
#include "formats/hdf5_file.h"

enum { FL_TFF_EMNIST, FL_TFF_DIGITS, FL_TFF_CIFAR100, FL_TFF_SHAKESPEARE, FL_TFF_STACKOVERFLOW };

typedef struct fl_tff_args {
  int set;
  int64_t clients, most, sequence, vocabulary;
} fl_tff_args;

/* One file of a set. */
typedef struct fl_tff_part {
  char *path;
  fl_h5 *file;
  fl_h5_names client;
} fl_tff_part;

/* tff_part.c: opens one. most: clients to keep; 0: all. */
fl_status fl_tff_open(const char *folder, const char *name, int64_t most, fl_tff_part *p);
void fl_tff_close(fl_tff_part *p);

typedef struct fl_tff_name {
  char at[512];
} fl_tff_name;
/* Where an array of a client lies in its file. */
fl_tff_name fl_tff_array(const fl_tff_part *p, int64_t client, const char *array);

/* part [2]: training and test, zeroed; the caller closes them. */
fl_status fl_tff_images(const fl_load *how, const fl_tff_args *args, fl_tff_part *part,
                        fl_dataset *out);
fl_status fl_tff_text(const fl_load *how, const fl_tff_args *args, fl_tff_part *part,
                      fl_dataset *out);

#endif
