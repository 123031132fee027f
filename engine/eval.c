/* Evaluation of the server's model: groups of examples, each summed by itself, so that the result
 * depends neither on threads nor on lanes. The central test is a list of equal groups; evaluating
 * the clients is a group for each. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

static int32_t held_out(const fedlane_run *run, int32_t client) {
  return (int32_t)(run->people.offset[client + 1] - run->people.offset[client]) -
         run->people.n_train[client];
}

static fl_status reserve(fl_groups *g, int n, int64_t n_index) {
  g->n = n;
  g->offset = calloc((size_t)n + 1, sizeof *g->offset);
  g->loss = calloc((size_t)n + 1, sizeof *g->loss);
  g->hit = calloc((size_t)n + 1, sizeof *g->hit);
  g->index = calloc((size_t)n_index + 1, sizeof *g->index);
  if (!g->offset || !g->loss || !g->hit || !g->index)
    return fl_fail(FEDLANE_MEMORY, "no memory to evaluate %d groups", n);
  return FEDLANE_OK;
}

static fl_status open_central(fedlane_run *run) {
  fl_groups *g = &run->central;
  int64_t n = run->data.n_test, batch = run->config->eval.batch;
  FL_TRY(reserve(g, (int)((n + batch - 1) / batch), n));
  for (int64_t i = 0; i < n; i++) g->index[i] = (int32_t)(run->data.n_train + i);
  for (int i = 0; i <= g->n; i++) g->offset[i] = i * batch < n ? i * batch : n;
  return FEDLANE_OK;
}

/* A client is judged by its held-out examples, or by all of its own when none are held out. */
static fl_status open_clients(fedlane_run *run) {
  fl_groups *g = &run->clients;
  const fl_population *p = &run->people;
  bool split = run->config->data.hold_out > 0;
  FL_TRY(reserve(g, p->n, p->offset[p->n]));
  for (int32_t i = 0; i < p->n; i++) {
    int64_t n = split ? held_out(run, i) : p->n_train[i];
    const int32_t *from = p->index + p->offset[i] + (split ? p->n_train[i] : 0);
    if (n > 0) memcpy(g->index + g->offset[i], from, (size_t)n * sizeof *from);
    g->offset[i + 1] = g->offset[i] + n;
  }
  return FEDLANE_OK;
}

fl_status fl_eval_open(fedlane_run *run) {
  FL_TRY(open_central(run));
  return run->config->eval.clients ? open_clients(run) : FEDLANE_OK;
}

static void close_groups(fl_groups *g) {
  free(g->offset);
  free(g->index);
  free(g->loss);
  free(g->hit);
  memset(g, 0, sizeof *g);
}

void fl_eval_close(fedlane_run *run) {
  close_groups(&run->central);
  close_groups(&run->clients);
}

/* Fills rows and indices with batch `t` of the groups from `first` on; returns the largest. */
static int next_batch(fl_station *s, const fl_groups *g, int first, int n, int batch, int64_t t) {
  int most = 0;
  for (int i = 0; i < n; i++) {
    int64_t from = g->offset[first + i] + t * batch, left = g->offset[first + i + 1] - from;
    int rows = left < 0 ? 0 : left < batch ? (int)left : batch;
    int32_t *to = s->index_host + (int64_t)i * batch;
    if (rows > 0) memcpy(to, g->index + from, (size_t)rows * sizeof *to);
    memset(to + rows, 0, (size_t)(batch - rows) * sizeof *to);
    s->rows[i] = rows;
    most = rows > most ? rows : most;
  }
  return most;
}

static fl_status one_batch(fedlane_run *run, fl_station *s, int n, int batch) {
  const fl_lanes *l = &s->lanes;
  fl_batch b = {n, batch, s->rows};
  fl_span x = {s->act.at + fl_model_input_at(run->model, batch), s->act.stride};
  fl_draw draw = {.client = l->client, .nth = l->nth};
  fl_source plain = s->source; /* without augmentation */
  plain.crop = 0;
  plain.flip = false;
  FL_TRY(l->ops->upload(l->dev, s->index, s->index_host, 4 * (int64_t)n * batch));
  FL_TRY(l->ops->gather(l->dev, b, &plain, s->index, batch, &draw, x, s->label, s->target));
  fl_walk walk = {.ops = l->ops,
                  .dev = l->dev,
                  .b = b,
                  .draw = &draw,
                  .w = l->w0,
                  .act = s->act,
                  .step_rows = s->step_rows};
  FL_TRY(fl_model_forward(run->model, &walk, false));
  return fl_loss(run, s, b, NULL);
}

fl_status fl_eval_warm(fedlane_run *run, fl_station *s) {
  int n = run->plan.together, batch = (int)run->config->eval.batch, quarter = (batch + 3) / 4;
  for (int rows = quarter; rows < batch + quarter; rows += quarter) {
    for (int i = 0; i < n; i++) s->rows[i] = rows < batch ? rows : batch;
    FL_TRY(one_batch(run, s, n, batch));
  }
  return FEDLANE_OK;
}

static fl_status work(fedlane_run *run, fl_station *s, fl_groups *g) {
  const fl_lanes *l = &s->lanes;
  int share = (g->n + run->n_station - 1) / run->n_station, first;
  int together = run->plan.together < share ? run->plan.together : share;
  int batch = (int)run->config->eval.batch;
  memset(l->client, 0, (size_t)l->width * sizeof *l->client);
  memset(l->nth, 0, (size_t)l->width * sizeof *l->nth);
  while ((first = atomic_fetch_add(&g->next, together)) < g->n) {
    int n = g->n - first < together ? g->n - first : together;
    int64_t bytes = 8 * (int64_t)n;
    memset(s->loss_host, 0, (size_t)bytes);
    memset(s->hit_host, 0, (size_t)bytes);
    FL_TRY(l->ops->upload(l->dev, s->loss, s->loss_host, bytes));
    FL_TRY(l->ops->upload(l->dev, s->hit, s->hit_host, bytes));
    for (int64_t t = 0; next_batch(s, g, first, n, batch, t) > 0; t++)
      FL_TRY(one_batch(run, s, n, batch));
    FL_TRY(l->ops->download(l->dev, g->loss + first, s->loss, bytes));
    FL_TRY(l->ops->download(l->dev, g->hit + first, s->hit, bytes));
  }
  return l->ops->sync(l->dev);
}

static fl_status work_central(fedlane_run *run, fl_station *s) {
  return work(run, s, &run->central);
}

static fl_status work_clients(fedlane_run *run, fl_station *s) {
  return work(run, s, &run->clients);
}

static int ascending(const void *a, const void *b) {
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

/* How many answers a group's examples ask for. */
static int64_t answers(const fl_dataset *d, const fl_groups *g, int group) {
  int64_t sum = 0;
  for (int64_t i = g->offset[group]; i < g->offset[group + 1]; i++)
    sum += fl_dataset_counted(d, g->index[i]);
  return sum;
}

/* Mean and deviation over clients, and the mean of the worst tenth (of at least one client). */
static fl_status spread(const fl_dataset *d, const fl_groups *g, fedlane_metrics *m) {
  double *accuracy = malloc(((size_t)g->n + 1) * sizeof *accuracy), sum = 0, sum2 = 0, worst = 0;
  int n = 0;
  if (!accuracy) return fl_fail(FEDLANE_MEMORY, "no memory for %d clients' accuracies", g->n);
  for (int i = 0; i < g->n; i++) {
    int64_t asked = answers(d, g, i);
    if (asked > 0) accuracy[n++] = (double)g->hit[i] / (double)asked;
  }
  qsort(accuracy, (size_t)n, sizeof *accuracy, ascending);
  int tenth = (n + 9) / 10;
  for (int i = 0; i < n; i++) {
    sum += accuracy[i];
    if (i < tenth) worst += accuracy[i];
  }
  m->client_mean = sum / n;
  for (int i = 0; i < n; i++)
    sum2 += (accuracy[i] - m->client_mean) * (accuracy[i] - m->client_mean);
  m->client_deviation = sqrt(sum2 / n);
  m->client_worst = worst / tenth;
  free(accuracy);
  return FEDLANE_OK;
}

fl_status fl_eval(fedlane_run *run, fedlane_metrics *m) {
  if (run->central.n > 0) {
    double loss = 0;
    int64_t hit = 0, asked = 0;
    atomic_store(&run->central.next, 0);
    FL_TRY(fl_stations_do(run, work_central));
    for (int i = 0; i < run->central.n; i++) {
      loss += run->central.loss[i];
      hit += run->central.hit[i];
      asked += answers(&run->data, &run->central, i);
    }
    m->test_loss = loss / (double)asked;
    if (run->data.classes) m->test_accuracy = (double)hit / (double)asked;
  }
  if (run->clients.n == 0 || !run->data.classes) return FEDLANE_OK;
  atomic_store(&run->clients.next, 0);
  FL_TRY(fl_stations_do(run, work_clients));
  return spread(&run->data, &run->clients, m);
}
