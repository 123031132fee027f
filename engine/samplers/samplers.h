/* The samplers, one a file. */
#ifndef FL_SAMPLERS_H
#define FL_SAMPLERS_H

#include "dataset.h"

extern const fl_sampler fl_cyclic, fl_uniform;

#endif
