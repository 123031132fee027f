/* The filters of this build. */
#ifndef FL_FILTERS_H
#define FL_FILTERS_H

#include "engine.h"

extern const fl_filter fl_clip, fl_gaussian;

#endif
