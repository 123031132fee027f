#include <math.h>
#include <string.h>

#include "config_parts.h"
#include "engine.h"

enum { ROUNDS_MAX = 1000000000, COUNT_MAX = 2147483647 };

static const fl_param general[] = {
    {.name = "name",
     .type = FL_TEXT,
     .offset = offsetof(fl_general, name),
     .text = "fedlane",
     .flags = FL_FREE,
     .help = "a name for the run, shown in its report"},
    {.name = "seed",
     .type = FL_INT,
     .offset = offsetof(fl_general, seed),
     .dflt = 1,
     .lo = 0,
     .hi = 4294967295.0,
     .help = "decides every random number of the run"},
    {.name = "device",
     .type = FL_TEXT,
     .offset = offsetof(fl_general, device),
     .text = "auto",
     .flags = FL_FREE,
     .help = "auto, cpu, ref, cuda (the first GPU), chosen GPUs as in cuda:0,1, or cuda:all"},
    {.name = "precision",
     .type = FL_CHOICE,
     .offset = offsetof(fl_general, precision_choice),
     .text = "auto,fp32,tf32,bf16,tf32x3",
     .help = "of matrix products; auto: fp32 on a CPU, tf32 on a GPU; tf32x3: near fp32"},
    {.name = "threads",
     .type = FL_INT,
     .offset = offsetof(fl_general, threads),
     .lo = 0,
     .hi = FL_DEVICES_MAX,
     .flags = FL_FREE,
     .help = "CPU worker threads; 0: one a core"},
    {.name = "width",
     .type = FL_INT,
     .offset = offsetof(fl_general, width),
     .lo = 0,
     .hi = 65536,
     .flags = FL_FREE,
     .unit = "lanes",
     .help = "clients seated at once on a device; 0: as many as fit"},
    {.name = "output",
     .type = FL_TEXT,
     .offset = offsetof(fl_general, output),
     .text = "",
     .flags = FL_FREE,
     .help = "folder of the run; empty: write nothing"},
};

static const fl_param data[] = {
    {.name = "path",
     .type = FL_TEXT,
     .offset = offsetof(fl_data_args, path),
     .text = "",
     .help = "file or folder of the data"},
    {.name = "on_bad",
     .type = FL_CHOICE,
     .offset = offsetof(fl_data_args, on_bad),
     .text = "stop,skip",
     .help = "what to do about a damaged file or row: stop, or leave it out and count it"},
    {.name = "normalise",
     .type = FL_CHOICE,
     .offset = offsetof(fl_data_args, normalise),
     .text = "auto,standard,unit,none",
     .help = "standard: by each channel's mean and deviation; auto: standard for bytes"},
    {.name = "crop",
     .type = FL_INT,
     .offset = offsetof(fl_data_args, crop),
     .lo = 0,
     .hi = 256,
     .unit = "pixels",
     .help = "zero padding from which a training image is cropped at random"},
    {.name = "flip",
     .type = FL_BOOL,
     .offset = offsetof(fl_data_args, flip),
     .help = "mirror training images left to right at random"},
    {.name = "hold_out",
     .type = FL_REAL,
     .offset = offsetof(fl_data_args, hold_out),
     .lo = 0,
     .hi = 1,
     .flags = FL_HI_OPEN,
     .help = "share of each client's examples kept for its own evaluation"},
    {.name = "cache",
     .type = FL_TEXT,
     .offset = offsetof(fl_data_args, cache),
     .text = "",
     .flags = FL_FREE,
     .help = "folder that keeps the decoded data for the next time; empty: none"},
};

static const fl_param split[] = {
    {.name = "by",
     .type = FL_CHOICE,
     .offset = offsetof(fl_split, by),
     .text = "none,client,example,time",
     .help = "what the central test is made of, where the data bring none: whole clients, examples "
             "at random, or the last examples of each client"},
    {.name = "share",
     .type = FL_REAL,
     .offset = offsetof(fl_split, share),
     .dflt = 0.2,
     .lo = 0,
     .hi = 1,
     .flags = FL_LO_OPEN | FL_HI_OPEN,
     .help = "of the clients, or of the examples, for the test"},
    {.name = "gap",
     .type = FL_INT,
     .offset = offsetof(fl_split, gap),
     .lo = 0,
     .hi = COUNT_MAX,
     .unit = "examples",
     .help = "left out of each client between training and test, by time: windows that overlap"},
    {.name = "replace",
     .type = FL_BOOL,
     .offset = offsetof(fl_split, replace),
     .help = "leave the test part that the data bring out, and split the rest"},
};

static const fl_param model[] = {
    {.name = "weights",
     .type = FL_TEXT,
     .offset = offsetof(fl_model_args, weights),
     .text = "",
     .help = "safetensors file to start from; empty: random weights"},
};

static const fl_param train[] = {
    {.name = "rounds",
     .type = FL_INT,
     .offset = offsetof(fl_train_args, rounds),
     .dflt = 100,
     .lo = 1,
     .hi = ROUNDS_MAX,
     .flags = FL_FREE,
     .unit = "rounds",
     .help = "length of the run"},
    {.name = "cohort",
     .type = FL_INT,
     .offset = offsetof(fl_train_args, cohort),
     .dflt = 10,
     .lo = 1,
     .hi = COUNT_MAX,
     .unit = "clients",
     .help = "clients that train in a round"},
    {.name = "epochs",
     .type = FL_INT,
     .offset = offsetof(fl_train_args, epochs),
     .dflt = 1,
     .lo = 1,
     .hi = 100000,
     .unit = "epochs",
     .help = "passes of a client over its examples in a round"},
    {.name = "batch",
     .type = FL_INT,
     .offset = offsetof(fl_train_args, batch),
     .dflt = 20,
     .lo = 0,
     .hi = COUNT_MAX,
     .unit = "examples",
     .help = "of a local step; 0: all examples of the client"},
    {.name = "lr",
     .type = FL_REAL,
     .offset = offsetof(fl_train_args, lr),
     .dflt = 0.05,
     .lo = 0,
     .hi = INFINITY,
     .flags = FL_LO_OPEN,
     .help = "local learning rate of the first round"},
    {.name = "lr_decay",
     .type = FL_REAL,
     .offset = offsetof(fl_train_args, lr_decay),
     .dflt = 1,
     .lo = 0,
     .hi = 1,
     .flags = FL_LO_OPEN,
     .help = "factor on the local learning rate after each round"},
    {.name = "weight_decay",
     .type = FL_REAL,
     .offset = offsetof(fl_train_args, weight_decay),
     .lo = 0,
     .hi = INFINITY,
     .help = "this times the weights is added to each gradient"},
    {.name = "momentum",
     .type = FL_REAL,
     .offset = offsetof(fl_train_args, momentum),
     .lo = 0,
     .hi = 1,
     .flags = FL_HI_OPEN,
     .help = "of local steps; starts from zero in each round"},
    {.name = "implicit",
     .type = FL_CHOICE,
     .offset = offsetof(fl_train_args, implicit),
     .text = "auto,always,never",
     .help = "large dense layers as the server's weights and a history of low rank, in place of a "
             "copy for each client; auto: where that moves less memory"},
    {.name = "clip_norm",
     .type = FL_REAL,
     .offset = offsetof(fl_train_args, clip_norm),
     .lo = 0,
     .hi = INFINITY,
     .help = "largest norm of a local gradient; 0: no limit"},
    {.name = "loss",
     .type = FL_CHOICE,
     .offset = offsetof(fl_train_args, loss),
     .text = "auto,xent,mse,huber,logistic",
     .help = "auto: xent for classes, mse for targets; logistic: targets from 0 to 1, each a class "
             "of its own"},
    {.name = "huber_delta",
     .type = FL_REAL,
     .offset = offsetof(fl_train_args, huber_delta),
     .dflt = 1,
     .lo = 0,
     .hi = INFINITY,
     .flags = FL_LO_OPEN,
     .help = "error at which the huber loss turns from square to linear"},
    {.name = "resident",
     .type = FL_BOOL,
     .offset = offsetof(fl_train_args, resident),
     .dflt = 1,
     .help = "keep lanes of small models on chip for all local epochs, where the device can"},
};

static const fl_param server[] = {
    {.name = "lr",
     .type = FL_REAL,
     .offset = offsetof(fl_server_args, lr),
     .lo = 0,
     .hi = INFINITY,
     .help = "learning rate of the server's step; 0: the algorithm's usual, 1 or, for adaptive "
             "servers, 0.01"},
    {.name = "weighting",
     .type = FL_CHOICE,
     .offset = offsetof(fl_server_args, weighting),
     .text = "auto,examples,uniform",
     .help =
         "weight of a client in the mean: its examples, or all alike; auto: the algorithm's own"},
};

static const fl_param eval[] = {
    {.name = "every",
     .type = FL_INT,
     .offset = offsetof(fl_eval_args, every),
     .dflt = 5,
     .lo = 0,
     .hi = ROUNDS_MAX,
     .flags = FL_FREE,
     .unit = "rounds",
     .help = "between evaluations; 0: only after the last round"},
    {.name = "batch",
     .type = FL_INT,
     .offset = offsetof(fl_eval_args, batch),
     .dflt = 50,
     .lo = 1,
     .hi = 1000000,
     .flags = FL_FREE,
     .unit = "examples",
     .help = "of a forward pass"},
    {.name = "clients",
     .type = FL_BOOL,
     .offset = offsetof(fl_eval_args, clients),
     .flags = FL_FREE,
     .help = "evaluate on every client's own examples too"},
};

static const fl_param checkpoint[] = {
    {.name = "every",
     .type = FL_INT,
     .offset = offsetof(fl_checkpoint_args, every),
     .dflt = 10,
     .lo = 0,
     .hi = ROUNDS_MAX,
     .flags = FL_FREE,
     .unit = "rounds",
     .help = "between checkpoints; 0: only when stopped and at the end"},
};

enum { RUN, DATA, SPLIT, MODEL, TRAIN, SERVER, EVAL, CHECKPOINT, SECTIONS };
#define SECTION(word, text, params, type)                                   \
  {                                                                         \
    .name = word, .help = text, .args_size = sizeof(type), .param = params, \
    .n_param = FL_COUNT(params)                                             \
  }
static const fl_record section[SECTIONS] = {
    [RUN] = SECTION("run", "the run as a whole: these keys stand at the top of the file", general,
                    fl_general),
    [DATA] = SECTION("data", "the examples: a format with its parameters, and a partition", data,
                     fl_data_args),
    [SPLIT] =
        SECTION("data.split", "which training examples become the central test", split, fl_split),
    [MODEL] =
        SECTION("model", "what is trained: a name, or a list of layers", model, fl_model_args),
    [TRAIN] = SECTION("train", "the rounds and the clients' local training", train, fl_train_args),
    [SERVER] = SECTION("server", "the server's step", server, fl_server_args),
    [EVAL] = SECTION("eval", "when and how the model is evaluated", eval, fl_eval_args),
    [CHECKPOINT] =
        SECTION("checkpoint", "when the run's state is saved", checkpoint, fl_checkpoint_args),
};
static const fl_record *const sections[SECTIONS] = {
    &section[RUN],   &section[DATA],   &section[SPLIT], &section[MODEL],
    &section[TRAIN], &section[SERVER], &section[EVAL],  &section[CHECKPOINT],
};

const fl_catalogue fl_config_sections = {
    .kind = "section",
    .help = "the fixed settings of a configuration",
    .entry = sections,
    .n = SECTIONS,
};

#define HOLDS(row, member) .section = &section[row], .section_at = offsetof(fl_config, member)
#define CHOOSES(list, member, key) \
  .catalogue = &list, .choice_at = offsetof(fl_config, member), .name_key = key
#define COUNTS(member, limit) .count_at = offsetof(fl_config, member), .most = limit
const fl_config_part fl_config_part_list[] = {
    {.path = "", HOLDS(RUN, general)},
    {.path = "data", HOLDS(DATA, data), CHOOSES(fl_formats, format, "format")},
    {.path = "data.split", HOLDS(SPLIT, split)},
    {.path = "data.partition", CHOOSES(fl_partitions, partition, "kind"), .fallback = "iid"},
    {.path = "model",
     HOLDS(MODEL, model_args),
     CHOOSES(fl_models, model, "name"),
     .instead = "layers"},
    {.path = "model.layers", .form = FL_PART_LAYERS},
    {.path = "algorithm", CHOOSES(fl_algorithms, algorithm, "name"), .fallback = "fedavg"},
    {.path = "train", HOLDS(TRAIN, train)},
    {.path = "sampler", CHOOSES(fl_samplers, sampler, "kind"), .fallback = "uniform"},
    {.path = "filters",
     .form = FL_PART_ENTRIES,
     CHOOSES(fl_filters, filter, "name"),
     COUNTS(n_filter, FL_FILTERS_MAX)},
    {.path = "server", HOLDS(SERVER, server)},
    {.path = "eval", HOLDS(EVAL, eval)},
    {.path = "eval.metrics",
     .form = FL_PART_ENTRIES,
     CHOOSES(fl_metrics, metric, "name"),
     COUNTS(n_metric, FL_METRICS_MAX),
     .none = "auto",
     .free = true},
    {.path = "checkpoint", HOLDS(CHECKPOINT, checkpoint)},
};
const int fl_config_n_part = FL_COUNT(fl_config_part_list);

const char *fl_part_key(const fl_config_part *part) {
  const char *dot = strrchr(part->path, '.');
  return dot ? dot + 1 : part->path;
}

bool fl_part_holds(const fl_config_part *part, const char *key) {
  size_t length = strlen(part->path), start = length ? length + 1 : 0;
  for (int i = 1; i < fl_config_n_part; i++) {
    const char *path = fl_config_part_list[i].path;
    if (strncmp(path, part->path, length) != 0 || (length && path[length] != '.')) continue;
    if (strcmp(path + start, key) == 0 && !strchr(key, '.')) return true;
  }
  return false;
}
