#include "families.h"

/* Convolutions along the time of a window of sensors, after Li et al., who use one filter for all
 * sensors, more layers and tanh. 108,777 parameters at 30 steps of 14 sensors and one output. */
#define CONV(module) \
  {.kind = FL_CONV1D, .name = module, .out = 32, .kernel = 5, .pad = 2}, { .kind = FL_RELU }

static const fl_layer layers[] = {
    {.kind = FL_AS_IMAGE}, CONV("conv1"),
    CONV("conv2"),         CONV("conv3"),
    {.kind = FL_FLATTEN},  {.kind = FL_DENSE, .name = "fc1", .out = 100},
    {.kind = FL_RELU},     {.kind = FL_DENSE, .name = "fc2"},
};

static const fl_ends typical[] = {{.input = {14, 1, 1, 30}, .n_output = 1}};

const fl_model_spec fl_model_cnn_rul = {
    .record = {.name = "cnn_rul",
               .help = "three convolutions along the time of a window of sensors, for remaining "
                       "useful life",
               .paper = "Li et al., Remaining useful life estimation in prognostics using deep "
                        "convolution neural networks, doi:10.1016/j.ress.2017.11.021"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
    .typical = typical,
    .n_typical = FL_COUNT(typical),
};
