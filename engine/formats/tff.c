/* The data sets of TensorFlow Federated's simulations as HDF5: /examples/<client>/<array>. */
#include "formats/tff.h"

#include <string.h>

#include "formats.h"

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  const fl_tff_args *a = args;
  fl_tff_part p[2] = {{0}, {0}};
  memset(out, 0, sizeof *out);
  if (a->most > 0 && a->set < FL_TFF_SHAKESPEARE)
    return fl_fail(FEDLANE_USAGE, "data.most is for sets of text, and this is one of images");
  fl_status status =
      a->set >= FL_TFF_SHAKESPEARE ? fl_tff_text(how, a, p, out) : fl_tff_images(how, a, p, out);
  fl_tff_close(&p[0]);
  fl_tff_close(&p[1]);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

static const fl_param params[] = {
    {.name = "set",
     .type = FL_CHOICE,
     .offset = offsetof(fl_tff_args, set),
     .text = "emnist,digits,cifar100,shakespeare,stackoverflow",
     .help = "which of TensorFlow Federated's data sets lies in the folder"},
    {.name = "clients",
     .type = FL_INT,
     .offset = offsetof(fl_tff_args, clients),
     .lo = 0,
     .hi = INT32_MAX,
     .unit = "clients",
     .help = "read the first so many clients by name, of training and of the test; 0: all"},
    {.name = "most",
     .type = FL_INT,
     .offset = offsetof(fl_tff_args, most),
     .lo = 0,
     .hi = INT32_MAX,
     .unit = "texts",
     .help = "of a training client, for text; 0: all"},
    {.name = "sequence",
     .type = FL_INT,
     .offset = offsetof(fl_tff_args, sequence),
     .lo = 0,
     .hi = 65536,
     .unit = "steps",
     .help = "length of text sequences; 0: 80 for shakespeare, 20 for stackoverflow"},
    {.name = "vocabulary",
     .type = FL_INT,
     .offset = offsetof(fl_tff_args, vocabulary),
     .dflt = 10000,
     .lo = 1,
     .hi = 1000000,
     .unit = "words",
     .help = "the most frequent words, which are known"},
};

const fl_format fl_tff = {
    .record = {.name = "tff",
               .help = "HDF5 files of TensorFlow Federated: fed_emnist, fed_cifar100, shakespeare, "
                       "stackoverflow",
               .paper =
                   "https://www.tensorflow.org/federated/api_docs/python/tff/simulation/datasets",
               .args_size = sizeof(fl_tff_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
};
