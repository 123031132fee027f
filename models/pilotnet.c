#include "families.h"

/* NVIDIA's network from a camera's image to a steering angle: 252,219 parameters at 3 x 66 x 200
 * and one output. Relu, which the paper leaves open; the image is normalised as data are read. */
#define CONV(module, channels, side, step)                                              \
  {.kind = FL_CONV, .name = module, .out = channels, .kernel = side, .stride = step}, { \
    .kind = FL_RELU                                                                     \
  }
#define DENSE(module, features) \
  {.kind = FL_DENSE, .name = module, .out = features}, { .kind = FL_RELU }

static const fl_layer layers[] = {
    CONV("conv1", 24, 5, 2), CONV("conv2", 36, 5, 2),
    CONV("conv3", 48, 5, 2), CONV("conv4", 64, 3, 1),
    CONV("conv5", 64, 3, 1), {.kind = FL_FLATTEN},
    DENSE("fc1", 100),       DENSE("fc2", 50),
    DENSE("fc3", 10),        {.kind = FL_DENSE, .name = "fc4"},
};

static const fl_ends typical[] = {{.input = {3, 66, 200}, .n_output = 1}};

const fl_model_spec fl_model_pilotnet = {
    .record = {.name = "pilotnet",
               .help = "five convolutions and four dense layers from an image to a steering angle",
               .paper = "Bojarski et al., End to End Learning for Self-Driving Cars, "
                        "arXiv:1604.07316"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
    .typical = typical,
    .n_typical = FL_COUNT(typical),
};
