#include "families.h"

static const fl_record *const models[] = {
    &fl_model_logistic.record,        &fl_model_mlp.record,         &fl_model_cnn_fedavg.record,
    &fl_model_cnn_dropout.record,     &fl_model_lenet.record,       &fl_model_cnn_feddyn.record,
    &fl_model_resnet18_gn.record,     &fl_model_lstm_char.record,   &fl_model_lstm_word.record,
    &fl_model_gru_series.record,      &fl_model_pilotnet.record,    &fl_model_resnet20_gn.record,
    &fl_model_mobilenet_small.record, &fl_model_mlp_tabular.record, &fl_model_cnn_rul.record,
};

const fl_catalogue fl_models = {
    .kind = "model",
    .help = "a network, as a table of layers",
    .entry = models,
    .n = FL_COUNT(models),
};
