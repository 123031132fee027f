/* The engine's own types: lanes, server, algorithms, filters, and a run that holds them. */
#ifndef FL_ENGINE_H
#define FL_ENGINE_H

#include <signal.h>
#include <stdatomic.h>

#include "arena.h"
#include "backend.h"
#include "config.h"
#include "mix.h"

enum { FL_SLOTS = 4, FL_UPDATES = 2 };

/* Seats for clients on one device. Algorithms and filters get the C lanes of one call, those with
 * most work first. */
typedef struct fl_lanes {
  const fl_ops *ops;
  fl_dev *dev;
  int C, width; /* lanes; seats of the device */
  int64_t P;
  double lr;                    /* the round's local learning rate */
  uint32_t *client, *nth;       /* (host) [width] client number, occurrence in this cohort */
  int32_t *rank;                /* (host) [width] place in the sampled cohort */
  int32_t *n_example, *n_step;  /* (host) [width] training examples; steps to take, descending */
  fl_span w;                    /* weights; once training has ended up[0] takes their place */
  fl_span up[FL_UPDATES];       /* updates to mix; up[0] is w */
  fl_span slot[FL_SLOTS];       /* the clients' own vectors */
  fl_cspan w0;                  /* the round's global weights, stride 0 */
  fl_cspan broadcast[FL_SLOTS]; /* server slots that travelled with them, stride 0 */
  float *coef;                  /* (host) [width] scratch for per-lane factors */
} fl_lanes;

/* The server's vectors, on the first device. */
typedef struct fl_server {
  const fl_ops *ops;
  fl_dev *dev;
  int64_t P;
  double lr;                      /* server.lr */
  int population, arrived, round; /* arrived: clients in the mean; round: from 1 */
  float *w, *slot[FL_SLOTS];
} fl_server;

typedef enum fl_weighting { FL_BY_EXAMPLES, FL_UNIFORM } fl_weighting;

/* A federated algorithm: a constant record in a file of its own in engine/algorithms/. */
typedef struct fl_algorithm {
  fl_record record;
  fl_weighting weighting;
  double server_lr;   /* used when the configuration's server.lr is 0 */
  bool full_gradient; /* one step a round, from the gradient over all of a client's examples */
  int n_server_slot, n_broadcast; /* vectors the server keeps; the first n_broadcast travel */
  int n_client_slot, n_update;    /* vectors kept a client; vectors sent a client, at least 1 */
  /* Corrections added to the gradient: writes at most FL_TERMS_MAX - 1 terms, returns how many. */
  int (*terms)(const void *args, const fl_lanes *lanes, fl_term *out); /* NULL: none */
  /* After local training: up[0] holds w - w0 already; fills other updates and client slots. */
  fl_status (*finish)(const void *args, fl_lanes *lanes); /* NULL: nothing to add */
  /* The server's step, given the mean of each update. */
  fl_status (*apply)(const void *args, fl_server *server, float *const *mean);
} fl_algorithm;

/* A filter changes updates on their way: on each lane before the mix, on the mean after it. */
typedef struct fl_filter {
  fl_record record;
  /* The factor of an update of this Euclidean norm. Cheaper than `lanes`: it takes no pass. */
  double (*scale)(const void *args, double norm);                             /* NULL: none */
  fl_status (*lanes)(const void *args, const fl_draw *draw, fl_lanes *lanes); /* NULL: none */
  bool (*touches)(const void *args); /* whether `lanes` does anything; NULL: always */
  fl_status (*mean)(const void *args, const fl_draw *draw, fl_server *server, float *mean);
} fl_filter;

/* What a model is to answer. */
typedef struct fl_task {
  const fl_dataset *data;
  bool logistic; /* targets are classes of their own, and outputs their logits */
} fl_task;

/* What evaluation knows of some examples. */
typedef struct fl_scored {
  int64_t n;            /* examples */
  const int32_t *index; /* [n] their numbers in the data set */
  double loss;          /* sum over the answers */
  int64_t hit, asked;   /* right answers, of classes; answers asked for */
  const double *kept;   /* [n, keeps] what `take` wrote for each */
} fl_scored;

/* A metric: a constant record in a file of its own in engine/metrics/. It boils the outputs for an
 * example down to a few numbers, on the thread that has them, and in the end makes one value of all
 * examples in their order; so a value depends on no thread, lane or batch. */
typedef struct fl_metric {
  fl_record record;
  const char *needs;                     /* what a task must have, for messages */
  bool low, share;                       /* small is good; a part of 1, shown in percent */
  bool (*fits)(const fl_task *task);     /* whether it means anything */
  bool (*usual)(const fl_task *task);    /* whether it is taken unless others are asked for */
  int64_t (*keeps)(const fl_task *task); /* numbers kept of an example; 0: outputs are not wanted */
  /* z: the outputs for an example, [n_label, classes] or [n_target]; kept: [keeps]. */
  void (*take)(const fl_task *task, int64_t example, const float *z, double *kept);
  /* NaN where it is not defined. Errors: MEMORY. */
  fl_status (*value)(const fl_task *task, const fl_scored *of, double *value);
} fl_metric;

/* What a round came to, and when it ended, in seconds since 1970. */
typedef struct fl_row {
  fedlane_metrics of;
  double when;
} fl_row;

/* A sink takes the metrics of each round. `path` is the run folder. */
typedef struct fl_sink_kind {
  fl_record record;
  /* data: what was read; kept by the caller. resumed_after: rounds already in the folder; later
   * rows of an earlier try are removed. */
  fl_status (*open)(const char *path, const fl_config *config, const fl_dataset *data,
                    int resumed_after, void **state);
  /* Rows in their order, n >= 1; they are in their file when it returns. */
  fl_status (*rows)(void *state, int n, const fl_row *row);
  fl_status (*close)(void **state); /* also on failure; flushes */
} fl_sink_kind;

extern const fl_catalogue fl_algorithms, fl_filters, fl_metrics, fl_sinks;

#endif
