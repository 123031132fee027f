/* A run and its parts, as the engine's own files see them. */
#ifndef FL_RUN_H
#define FL_RUN_H

#include "engine.h"
#include "team.h"

/* With FEDLANE_RESUME flags of fedlane_open: plans, writes nothing; listens for a fleet before
 * anything is written. */
enum { FL_OPEN_DRY = 2, FL_OPEN_SERVE = 4 };

/* How clients turn their examples into steps. A piece is one forward and backward pass. */
typedef struct fl_schedule {
  int batch;  /* rows of a piece */
  int epochs; /* passes over a client's examples */
  bool whole; /* a step takes all pieces of an epoch, and not just one */
  bool fused; /* gradients go straight into the weights: no gradient buffer */
  bool momentum;
} fl_schedule;

/* How the implicit layers of a call go through local training (implicit.c). */
typedef struct fl_course {
  double of_w, of_w0; /* a step adds of_w*w + of_w0*w0 + E to the gradient */
  bool extra;         /* there is an E; it lies in the lanes' slices of implicit layers */
  bool products;      /* updates go into the sums as products, without being formed */
} fl_course;

int32_t fl_schedule_pieces(const fl_schedule *s, int32_t n_example); /* of all epochs together */
int32_t fl_schedule_steps(const fl_schedule *s, int32_t n_example);

/* A client of a cohort while it is put in order. */
typedef struct fl_drawn {
  uint32_t client, nth;
  int32_t rank, work, share;
} fl_drawn;

/* Neighbours in a cohort, those with most work first: the clients of one GPU, or those that CPU
 * threads take from as they become free. */
typedef struct fl_share {
  int32_t n, end;  /* clients; the place after the last */
  int64_t work;    /* pieces of all of them */
  atomic_int next; /* place of the first client not yet taken by a station */
} fl_share;

/* The clients of one round. They are drawn into `order`, those with most work first, which depends
 * on seed and round alone; then all, or a block of them, are seated, share after share, for the
 * stations to take. Arrays of `capacity`. */
typedef struct fl_cohort {
  int32_t n, capacity; /* clients that have examples; train.cohort */
  uint32_t *client, *nth;
  int32_t *rank; /* place in the order of drawing: results are summed in this order */
  int n_share;
  fl_share share[FL_DEVICES_MAX];
  int64_t weight;  /* of all clients together, as mixed */
  fl_drawn *order; /* [n] the whole cohort */
  int32_t *drawn;  /* scratch: what the sampler writes */
  /* What came back, by rank. */
  double *loss;
  int64_t *hit;
  bool *accepted;
} fl_cohort;

/* One device: its lanes, work space and partial sums. A host thread each.
 * `width` lanes have seats; `together` of them, from lane `first` on, train in one call, and only
 * those need what training takes: activations, gradients, the clients' own vectors. The lanes
 * before `first` have been trained and wait for their updates to be mixed. */
typedef struct fl_station {
  fl_lanes lanes;
  int first;
  fl_arena arena, host_arena;
  fl_source source;
  float *global[1 + FL_SLOTS]; /* the server's weights and the slots that travel: the server's own
                                  where this device can read them, else copies of this round */
  fl_mix mix[FL_UPDATES];
  fl_span g, velocity, act, target; /* [together] */
  fl_span history;                  /* [together] of implicit layers */
  fl_course course;
  int64_t index_stride;
  int32_t *index, *label; /* (device) [together, index_stride], [together, batch] */
  double *loss;           /* (device) [together] */
  int64_t *hit;           /* (device) [together] */
  fl_measure *measure;    /* (device) [FL_UPDATES][parts of the model][width] */
  int32_t *index_host;    /* (host) the same */
  double *loss_host;
  int64_t *hit_host;
  fl_measure *measure_host;
  float *output_host; /* [eval.batch, outputs of an example]; NULL: not wanted, or host memory */
  int32_t *rows, *n_piece, *weight; /* (host) [width] */
  int32_t *step_rows;               /* (host) [width] scratch of walks over sequences */
  float *norm;                      /* (host) [width] */
  double *scale;                    /* (host) [width] factors of the updates, from filters */
  double *product_scale;            /* (host) [together] factors of updates that are products */
  float *factor;                    /* (host) [3 * together] scratch */
  fl_status status;                 /* of this round's work */
  char *sentence;                   /* why it failed; owned */
} fl_station;

/* rows.c: what becomes of the metrics of rounds in a run's folder. */
enum { FL_ROWS_MAX = 64 };
typedef struct fl_rows {
  int n_sink, n;
  struct {
    const fl_sink_kind *kind;
    void *state;
  } sink[FL_SINKS_MAX];
  fl_row row[FL_ROWS_MAX]; /* [n] that wait to be written */
  double written;          /* when rows were last written, in seconds */
} fl_rows;

/* The vectors that clients keep between rounds, in host memory (or a file when it does not fit and
 * the file system can make room in it), untouched places costing nothing. They read as zeros, but
 * are not read: on some file systems that takes room. */
typedef struct fl_store {
  int32_t n;          /* clients; 0: the algorithm keeps nothing */
  int64_t floats;     /* a client */
  float *at;          /* [n, floats] */
  int64_t bytes;      /* mapped */
  int file;           /* mapped; -1: memory */
  const char *folder; /* of the file; the caller's */
  uint8_t *side;      /* [n] 0: never saved; 1, 2: half of clients.bin with the last checkpoint */
  uint8_t *fresh;     /* [n] side as the next checkpoint will say */
  uint64_t *sum;      /* [n] digests of what was written or read last; 0: never */
  bool *touched;      /* [n] may be written to and read */
  bool *dirty;        /* [n] changed since the last checkpoint */
} fl_store;

/* folder: of the file, kept, not copied; "": in memory whatever the size. Errors: MEMORY. */
fl_status fl_store_open(fl_store *store, int32_t n, int64_t floats, const char *folder);
void fl_store_close(fl_store *store);
/* Before a client's vectors are written to or read in place: makes room for them, as a page of a
 * file on a full disk ends the program. Different clients may be touched at the same time. Errors:
 * IO with the folder, the client and the bytes; no vector has changed then. */
fl_status fl_store_touch(fl_store *store, uint32_t client);
/* Copies a client's vectors to or from lanes' slots. */
fl_status fl_store_seat(const fl_store *store, fl_lanes *lanes, int lane, int n_slot);
fl_status fl_store_unseat(fl_store *store, fl_lanes *lanes, int lane, int n_slot);
/* Writes dirty clients to the unused half of their place in `path`, then syncs; `fresh` says which
 * half, `sum` what it holds. Until fl_store_saved() the previous checkpoint stays good. */
fl_status fl_store_save(fl_store *store, const char *path);
void fl_store_saved(fl_store *store);
/* Reads what a checkpoint says: side [n], and sum [n] of uint64_t, not aligned, with which the
 * vectors are compared; NULL: an older checkpoint has none, and they are taken as they are.
 * Errors: IO; DATA with the file and the client. */
fl_status fl_store_load(fl_store *store, const char *path, const uint8_t *side, const void *sum);

/* Bytes a run needs, for the printed plan. */
typedef struct fl_plan {
  int width, together; /* lanes seated and lanes in one call, a device */
  int pieces;          /* of the client with most */
  int64_t lane, train; /* bytes a seat; bytes more for a lane while it trains */
  int64_t shared, mix; /* bytes a device besides lanes; of one level of exact sums */
  int64_t store, data; /* bytes on the host: client vectors at most, data set */
  int64_t room;        /* bytes that were free, on the device that had least */
  bool resident;       /* all local epochs of a lane in one launch */
  char why[160];       /* why they are not */
} fl_plan;

/* Groups of examples, each evaluated by itself. */
typedef struct fl_groups {
  int n;
  int64_t *offset; /* [n+1] group i is index[offset[i]] .. index[offset[i+1]-1] */
  int32_t *index;
  double *loss; /* [n] sums of the last evaluation */
  int64_t *hit;
  int n_metric; /* metrics that are made of these groups; [n_metric] below */
  const fl_metric *const *metric;
  double *kept[FL_METRICS_MAX]; /* [examples, keeps] in the order of `index`; NULL: keeps nothing */
  bool looks;                   /* one of them looks at outputs */
  atomic_int next;              /* first group not yet taken by a station */
} fl_groups;

struct fedlane_run {
  fl_config *config;
  const fl_algorithm *algorithm;
  const void *algorithm_args;
  fl_dataset data;
  fl_population people;
  fl_model *model;
  fl_schedule schedule;
  fl_devices devices;
  fl_plan plan;
  int n_station;
  fl_station *station;
  fl_team *team; /* a part of its jobs for each station */
  fl_arena server_arena;
  fl_server server;
  float *mean[FL_UPDATES];
  fl_measure *health; /* (device) of the server's weights */
  fl_store store;
  fl_cohort cohort;
  fl_weighting weighting;
  int round; /* rounds done */
  atomic_int stop;
  float *host_w; /* [P] for saving and for callers */
  fl_task task;
  const fl_metric *metric[FL_METRICS_MAX], *client_metric; /* of the central test; of a client */
  int n_metric;
  fl_groups central, clients; /* what evaluation looks at */
  fl_rows rows;
  int last_checkpoint;      /* round of the newest checkpoint; -1: none */
  struct fl_serving *fleet; /* where clients are trained; NULL: here */
};

/* run.c: what the program asks of a run beyond the public interface.
 * Reads the data of a configuration and deals them to clients. */
fl_status fl_data_open(const fl_config *config, fl_dataset *data, fl_population *people);
/* fedlane_open from a configuration in memory, which the run takes over when there is memory for it
 * (*config is then NULL). */
fl_status fl_run_open(fl_config **config, int flags, fedlane_run **out);

/* round.c: one round of training, from drawing the cohort to the server's step. */
fl_status fl_round(fedlane_run *run, fedlane_metrics *metrics);
/* The sums of all stations become one mean an update. */
fl_status fl_round_mean(fedlane_run *run);
/* cohort.c */
fl_status fl_cohort_open(fedlane_run *run);
void fl_cohort_close(fl_cohort *cohort);
/* Draws the cohort of the round after those done, and seats all of it. */
fl_status fl_cohort_draw(fedlane_run *run);
/* Seats n clients from `first` of the order on, in place of those that were. */
void fl_cohort_seat(fl_cohort *cohort, int32_t first, int32_t n);
/* Puts the n examples of a client into the order of one epoch (from 0) of a round (from 1). */
void fl_cohort_shuffle(const fedlane_run *run, int round, uint32_t client, uint32_t nth, int epoch,
                       int32_t n, int32_t *example);
/* The next at most `most` clients for a station: returns how many, *first is the place of the
 * first.
 */
int fl_cohort_take(fl_cohort *cohort, int station, int most, int *first);
int32_t fl_run_examples(const fedlane_run *run, uint32_t client); /* its training examples */
int32_t fl_run_weight(const fedlane_run *run, uint32_t client);   /* in the mean */
/* How many answers a client's training examples ask for: its examples, or labels that count. */
int64_t fl_run_answers(const fedlane_run *run, uint32_t client);

/* station.c: places a station's memory; with an arena that is planning it only counts. */
fl_status fl_station_open(fedlane_run *run, int i);
void fl_station_close(fl_station *station);
int64_t fl_station_bytes(const fedlane_run *run, int width, int together);
/* Brings the server's vectors to all devices, then runs `job` once for each station, all at the
 * same time as far as there are cores for their threads, and returns the first failure. */
typedef fl_status (*fl_job)(fedlane_run *run, fl_station *station);
fl_status fl_stations_do(fedlane_run *run, fl_job job);

/* Empties all stations' sums for the cohort that has been drawn. */
fl_status fl_stations_begin(fedlane_run *run);
/* lanes.c: the life of clients on one station: seat, train, finish, mix. */
fl_status fl_lanes_work(fedlane_run *run, fl_station *station);
/* The lanes' weights become the server's, where they have weights of their own. */
fl_status fl_lanes_start(const fedlane_run *run, fl_station *station, fl_lanes *l);
/* warm.c: walks each size of batch once, training and evaluation, so that backends make their
 * primitives and scratch before the first round. They round live rows up to quarters of a batch. */
fl_status fl_lanes_warm(fedlane_run *run, fl_station *station);
/* views.c: the lanes first .. first+n-1 of the call in progress as lanes of their own. */
fl_lanes fl_lanes_part(const fl_station *station, int first, int n);
/* A span from a lane on: of what all lanes of the station have, and of what a client needs only
 * while it trains, which exists once for each lane of a call. */
fl_span fl_lanes_from(fl_span span, int lane);
fl_span fl_lanes_local(const fl_station *station, fl_span span, int lane);
fl_span fl_part_of(fl_span lanes, const fl_part *part); /* one part of the model */
/* All that is added to the gradient of these lanes: weight decay and the algorithm's terms. out
 * [FL_TERMS_MAX]; returns how many. */
int fl_lanes_terms(const fedlane_run *run, const fl_lanes *lanes, fl_term *out);
fl_draw fl_lanes_draw(const fedlane_run *run, const fl_lanes *lanes, fl_purpose purpose, int step);
/* Whether a filter from the first-th to the one before `end` changes elements of updates one by
 * one. */
bool fl_filters_touch(const fedlane_run *run, int first, int end);
/* rows.c. Opens every sink. */
fl_status fl_rows_open(fedlane_run *run, const char *folder);
/* Takes the metrics of a round. They and all before are in the sinks' files at the latest when a
 * row is added 50 ms after the last writing or FL_ROWS_MAX rows wait; of a fleet, whose next round
 * may be long in coming, when it returns. */
fl_status fl_rows_add(fedlane_run *run, const fedlane_metrics *metrics);
/* Writes what waits. Rows that a sink fails to write are not tried again. */
fl_status fl_rows_write(fedlane_run *run);
/* Writes what waits and closes every sink; the first failure is returned. */
fl_status fl_rows_close(fedlane_run *run);
/* piece.c: one forward and backward pass of the call's first `live` lanes, and the steps it
 * completes. w: the weights that they read: their own, or, while these are still equal, the
 * round's. */
fl_status fl_train_piece(fedlane_run *run, fl_station *station, int live, int piece, fl_cspan w);
/* The examples of a pick become the input of a walk over b.B rows, gathered unless the model's
 * first layer reads them itself; their labels or targets become the station's. pick outlives the
 * walk. */
fl_status fl_input(const fedlane_run *run, const fl_station *station, const fl_pick *pick,
                   const fl_draw *draw, fl_walk *walk);
/* The loss of the call's lanes; norm (host) [b.C] scales its gradient, NULL: none wanted. */
fl_status fl_loss(const fedlane_run *run, fl_station *station, fl_batch b, const float *norm);
/* implicit.c: the course of implicit layers. l: the lanes of a call.
 * Whether the learning rate is small enough for the terms, which layers with copies do not ask. */
bool fl_course_goes(const fedlane_run *run);
/* Begins it: finds the factors, and writes E into the lanes' slices. Errors: USAGE when the local
 * learning rate is too large for the terms. */
fl_status fl_course_begin(const fedlane_run *run, fl_lanes *l, fl_course *c);
/* What the walk of a piece reads. */
fl_history fl_course_at(const fl_course *c, const fl_lanes *l, fl_span history, int piece);
/* What the sum of products over all pieces is multiplied with to be the update. */
double fl_course_scale(const fl_course *c, const fl_lanes *l, int pieces);
/* Forms the part's update in up[0]. rows: of all pieces; factor: scratch [3 * l->C]. */
fl_status fl_course_form(const fl_course *c, fl_lanes *l, const fl_part *part, fl_batch rows,
                         const int32_t *n_piece, fl_span history, float *factor);
/* update.c: from trained lanes to sums. l: the lanes of a call, which start at station->first.
 * Fills up[], applies the filters, measures. */
fl_status fl_update_finish(fedlane_run *run, fl_station *station, fl_lanes *l);
/* After it: whether a lane's updates are finite. lane: of the station. */
bool fl_update_finite(const fedlane_run *run, const fl_station *station, int lane);
/* Adds the n lanes of the call to the sums as far as their history must not wait. */
fl_status fl_update_mix_products(fedlane_run *run, fl_station *station, int n);
/* Adds what waits on the lanes before station->first. */
fl_status fl_update_mix(fedlane_run *run, fl_station *station);
/* An update that was trained elsewhere passes the filters and joins the sums; *good is false when
 * it is not finite, and was left out. update (host) [P], its gaps 0; client: who draws the filters'
 * noise. */
fl_status fl_update_receive(fedlane_run *run, fl_station *station, uint32_t client, int32_t weight,
                            const float *update, bool *good);
/* recording.c: local training is recorded so many pieces at a time. */
enum { FL_RECORDED_PIECES = 32 };
/* The key of what the call's n lanes are about to do from a piece on, over all that the host puts
 * into its ops: the lanes, their sizes, the learning rate, and who draws what where anything is
 * drawn. The same key means the same work; that other work has it too, by a chance of 2^-64, is
 * left out of account. */
uint64_t fl_recording_key(const fedlane_run *run, const fl_station *station, int n, int piece);
/* rates.c: joules that the run's devices have used since some fixed moment; NaN where one of them
 * does not count. */
double fl_run_joules(const fedlane_run *run);
/* Fills in gflops and gbytes_per_second, from examples, steps and seconds. */
void fl_run_rates(const fedlane_run *run, fedlane_metrics *metrics);
/* resident.c: OK when the devices can take all local epochs in one launch (ops.h, `resident`); else
 * UNSUPPORTED and why not. The model, the schedule and the devices decide, not the lanes. */
fl_status fl_resident_ask(fedlane_run *run);
/* Local training of n lanes in one launch. */
fl_status fl_resident_train(fedlane_run *run, fl_station *station, int n);
/* plan.c */
fl_status fl_plan_make(fedlane_run *run);
/* Text of the plan: model, devices, memory. */
fl_status fl_run_describe(fedlane_run *run, char *text, size_t size);
/* eval.c */
fl_status fl_eval_open(fedlane_run *run);
fl_status fl_eval_warm(fedlane_run *run, fl_station *station); /* as fl_lanes_warm() */
void fl_eval_close(fedlane_run *run);
fl_status fl_eval(fedlane_run *run, fedlane_metrics *metrics);
/* scores.c: the metrics of a run and what they keep while groups are evaluated.
 * Chooses them. Errors: USAGE when one does not fit the task. */
fl_status fl_scores_choose(fedlane_run *run);
/* Floats of an example's outputs, or 0 when no metric looks at them. */
int64_t fl_scores_outputs(const fedlane_run *run);
/* Sets up metric and kept of groups whose indices are there. Errors: MEMORY. */
fl_status fl_scores_open(const fedlane_run *run, int n, const fl_metric *const *metric,
                         fl_groups *groups);
void fl_scores_close(fl_groups *groups);
/* Lets the metrics see batch t of n groups from `first` on, which the station has just walked. */
fl_status fl_scores_take(const fedlane_run *run, fl_station *station, fl_groups *groups, int first,
                         int n, int64_t t);
/* What is known of the examples of n groups from `first` on; kept is not filled in. */
fl_scored fl_scores_of(const fedlane_run *run, const fl_groups *groups, int first, int n);
/* A value of the k-th metric. of: as fl_scores_of(.., first, ..) has it. */
fl_status fl_scores_value(const fedlane_run *run, const fl_groups *groups, int k, int first,
                          fl_scored of, double *value);
/* checkpoint.c: state of the run in `output`/checkpoint. */
fl_status fl_checkpoint_save(fedlane_run *run);
fl_status fl_checkpoint_load(fedlane_run *run);
/* weights.c: the model as a safetensors file with PyTorch's names. */
fl_status fl_weights_save(fedlane_run *run, const char *path);
fl_status fl_weights_load(const fl_model *model, const char *path, float *w);

#endif
