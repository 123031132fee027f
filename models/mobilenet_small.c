#include "families.h"

/* A short MobileNet (arXiv:1704.04861) with group norms in place of batch norms, for images of 32 x
 * 32 to 96 x 96: the first convolution keeps their size, and six depthwise-separable ones halve it
 * three times. 274,250 parameters at 3 channels and 10 classes. */
#define NORM(module) \
  { .kind = FL_GROUP_NORM, .name = module, .groups = 8 }
#define RELU \
  { .kind = FL_RELU }
#define SEPARABLE(module, channels, step) \
  {.kind = FL_DEPTHWISE,                  \
   .name = module ".depthwise",           \
   .kernel = 3,                           \
   .stride = step,                        \
   .pad = 1,                              \
   .no_bias = true},                      \
      NORM(module ".norm1"), RELU,        \
      {.kind = FL_CONV,                   \
       .name = module ".pointwise",       \
       .out = channels,                   \
       .kernel = 1,                       \
       .no_bias = true},                  \
      NORM(module ".norm2"), RELU

static const fl_layer layers[] = {
    {.kind = FL_CONV, .name = "conv1", .out = 32, .kernel = 3, .pad = 1, .no_bias = true},
    NORM("norm1"),
    RELU,
    SEPARABLE("block1", 64, 1),
    SEPARABLE("block2", 128, 2),
    SEPARABLE("block3", 128, 1),
    SEPARABLE("block4", 256, 2),
    SEPARABLE("block5", 256, 1),
    SEPARABLE("block6", 512, 2),
    {.kind = FL_AVG_POOL},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .name = "fc"},
};

const fl_model_spec fl_model_mobilenet_small = {
    .record = {.name = "mobilenet_small",
               .help = "a small MobileNet: depthwise-separable convolutions with group norm",
               .paper = "Howard et al., MobileNets, arXiv:1704.04861; Wu and He, Group "
                        "Normalization, arXiv:1803.08494"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
};
