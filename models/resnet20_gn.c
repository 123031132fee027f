#include "families.h"
#include "resnet.h"

/* ResNet-20 for CIFAR's images (arXiv:1512.03385, section 4.2): three stages of 16, 32 and 64
 * channels, with group norms of two groups in place of batch norms, and 1x1 convolutions where the
 * paper's shortcuts fill up with zeros. 272,474 parameters at 3 x 32 x 32 and 10 classes. */
static const fl_layer layers[] = {
    CONV("conv1", 16, 3, 1, 0), NORM("bn1"),          RELU,
    SAME("layer1.0", 16),       SAME("layer1.1", 16), SAME("layer1.2", 16),
    HALVE("layer2.0", 32),      SAME("layer2.1", 32), SAME("layer2.2", 32),
    HALVE("layer3.0", 64),      SAME("layer3.1", 64), SAME("layer3.2", 64),
    {.kind = FL_AVG_POOL},      {.kind = FL_FLATTEN}, {.kind = FL_DENSE, .name = "fc"},
};

const fl_model_spec fl_model_resnet20_gn = {
    .record = {.name = "resnet20_gn",
               .help = "ResNet-20 for small images with group norm in place of batch norm",
               .paper = "He et al., arXiv:1512.03385; Wu and He, Group Normalization, "
                        "arXiv:1803.08494"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
};
