/* fedlane: trains whole cohorts of federated clients at once.
 *
 * The installed interface: a configuration goes in, rounds and metrics come out. Everything else in
 * the source tree is internal. The library never prints, exits or aborts: each call returns a
 * status, and fedlane_error() has the sentence that explains it.
 *
 *     fedlane_run *run = NULL;
 *     fedlane_metrics m;
 *     if (fedlane_open("fashion.yaml", 0, NULL, 0, &run) == FEDLANE_OK)
 *       while (fedlane_round(run, &m) == FEDLANE_OK) printf("%d %g\n", m.round, m.train_loss);
 *     fedlane_close(&run);
 *
 * Threads: one run belongs to one thread at a time; different runs are independent. fedlane_stop()
 * may be called from any thread and from a signal handler. */
#ifndef FEDLANE_H
#define FEDLANE_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__GNUC__)
#define FEDLANE_API __attribute__((visibility("default")))
#else
#define FEDLANE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Every status with its one-line meaning. FEDLANE_DONE and FEDLANE_STOPPED are not failures. */
#define FEDLANE_STATUS_LIST(X)                               \
  X(OK, "success")                                           \
  X(DONE, "no round is left")                                \
  X(STOPPED, "stopped by the user after a checkpoint")       \
  X(USAGE, "the configuration or the command is wrong")      \
  X(DATA, "a data file is missing, damaged or does not fit") \
  X(IO, "a file could not be read or written")               \
  X(MEMORY, "memory is exhausted")                           \
  X(DEVICE, "the device is missing or failed")               \
  X(UNSUPPORTED, "this build or device cannot do that")      \
  X(INTERNAL, "a fault in fedlane itself")

typedef enum fedlane_status {
#define FEDLANE_STATUS_ENUM(name, text) FEDLANE_##name,
  FEDLANE_STATUS_LIST(FEDLANE_STATUS_ENUM)
#undef FEDLANE_STATUS_ENUM
      FEDLANE_STATUS_COUNT
} fedlane_status;

typedef struct fedlane_run fedlane_run; /* opaque: a population, a model, a server and its round */

/* A metric over the central test set, as eval.metrics asks for it. */
typedef struct fedlane_score {
  const char *name; /* such as "rmse"; static; NULL: there is none */
  double value;     /* in the data's own units where these are known; NaN where it has no meaning */
} fedlane_score;

/* What was left out of a round, and how often. */
typedef struct fedlane_cause {
  const char *name; /* such as "corrupt"; static; NULL: there is no more */
  int64_t count;
} fedlane_cause;

enum { FEDLANE_SCORES_MAX = 8, FEDLANE_CAUSES_MAX = 16 };

/* What one round did. Means are over examples. Values that were not measured are NaN (JSON null).
 */
typedef struct fedlane_metrics {
  int round;                         /* 1 .. rounds */
  int rounds;                        /* rounds of the whole run */
  int clients;                       /* updates that entered the mean */
  int dropped;                       /* clients left out because their update was not finite */
  int64_t examples;                  /* examples visited by local training, epochs counted */
  int64_t steps;                     /* local steps taken by all clients */
  int64_t bytes_up, bytes_down;      /* bytes that would cross the network; of a fleet: that did */
  double seconds;                    /* wall time of the round without evaluation */
  double train_loss, train_accuracy; /* during local training */
  double test_loss, test_accuracy;   /* central test set; NaN unless this round evaluated */
  fedlane_score
      score[FEDLANE_SCORES_MAX];        /* with test_loss, in the order asked for; then no name */
  const char *client_metric;            /* what the next three are of, such as "accuracy"; static */
  double client_mean, client_deviation; /* over clients, each counted once */
  double client_worst;                  /* mean over the worst tenth of the clients */
  /* Energy of the round's devices, whoever else used them: of a GPU its board's, of the processor
   * its packages'. NaN where nothing counts, or counters may not be read. They are renewed about
   * every 100 ms, so a short round gets more or less than it used. */
  double joules;
  fedlane_cause left_out[FEDLANE_CAUSES_MAX]; /* by a fleet's coordinator; then no name */
  /* Local training by its count of operations and of bytes that it has to move at least, not by
   * measurement, over `seconds`. Operations: multiplications and additions of dense and convolution
   * layers. Bytes: each example's activations and gradients written and read once, for each step a
   * client's weights read twice and written once. */
  double gflops, gbytes_per_second;
} fedlane_metrics;

/* The version of the library, such as "0.1.0". Static; never NULL. */
FEDLANE_API const char *fedlane_version(void);

/* One line for a status, such as "the configuration or the command is wrong". Static; never NULL.
 */
FEDLANE_API const char *fedlane_status_text(fedlane_status status);

/* The sentence for the last failure in the calling thread; "" if there was none. It stays valid
 * until the next failing call in that thread. Several mistakes in one configuration are separated
 * by newlines. */
FEDLANE_API const char *fedlane_error(void);

enum { FEDLANE_RESUME = 1 }; /* flag of fedlane_open: go on from the run folder's checkpoint */

/* Reads a configuration file, loads its data and prepares the first round.
 * override: n_override strings "key.path=value" that win over the file; may be NULL when 0.
 * flags: 0 or FEDLANE_RESUME, which begins where there is no checkpoint. *out is set only on
 * success; close it with fedlane_close(). Writes the run folder (`output` in the configuration); an
 * empty `output` writes nothing. Errors: USAGE with all mistakes listed, DATA, IO, MEMORY, DEVICE.
 */
FEDLANE_API fedlane_status fedlane_open(const char *config, int n_override,
                                        const char *const *override, int flags, fedlane_run **out);

/* Trains one round and evaluates if the configuration says so. metrics may be NULL.
 * Returns FEDLANE_DONE when no round is left, FEDLANE_STOPPED after fedlane_stop() once the
 * checkpoint is on disk; *metrics is then untouched. */
FEDLANE_API fedlane_status fedlane_round(fedlane_run *run, fedlane_metrics *metrics);

/* Asks the run to stop after the round in progress. Safe in a signal handler. */
FEDLANE_API void fedlane_stop(fedlane_run *run);

/* Finds one tensor of the server's model by its PyTorch name, such as "conv1.weight".
 * *at points to *count floats in PyTorch's layout on the host; valid until the next call on run. */
FEDLANE_API fedlane_status fedlane_tensor(fedlane_run *run, const char *name, const float **at,
                                          int64_t *count);

/* Writes the model to a safetensors file with PyTorch's names and layout (aside, then renamed). */
FEDLANE_API fedlane_status fedlane_save(fedlane_run *run, const char *path);

/* Finishes the run folder and frees the run. Accepts NULL and a pointer to NULL; nulls *run. */
FEDLANE_API void fedlane_close(fedlane_run **run);

/* Real clients: devices that train with data of their own for a coordinator, `fedlane serve` with
 * `fleet.clients: real`.
 *
 *     fedlane_client *client = NULL;
 *     fedlane_client_options me = {.name = "car 17", .examples = 600};
 *     fedlane_task task = {0};
 *     if (fedlane_client_join("tcp://10.0.0.5:7700", &me, &client) != FEDLANE_OK) return 1;
 *     while (fedlane_client_next(client, 60, &task) == FEDLANE_OK) {
 *       if (task.kind == FEDLANE_TASK_DONE) break;
 *       if (task.kind == FEDLANE_TASK_NONE) continue;
 *       ... new weights from task.weights ...
 *       fedlane_trained trained = {.weights = mine, .examples = 600, .loss = loss};
 *       fedlane_client_send(client, &trained, NULL);
 *     }
 *     fedlane_client_leave(&client);
 *
 * A client belongs to one thread at a time. A coordinator that is lost is looked for again by
 * itself. Training may take as long as it likes between two calls. */
typedef struct fedlane_client fedlane_client; /* opaque: a session with a coordinator */

/* Who a client is. Texts are copied or read by the call. */
typedef struct fedlane_client_options {
  const char *name;   /* what the coordinator calls it: UTF-8, 1 to 64 bytes; NULL: "client" */
  int64_t examples;   /* training examples that it has */
  const char *key;    /* file with its secret key, from `fedlane keygen`; NULL: without keys */
  const char *server; /* the coordinator's public key: 40 characters, or a .pub file; NULL: none */
  bool insecure;      /* go without keys to other machines */
  double seconds;     /* that joining may take; 0: as long as it takes */
} fedlane_client_options;

typedef enum fedlane_task_kind {
  FEDLANE_TASK_NONE,  /* nothing to do yet */
  FEDLANE_TASK_TRAIN, /* train, then send or refuse */
  FEDLANE_TASK_DONE   /* the run is complete: leave */
} fedlane_task_kind;

/* What a client is asked to do. */
typedef struct fedlane_task {
  fedlane_task_kind kind;
  int round;            /* from 1 */
  int64_t elements;     /* of the model's vector of weights */
  const float *weights; /* [elements] the round's model; valid until the next fedlane_client_next */
  double lr;            /* learning rate of local steps */
  int64_t epochs, batch; /* passes over the examples; examples of a step, 0: all */
  double deadline;       /* seconds from now until an update comes too late; 0: never */
} fedlane_task;

/* How the numbers of an update travel. */
typedef enum fedlane_payload {
  FEDLANE_PAYLOAD_FLOAT32,
  FEDLANE_PAYLOAD_BFLOAT16, /* half the bytes, 8 bits of each number */
  FEDLANE_PAYLOAD_INT8,     /* a quarter: blocks of 256 with a common factor */
  FEDLANE_PAYLOAD_SPARSE    /* 8 bytes for each number that is not 0 */
} fedlane_payload;

/* What came of a task. */
typedef struct fedlane_trained {
  const float *weights; /* [elements] the model after training */
  int64_t examples;     /* that it was trained on, epochs not counted: 1 to 2^24 */
  int64_t steps, hits;  /* local steps; right answers, over examples and epochs; 0: not counted */
  double loss;          /* sum over examples and epochs */
  fedlane_payload payload;
} fedlane_trained;

/* Joins a coordinator, which need not be there yet: tcp://HOST:PORT, ipc://PATH, or, within this
 * process, loopback://NAME. *out is set only on success; end it with fedlane_client_leave().
 * Errors: USAGE for an address, name or key that is none, or when the coordinator refuses, with its
 * sentence; IO when in that time nobody answers, or there is no place; MEMORY. */
FEDLANE_API fedlane_status fedlane_client_join(const char *address,
                                               const fedlane_client_options *options,
                                               fedlane_client **out);

/* The next thing to do, waiting at most about `seconds`. A task that was neither sent nor refused
 * is refused by this. Errors: USAGE when the coordinator ends the session for good, with its
 * sentence; MEMORY. */
FEDLANE_API fedlane_status fedlane_client_next(fedlane_client *client, double seconds,
                                               fedlane_task *task);

/* Where a tensor of the model lies in the vector, by its PyTorch name, such as "fc.weight": *count
 * elements from *at on, in PyTorch's order. dim [4]: its dimensions; those that it lacks are 1.
 * What lies between tensors counts for nothing. Errors: USAGE when there is no such tensor; DATA
 * when the coordinator says that it lies outside of the model. */
FEDLANE_API fedlane_status fedlane_client_tensor(const fedlane_client *client, const char *name,
                                                 int64_t *at, int64_t *count, int64_t dim[4]);

/* The coordinator's configuration as YAML, for programs that want to know more. Valid until the
 * next call on client. */
FEDLANE_API const char *fedlane_client_config(const fedlane_client *client);

/* Sends what was trained, as the difference to the task's weights, and waits until it is in.
 * *mixed (NULL: not wanted) is false when the round has ended without it, or the coordinator has
 * left it out. Errors: USAGE when there is no task, or a number is out of bounds; DATA when the
 * difference is not finite; the task is then refused. As fedlane_client_next. */
FEDLANE_API fedlane_status fedlane_client_send(fedlane_client *client,
                                               const fedlane_trained *trained, bool *mixed);

/* Does not take the task: the round goes on without this client. why: a reason for the
 * coordinator's log, at most 512 bytes. */
FEDLANE_API fedlane_status fedlane_client_refuse(fedlane_client *client, const char *why);

/* Says goodbye and frees the client. Accepts NULL and a pointer to NULL; nulls *client. */
FEDLANE_API void fedlane_client_leave(fedlane_client **client);

#ifdef __cplusplus
}
#endif
#endif
