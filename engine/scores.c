/* The metrics of a run, and what they keep of each example while groups are evaluated. */
#include <stdlib.h>
#include <string.h>

#include "metrics/metrics.h"
#include "run.h"

static const fl_metric *metric_at(const fl_record *record) {
  return (const fl_metric *)(const void *)record;
}

static void add(fedlane_run *run, const fl_metric *metric) {
  bool known = metric == &fl_accuracy && fl_task_labels(&run->task); /* test_accuracy says it */
  if (!known) run->metric[run->n_metric++] = metric;
}

static fl_status check(const fl_config *c, const fl_task *task, int i) {
  const fl_metric *metric = metric_at(c->metric[i].record);
  for (int k = 0; k < i; k++)
    if (c->metric[k].record == c->metric[i].record)
      return fl_fail(FEDLANE_USAGE, "eval.metrics has %s twice", metric->record.name);
  if (metric->fits(task)) return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE, "eval.metrics has %s, which needs %s; the data set has %s%s",
                 metric->record.name, metric->needs,
                 fl_task_labels(task) ? "class labels" : "targets",
                 fl_task_logistic(task) ? " of the logistic loss" : "");
}

fl_status fl_scores_choose(fedlane_run *run) {
  const fl_config *c = run->config;
  fl_task *task = &run->task;
  *task = (fl_task){&run->data, c->train.loss == FL_LOSS_NAME_LOGISTIC};
  for (int i = 0; i < c->n_metric; i++) {
    FL_TRY(check(c, task, i));
    add(run, metric_at(c->metric[i].record));
  }
  for (int i = 0; i < fl_metrics.n; i++) {
    const fl_metric *metric = metric_at(fl_metrics.entry[i]);
    if (c->n_metric == 0 && metric->usual(task)) add(run, metric);
    if (!run->client_metric && metric->fits(task)) run->client_metric = metric;
  }
  if (c->n_metric > 0) run->client_metric = metric_at(c->metric[0].record);
  return FEDLANE_OK;
}

int64_t fl_scores_outputs(const fedlane_run *run) {
  const fl_dataset *d = &run->data;
  bool looks = run->config->eval.clients && run->client_metric->keeps(&run->task) > 0;
  for (int k = 0; k < run->n_metric; k++) looks = looks || run->metric[k]->keeps(&run->task) > 0;
  if (!looks) return 0;
  return d->classes ? (int64_t)d->classes * d->n_label : d->n_target;
}

fl_status fl_scores_open(const fedlane_run *run, int n, const fl_metric *const *metric,
                         fl_groups *g) {
  g->n_metric = n;
  g->metric = metric;
  for (int k = 0; k < n; k++) {
    int64_t keeps = metric[k]->keeps(&run->task), examples = g->offset[g->n];
    if (keeps == 0) continue;
    g->looks = true;
    g->kept[k] = calloc((size_t)(examples * keeps) + 1, sizeof *g->kept[k]);
    if (!g->kept[k])
      return fl_fail(FEDLANE_MEMORY, "no memory for %s over %lld examples", metric[k]->record.name,
                     (long long)examples);
  }
  return FEDLANE_OK;
}

void fl_scores_close(fl_groups *g) {
  for (int k = 0; k < g->n_metric; k++) free(g->kept[k]);
}

/* z: the outputs of `rows` examples, which stand at `from` in the groups' index. */
static void take_rows(const fedlane_run *run, const fl_groups *g, int64_t from, int rows,
                      const float *z) {
  int64_t outputs = fl_scores_outputs(run);
  for (int k = 0; k < g->n_metric; k++) {
    const fl_metric *metric = g->metric[k];
    int64_t keeps = metric->keeps(&run->task);
    for (int row = 0; keeps > 0 && row < rows; row++)
      metric->take(&run->task, g->index[from + row], z + row * outputs,
                   g->kept[k] + (from + row) * keeps);
  }
}

fl_status fl_scores_take(const fedlane_run *run, fl_station *s, fl_groups *g, int first, int n,
                         int64_t t) {
  const fl_lanes *l = &s->lanes;
  int64_t batch = run->config->eval.batch, outputs = g->looks ? fl_scores_outputs(run) : 0;
  const float *z = s->act.at + fl_model_output_at(run->model, (int)batch);
  for (int i = 0; g->looks && i < n; i++, z += s->act.stride) {
    if (s->rows[i] == 0) continue;
    if (s->output_host) {
      FL_TRY(l->ops->download(l->dev, s->output_host, z, 4 * s->rows[i] * outputs));
      FL_TRY(l->ops->sync(l->dev));
    }
    take_rows(run, g, g->offset[first + i] + t * batch, s->rows[i],
              s->output_host ? s->output_host : z);
  }
  return FEDLANE_OK;
}

fl_scored fl_scores_of(const fedlane_run *run, const fl_groups *g, int first, int n) {
  fl_scored of = {.n = g->offset[first + n] - g->offset[first],
                  .index = g->index + g->offset[first]};
  for (int i = first; i < first + n; i++) {
    of.loss += g->loss[i];
    of.hit += g->hit[i];
  }
  for (int64_t i = 0; i < of.n; i++) of.asked += fl_dataset_counted(&run->data, of.index[i]);
  return of;
}

fl_status fl_scores_value(const fedlane_run *run, const fl_groups *g, int k, int first,
                          fl_scored of, double *value) {
  const fl_metric *metric = g->metric[k];
  if (g->kept[k]) of.kept = g->kept[k] + g->offset[first] * metric->keeps(&run->task);
  return metric->value(&run->task, &of, value);
}
