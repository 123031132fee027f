/* The configuration: YAML bound against the records' parameter tables.
 *
 * Every mistake is found and listed at once, each as "file:line: sentence". The sections below are
 * themselves described by records (fl_config_sections), so one binder serves them all. */
#ifndef FL_CONFIG_H
#define FL_CONFIG_H

#include <stdio.h>

#include "dataset.h"
#include "model.h"

/* A catalogue entry and its bound arguments. */
typedef struct fl_choice {
  const fl_record *record; /* NULL: not chosen */
  void *args;              /* record->args_size bytes; NULL when that is 0 */
} fl_choice;

typedef struct fl_general {
  const char *name;
  int64_t seed;         /* 0 .. 2^32-1 */
  const char *device;   /* auto | cpu | ref | cuda ... */
  int precision_choice; /* auto,fp32,tf32,bf16,tf32x3 */
  int64_t threads;      /* CPU worker threads; 0: all cores */
  int64_t width;        /* lanes seated at once on a device; 0: planned */
  const char *output;   /* run folder; "" writes nothing */
} fl_general;

enum { FL_BAD_STOP, FL_BAD_SKIP };
typedef struct fl_data_args {
  const char *path;
  int on_bad;    /* stop,skip */
  int normalise; /* fl_normalise: auto,standard,unit,none */
  int64_t crop;  /* random crop padding */
  bool flip;
  double hold_out;   /* share of each client's examples kept for per-client evaluation */
  const char *cache; /* folder of data sets that have been read; "": none */
} fl_data_args;

enum {
  FL_LOSS_AUTO,
  FL_LOSS_NAME_XENT,
  FL_LOSS_NAME_MSE,
  FL_LOSS_NAME_HUBER,
  FL_LOSS_NAME_LOGISTIC
};
typedef struct fl_train_args {
  int64_t rounds, cohort, epochs, batch; /* batch 0: all of a client's examples */
  double lr, lr_decay, weight_decay, momentum, clip_norm;
  int implicit; /* fl_imply */
  int loss;     /* auto,xent,mse,huber,logistic */
  double huber_delta;
  bool resident;
} fl_train_args;

typedef struct fl_server_args {
  double lr;     /* 0: the algorithm's usual (fl_algorithm.server_lr) */
  int weighting; /* auto,examples,uniform; auto: the algorithm's own */
} fl_server_args;

typedef struct fl_eval_args {
  int64_t every; /* rounds; 0: only after the last */
  int64_t batch;
  bool clients; /* evaluate every client too */
} fl_eval_args;

typedef struct fl_checkpoint_args {
  int64_t every; /* rounds; 0: only when stopped and at the end */
} fl_checkpoint_args;

typedef struct fl_model_args {
  const char *weights; /* safetensors to start from; "" : initialise */
} fl_model_args;

enum { FL_CLIENTS_SIMULATED, FL_CLIENTS_REAL };
enum { FL_SUMS_AUTO, FL_SUMS_ZEROMQ, FL_SUMS_NCCL };
/* What a coordinator goes by; `fedlane run` does not look at it. */
typedef struct fl_fleet_args {
  int clients;             /* simulated,real */
  const char *listen;      /* address */
  const char *key, *allow; /* files of keys.h; "": none */
  bool insecure;
  int sums;            /* auto,zeromq,nccl */
  int64_t peers, most; /* that take work before the first round; at most at a time */
  double deadline;     /* seconds a round; 0: none */
  double quorum;       /* share of the cohort without which a deadline does not end a round */
  double patience;     /* seconds */
  int64_t memory;      /* MiB */
  double rate;         /* messages a second from a peer */
} fl_fleet_args;

enum { FL_FILTERS_MAX = 8, FL_SINKS_MAX = 8, FL_METRICS_MAX = FEDLANE_SCORES_MAX };
typedef struct fl_config {
  fl_general general;
  fl_data_args data;
  fl_split split;
  fl_train_args train;
  fl_server_args server;
  fl_eval_args eval;
  fl_checkpoint_args checkpoint;
  fl_fleet_args fleet;
  fl_model_args model_args;
  fl_choice format, partition, model, algorithm, sampler;
  fl_choice filter[FL_FILTERS_MAX];
  int n_filter;
  fl_choice metric[FL_METRICS_MAX];
  int n_metric; /* 0: those that suit the task */
  int n_layer;  /* > 0: the model is this list, and `model` is not chosen */
  fl_layer *layer;
  struct fl_tree *tree; /* owns every text, argument and layer above */
  char *resolved;       /* YAML that reads back to this very configuration, defaults spelled out */
  char digest[17];      /* hex of all that decides the weights: FL_FREE parameters are left out */
} fl_config;

/* Reads a file ("-": standard input) and n overrides "key.path=value". Relative data.path and
 * model.weights are taken relative to the working directory; $VARIABLES and ${VARIABLES} in TEXT
 * values are expanded, an unset one is a mistake; $$ stands for a dollar sign. An override may
 * name another entry (algorithm.name=fedavg): what the file says for the old one alone is dropped.
 * Errors: IO (cannot read), USAGE (all mistakes, one a line). */
fl_status fl_config_read(const char *path, int n, const char *const *overrides, fl_config **out);
/* The same from text; name stands for the file in messages. */
fl_status fl_config_parse(const char *name, const char *text, int n, const char *const *overrides,
                          fl_config **out);
void fl_config_close(fl_config **config);
/* One layer as an item of a `layers:` list. full: with every option, and not only those that differ
 * from the kind's defaults. */
void fl_config_write_layer(const fl_layer *layer, bool full, FILE *out);

extern const fl_catalogue
    fl_config_sections; /* run, data, train, server, eval, checkpoint, model */
/* Every catalogue by kind: backend, model, layer, algorithm, filter, sampler, partition, format,
 * metric, sink, section. n is their number. */
const fl_catalogue *const *fl_catalogues(int *n);

#endif
