#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

static int widest(const fedlane_run *run) {
  int cohort = (int)run->config->train.cohort, n = run->n_station;
  if (run->config->general.width > 0)
    return run->config->general.width < cohort ? (int)run->config->general.width : cohort;
  int share = (cohort + n - 1) / n;
  int call = run->devices.together; /* a lane's update is mixed while it is still in the cache */
  return call > 0 && call < share ? call : share;
}

/* Pieces of the client with most, whose rows in all epochs an int must be able to count, rounded up
 * as they may be. */
enum { ROWS_MOST = 1 << 30 };
static fl_status count_pieces(fedlane_run *run) {
  fl_schedule epoch = run->schedule;
  int32_t most = 0;
  epoch.epochs = 1;
  for (int32_t i = 0; i < run->people.n; i++)
    if (run->people.n_train[i] > most) most = run->people.n_train[i];
  int64_t rows = (int64_t)fl_schedule_pieces(&epoch, most) * epoch.batch;
  if (rows > ROWS_MOST / run->schedule.epochs)
    return fl_fail(
        FEDLANE_USAGE,
        "a client of %d examples needs %lld rows in batches of %d, and in %d epochs more "
        "than %d, the most there can be; train.epochs or train.batch must be smaller",
        most, (long long)rows, epoch.batch, run->schedule.epochs, ROWS_MOST);
  run->plan.pieces = fl_schedule_pieces(&run->schedule, most);
  return FEDLANE_OK;
}

/* Whether all local epochs are one launch; if not, why not is kept for the page. */
static fl_status choose_resident(fedlane_run *run) {
  fl_status status = fl_resident_ask(run);
  if (status != FEDLANE_OK && status != FEDLANE_UNSUPPORTED) return status;
  run->plan.resident = status == FEDLANE_OK;
  if (status != FEDLANE_OK) snprintf(run->plan.why, sizeof run->plan.why, "%s", fedlane_error());
  return FEDLANE_OK;
}

/* Dense layers that need no weights of their own. */
static fl_status choose_implicit(fedlane_run *run) {
  fl_imply how = (fl_imply)run->config->train.implicit;
  if (run->config->fleet.clients == FL_CLIENTS_REAL) how = FL_IMPLY_NEVER; /* updates come whole */
  if (how == FL_IMPLY_ALWAYS && !run->schedule.fused)
    return fl_fail(FEDLANE_USAGE,
                   "train.implicit is always, but implicit layers know plain steps only: no "
                   "momentum, no clip_norm, and batches smaller than a client's data");
  if (!run->schedule.fused || run->plan.resident) how = FL_IMPLY_NEVER;
  if (how == FL_IMPLY_AUTO && !fl_course_goes(run)) how = FL_IMPLY_NEVER;
  return fl_model_imply(run->model, how, run->plan.pieces, run->schedule.batch);
}

/* Free memory of the device that has least, since all are used alike. */
static fl_status find_room(const fl_devices *d, int64_t *room) {
  for (int i = 0; i < d->n; i++) {
    int64_t bytes;
    FL_TRY(d->ops->room(d->dev[i], &bytes));
    if (i == 0 || bytes < *room) *room = bytes;
  }
  return FEDLANE_OK;
}

fl_status fl_plan_make(fedlane_run *run) {
  fl_plan *plan = &run->plan;
  FL_TRY(count_pieces(run));
  FL_TRY(choose_resident(run));
  FL_TRY(choose_implicit(run));
  const fl_model_info *model = fl_model_about(run->model);
  const fl_dataset *d = &run->data;
  int64_t n = d->n_train + d->n_test, pixel = d->bytes ? 1 : 4, room = 0;
  int width = widest(run);
  plan->store = 4 * model->P * run->algorithm->n_client_slot * run->people.n;
  plan->data = n * (fl_image_size(d->image) * pixel + 4 * (d->n_target + d->n_label));
  plan->mix = 8 * model->P * run->algorithm->n_update;
  FL_TRY(find_room(&run->devices, &room));
  plan->room = room;
  int most = run->devices.together; /* lanes in a call; 0: all */
  plan->lane = fl_station_bytes(run, 2, 1) - fl_station_bytes(run, 1, 1);
  plan->train = fl_station_bytes(run, 2, 2) - fl_station_bytes(run, 2, 1);
  int64_t server = 4 * model->P * (1 + run->algorithm->n_server_slot + run->algorithm->n_update);
  plan->shared = 2 * plan->mix + (run->devices.ops->host ? 0 : plan->data + server) +
                 (most > 0 ? most * plan->train : 0);
  int64_t a_lane = plan->lane + (most > 0 ? 0 : plan->train);
  int64_t share = room / 10 * 9 / (run->devices.ops->host ? run->n_station : 1) - plan->shared;
  int64_t fits = share / a_lane;
  if (fits < 1)
    return fl_fail(FEDLANE_MEMORY,
                   "one lane needs %.1f MB and the device has %.1f MB left for lanes; a smaller "
                   "train.batch or eval.batch needs less",
                   1e-6 * (double)(plan->lane + plan->train),
                   1e-6 * (double)(share + plan->train > 0 ? share + plan->train : 0));
  plan->width = fits < width ? (int)fits : width;
  plan->together = most > 0 && most < plan->width ? most : plan->width;
  return FEDLANE_OK;
}

typedef struct page {
  char *at;
  size_t left;
} page;

static void line(page *p, const char *format, ...) FL_PRINTF(2, 3);
static void line(page *p, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(p->at, p->left, format, args);
  va_end(args);
  size_t used = n < 0 ? 0 : (size_t)n < p->left ? (size_t)n : p->left - (p->left > 0);
  p->at += used;
  p->left -= used;
}

/* 1234567 as "1,234,567". */
static const char *grouped(int64_t value, char *out, size_t size) {
  char digits[32];
  int n = snprintf(digits, sizeof digits, "%lld", (long long)value), to = 0;
  for (int i = 0; i < n && to + 2 < (int)size; i++) {
    if (i > 0 && (n - i) % 3 == 0) out[to++] = ',';
    out[to++] = digits[i];
  }
  out[to] = '\0';
  return out;
}

static fl_status describe_work(const fedlane_run *run, page *p) {
  const fl_config *c = run->config;
  const fl_model_info *m = fl_model_about(run->model);
  fl_skew skew;
  char a[32], b[32];
  FL_TRY(fl_population_skew(&run->people, &run->data, &skew));
  line(p, "model       %s, %s parameters, %.2f MFLOP an example forward, %.2f in training\n",
       c->n_layer ? "of the configuration" : c->model.record->name,
       grouped(m->parameters, a, sizeof a), 1e-6 * m->flop, 1e-6 * m->flop_train);
  line(p, "data        %s, %d x %d x %d, %s training and ", c->format.record->name,
       run->data.image.channels, run->data.image.height, run->data.image.width,
       grouped(run->data.n_train, a, sizeof a));
  line(p, "%s test examples\n", grouped(run->data.n_test, b, sizeof b));
  line(p, "population  %s clients by %s; examples: smallest %lld, median %lld, largest %lld\n",
       grouped(run->people.n, a, sizeof a), c->partition.record->name, (long long)skew.smallest,
       (long long)skew.median, (long long)skew.largest);
  line(p, "round       %lld clients, %d epoch%s, batch %d%s, lr %g; %s; %lld rounds\n",
       (long long)c->train.cohort, run->schedule.epochs, run->schedule.epochs == 1 ? "" : "s",
       run->schedule.batch, run->schedule.whole ? " (one step from all of them)" : "", c->train.lr,
       run->algorithm->record.name, (long long)c->train.rounds);
  return FEDLANE_OK;
}

static void describe_implicit(const fedlane_run *run, page *p) {
  for (int i = 0; i < fl_model_parts(run->model); i++) {
    const fl_part *part = fl_model_part(run->model, i);
    const char *name = NULL;
    for (int t = 0; part->implicit && !name; t++)
      if (fl_model_tensor(run->model, t)->at == part->at)
        name = fl_model_tensor(run->model, t)->name;
    if (name)
      line(p, "implicit    %s, %d x %d: a history of %d rows in place of a copy a lane\n", name,
           part->O, part->I, run->plan.pieces * run->schedule.batch);
  }
}

/* What was left out, and what else a user should know of the data. */
static void describe_reading(const fedlane_run *run, page *p) {
  if (run->data.skipped > 0)
    line(p, "left out    %lld bad rows or files\n", (long long)run->data.skipped);
  for (const char *at = run->data.notice; at && *at; at += strcspn(at, "\n") + 1)
    line(p, "notice      %.*s\n", (int)strcspn(at, "\n"), at);
}

fl_status fl_run_describe(fedlane_run *run, char *text, size_t size) {
  const fl_plan *plan = &run->plan;
  const char *host = run->devices.ops->host ? "thread" : "device";
  int copies = run->devices.ops->host ? 1 : run->n_station;
  page p = {text, size};
  double lanes = (double)(plan->lane * plan->width + plan->train * plan->together) * run->n_station;
  double sums = (double)plan->mix * run->n_station;
  double model = 4.0 * (double)fl_model_about(run->model)->P;
  double server = model * (1 + run->algorithm->n_server_slot + run->algorithm->n_update);
  double data = (double)plan->data * copies;
  double global = model * (1 + run->algorithm->n_broadcast) * (copies - 1);
  FL_TRY(describe_work(run, &p));
  describe_reading(run, &p);
  if (*run->devices.passed)
    line(&p, "notice      device: auto takes the CPU: %s\n", run->devices.passed);
  line(&p, "device      %s, %d %s%s, %d lane%s seated on each, %d a call\n",
       run->devices.ops->record.name, run->n_station, host, run->n_station == 1 ? "" : "s",
       plan->width, plan->width == 1 ? "" : "s", plan->together);
  if (run->devices.ops->resident)
    line(&p, "steps       %s%s\n",
         plan->resident ? "resident: all local epochs in one launch" : "a launch for each call: ",
         plan->why);
  describe_implicit(run, &p);
  line(&p, "memory      %10.1f MB  data set%s\n", 1e-6 * data,
       copies > 1 ? ", on each device" : "");
  line(&p, "            %10.1f MB  server: weights, %d more vector%s, means\n", 1e-6 * server,
       run->algorithm->n_server_slot, run->algorithm->n_server_slot == 1 ? "" : "s");
  if (copies > 1)
    line(&p, "            %10.1f MB  what clients are sent, on each further device\n",
         1e-6 * global);
  line(&p, "            %10.1f MB  lanes: %.1f MB a seat, %.1f MB more while it trains\n",
       1e-6 * lanes, 1e-6 * (double)plan->lane, 1e-6 * (double)plan->train);
  line(&p, "            %10.1f MB  exact sums, for each order of magnitude in use\n", 1e-6 * sums);
  if (plan->store)
    line(&p, "            %10.1f MB  clients' own vectors, once all have been seen\n",
         1e-6 * (double)plan->store);
  line(&p, "            %10.1f MB  in all; %.1f MB were free%s\n",
       1e-6 * (data + server + global + (double)plan->store) + 1e-6 * (lanes + sums),
       1e-6 * (double)plan->room, copies > 1 ? " on each device" : "");
  return FEDLANE_OK;
}
