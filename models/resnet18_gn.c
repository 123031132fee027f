#include "families.h"
#include "resnet.h"

/* ResNet-18 with every batch norm replaced by a group norm of two groups (arXiv:2003.00295, after
 * arXiv:1910.00189) and the stem for small images: one 3x3 convolution of stride 1 and no pooling.
 * 11,173,962 parameters at 3 x 32 x 32 and 10 classes. Modules are called as in torchvision. */
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
