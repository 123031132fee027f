#include "families.h"

/* ResNet-18 with every batch norm replaced by a group norm of two groups (arXiv:2003.00295, after
 * arXiv:1910.00189) and the stem for small images: one 3x3 convolution of stride 1 and no pooling.
 * 11,173,962 parameters at 3 x 32 x 32 and 10 classes. Modules are called as in torchvision. */
#define CONV(module, channels, side, step, input)                                     \
  {                                                                                   \
    .kind = FL_CONV, .name = module, .out = channels, .kernel = side, .stride = step, \
    .pad = (side) / 2, .no_bias = true, .from = input                                 \
  }
#define NORM(module) \
  { .kind = FL_GROUP_NORM, .name = module, .groups = 2 }
#define RELU \
  { .kind = FL_RELU }
#define ADD(back) \
  { .kind = FL_ADD, .skip = back }

#define BRANCH(module, channels, step)                                    \
  CONV(module ".conv1", channels, 3, step, 0), NORM(module ".bn1"), RELU, \
      CONV(module ".conv2", channels, 3, 1, 0), NORM(module ".bn2")
/* The block's input is six layers before the sum. */
#define SAME(module, channels) BRANCH(module, channels, 1), ADD(-6), RELU
/* The shortcut is a strided 1x1 convolution of the block's input, six layers back, and a norm; the
 * sum reads it and, three layers back, the branch. */
#define HALVE(module, channels)                                                  \
  BRANCH(module, channels, 2), CONV(module ".downsample.0", channels, 1, 2, -6), \
      NORM(module ".downsample.1"), ADD(-3), RELU

static const fl_layer layers[] = {
    CONV("conv1", 64, 3, 1, 0),
    NORM("bn1"),
    RELU,
    SAME("layer1.0", 64),
    SAME("layer1.1", 64),
    HALVE("layer2.0", 128),
    SAME("layer2.1", 128),
    HALVE("layer3.0", 256),
    SAME("layer3.1", 256),
    HALVE("layer4.0", 512),
    SAME("layer4.1", 512),
    {.kind = FL_AVG_POOL},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .name = "fc"},
};

const fl_model_spec fl_model_resnet18_gn = {
    .record = {.name = "resnet18_gn",
               .help = "ResNet-18 for small images with group norm in place of batch norm",
               .paper = "He et al., arXiv:1512.03385; Hsieh et al., The Non-IID Data Quagmire of "
                        "Decentralized Machine Learning, arXiv:1910.00189; Reddi et al., "
                        "arXiv:2003.00295"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
};
