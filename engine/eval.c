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
  return fl_scores_open(run, run->n_metric, run->metric, g);
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
  return fl_scores_open(run, 1, &run->client_metric, g);
}

fl_status fl_eval_open(fedlane_run *run) {
  FL_TRY(open_central(run));
  return run->config->eval.clients ? open_clients(run) : FEDLANE_OK;
}

static void close_groups(fl_groups *g) {
  fl_scores_close(g);
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
    if (s->lanes.ops->fetch) s->lanes.ops->fetch(s->lanes.dev, &s->source, rows, to);
    s->rows[i] = rows;
    most = rows > most ? rows : most;
  }
  return most;
}

static fl_status one_batch(fedlane_run *run, fl_station *s, int n, int batch) {
  const fl_lanes *l = &s->lanes;
  fl_batch b = {n, batch, s->rows};
  fl_draw draw = {.client = l->client, .nth = l->nth};
  fl_source plain = s->source; /* without augmentation */
  plain.crop = 0;
  plain.flip = false;
  FL_TRY(l->ops->upload(l->dev, s->index, s->index_host, 4 * (int64_t)n * batch));
  fl_pick pick = {.source = &plain, .index = s->index, .index_stride = batch};
  fl_walk walk = {.ops = l->ops,
                  .dev = l->dev,
                  .b = b,
                  .draw = &draw,
                  .w = l->w0,
                  .act = s->act,
                  .step_rows = s->step_rows};
  FL_TRY(fl_input(run, s, &pick, &draw, &walk));
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
    for (int64_t t = 0; next_batch(s, g, first, n, batch, t) > 0; t++) {
      FL_TRY(one_batch(run, s, n, batch));
      FL_TRY(fl_scores_take(run, s, g, first, n, t));
    }
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

/* Mean and deviation over clients, and the mean of the worst tenth (of at least one client). */
static void spread(int n, double *value, bool low, fedlane_metrics *m) {
  double sum = 0, sum2 = 0, worst = 0;
  int tenth = (n + 9) / 10;
  qsort(value, (size_t)n, sizeof *value, ascending);
  for (int i = 0; i < n; i++) {
    sum += value[i];
    if (low ? i >= n - tenth : i < tenth) worst += value[i];
  }
  m->client_mean = sum / n;
  for (int i = 0; i < n; i++) sum2 += (value[i] - m->client_mean) * (value[i] - m->client_mean);
  m->client_deviation = sqrt(sum2 / n);
  m->client_worst = worst / tenth;
}

static fl_status eval_central(fedlane_run *run, fedlane_metrics *m) {
  fl_groups *g = &run->central;
  atomic_store(&g->next, 0);
  FL_TRY(fl_stations_do(run, work_central));
  fl_scored all = fl_scores_of(run, g, 0, g->n);
  m->test_loss = all.loss / (double)all.asked;
  if (run->data.classes) m->test_accuracy = (double)all.hit / (double)all.asked;
  for (int k = 0; k < g->n_metric; k++) {
    m->score[k].name = g->metric[k]->record.name;
    FL_TRY(fl_scores_value(run, g, k, 0, all, &m->score[k].value));
  }
  return FEDLANE_OK;
}

/* Clients without an answer, and those for whom the metric means nothing, are left out. */
static fl_status eval_clients(fedlane_run *run, fedlane_metrics *m) {
  fl_groups *g = &run->clients;
  fl_status status;
  int n = 0;
  double *value = malloc(((size_t)g->n + 1) * sizeof *value);
  if (!value) return fl_fail(FEDLANE_MEMORY, "no memory for the figures of %d clients", g->n);
  atomic_store(&g->next, 0);
  FL_GO(fl_stations_do(run, work_clients));
  for (int i = 0; i < g->n; i++) {
    fl_scored own = fl_scores_of(run, g, i, 1);
    if (own.asked == 0) continue;
    FL_GO(fl_scores_value(run, g, 0, i, own, &value[n]));
    n += !isnan(value[n]);
  }
  m->client_metric = run->client_metric->record.name;
  spread(n, value, run->client_metric->low, m);
done:
  free(value);
  return status;
}

fl_status fl_eval(fedlane_run *run, fedlane_metrics *m) {
  if (run->central.n > 0) FL_TRY(eval_central(run, m));
  return run->clients.n > 0 ? eval_clients(run, m) : FEDLANE_OK;
}
