/* The blocks of residual networks with group norm. Modules are called as in torchvision, where the
 * norms are batch norms. Internal to the tables of such networks. */
#ifndef FL_RESNET_H
#define FL_RESNET_H

#include "families.h"

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

#endif
