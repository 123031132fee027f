/* The models that come with fedlane, one file a family. Internal to models/. */
#ifndef FL_FAMILIES_H
#define FL_FAMILIES_H

#include "model.h"

extern const fl_model_spec fl_model_logistic, fl_model_mlp, fl_model_cnn_fedavg,
    fl_model_cnn_dropout, fl_model_lenet, fl_model_cnn_feddyn, fl_model_resnet18_gn,
    fl_model_lstm_char, fl_model_lstm_word, fl_model_gru_series, fl_model_pilotnet,
    fl_model_resnet20_gn, fl_model_mobilenet_small, fl_model_mlp_tabular, fl_model_cnn_rul;

#endif
