/* The runs of op_cases.c: each calls one group of slots and keeps what they wrote. */
#ifndef FL_OP_RUNS_H
#define FL_OP_RUNS_H

#include "op_cases.h"

fl_status fl_run_gather(fl_rig *r);
fl_status fl_run_random(fl_rig *r); /* normal and uniform */
fl_status fl_run_dense(fl_rig *r);
fl_status fl_run_conv(fl_rig *r);
fl_status fl_run_block(fl_rig *r); /* a convolution with its relu and pooling, and a relu before */
fl_status fl_run_pool(fl_rig *r);
fl_status fl_run_gnorm(fl_rig *r);
fl_status fl_run_act(fl_rig *r);
fl_status fl_run_dropout(fl_rig *r);
fl_status fl_run_flatten(fl_rig *r);
fl_status fl_run_lstm(fl_rig *r); /* with the weights' gradients, as a layer has them */
fl_status fl_run_gru(fl_rig *r);
fl_status fl_run_embed(fl_rig *r);
fl_status fl_run_last(fl_rig *r);
fl_status fl_run_depthwise(fl_rig *r);
fl_status fl_run_columns(fl_rig *r);
fl_status fl_run_xent(fl_rig *r);
fl_status fl_run_regress(fl_rig *r);
fl_status fl_run_step(fl_rig *r);
fl_status fl_run_axpby(fl_rig *r);
fl_status fl_run_fill(fl_rig *r);
fl_status fl_run_measure(fl_rig *r);
fl_status fl_run_clip(fl_rig *r);
fl_status fl_run_adaptive(fl_rig *r);
fl_status fl_run_mix(fl_rig *r); /* mix, add64 and unmix */

#endif
