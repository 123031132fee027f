#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* Settings are those of the public benchmarks named in docs/measuring.md; pixels are synthetic, so
 * that nothing has to be downloaded: speed does not depend on what the pixels show. */
static const fl_workload workloads[] = {
    {"a1",
     "pfl-research's CIFAR-10: 1,000 users x 50 images, 50 a round with replacement, batch 10",
     "name: a1\n"
     "data: {format: synthetic, examples: 50000, test: 10000, channels: 3, height: 32, width: 32,\n"
     "       classes: 10, partition: {kind: iid, clients: 1000}}\n"
     "model: {name: cnn_dropout}\n"
     "algorithm: {name: fedavg}\n"
     "server: {weighting: uniform}\n"
     "sampler: {kind: uniform, replacement: true}\n"
     "train: {cohort: 50, epochs: 1, batch: 10, lr: 0.1}\n"
     "eval: {every: 10}\n",
     10},
    {"a2", "FEMNIST's shape: 62 classes, clients of 198 images on average, 10 a round, batch 20",
     /* LEAF (arXiv:1812.01097) gives sizes a deviation of 0.39 of their mean: Dirichlet(6.5). */
     "name: a2\n"
     "data: {format: synthetic, examples: 198000, test: 10000, channels: 1, height: 28, width: "
     "28,\n"
     "       classes: 62, partition: {kind: quantity, clients: 1000, alpha: 6.5}}\n"
     "model: {name: cnn_dropout}\n"
     "algorithm: {name: fedavg}\n"
     "train: {cohort: 10, epochs: 1, batch: 20, lr: 0.0316}\n"
     "eval: {every: 10}\n",
     10},
    {"a5", "BlazeFL's LeNet: 100 clients x 500 images, all in each round, 5 epochs, batch 50",
     "name: a5\n"
     "data: {format: synthetic, examples: 50000, test: 10000, channels: 3, height: 32, width: 32,\n"
     "       classes: 10, partition: {kind: iid, clients: 100}}\n"
     "model: {name: lenet}\n"
     "algorithm: {name: fedavg}\n"
     "train: {cohort: 100, epochs: 5, batch: 50, lr: 0.1}\n"
     "eval: {every: 1}\n",
     2},
    {"a8", "logistic regression on 28x28: 1,000 clients x 60 images, 10 a round, batch 10",
     "name: a8\n"
     "data: {format: synthetic, examples: 60000, test: 10000, channels: 1, height: 28, width: 28,\n"
     "       classes: 10, partition: {kind: iid, clients: 1000}}\n"
     "model: {name: logistic}\n"
     "algorithm: {name: fedavg}\n"
     "train: {cohort: 10, epochs: 1, batch: 10, lr: 0.03}\n"
     "eval: {every: 20, batch: 500}\n",
     100},
    {"mlp", "784-200-200-10: 100 clients x 600 images, 10 a round, batch 10",
     "name: mlp\n"
     "data: {format: synthetic, examples: 60000, test: 10000, channels: 1, height: 28, width: 28,\n"
     "       classes: 10, partition: {kind: iid, clients: 100}}\n"
     "model: {name: mlp}\n"
     "algorithm: {name: fedavg}\n"
     "train: {cohort: 10, epochs: 1, batch: 10, lr: 0.1}\n"
     "eval: {every: 10}\n",
     50},
    {"a3", "TFF's Shakespeare: 715 clients x 22 sequences of 80 characters, 10 a round, batch 4",
     "name: a3\n"
     "data: {format: synthetic, kind: tokens, examples: 15730, test: 500, classes: 90,\n"
     "       clients: 715, noise: 0.2, partition: {kind: natural}}\n"
     "model: {name: lstm_char}\n"
     "algorithm: {name: fedavg}\n"
     "train: {cohort: 10, epochs: 1, batch: 4, lr: 0.8}\n"
     "eval: {every: 0}\n",
     4},
    {"memory", "LeNet on 1,000 clients x 50 images: what more clients a round cost in memory",
     "name: memory\n"
     "data: {format: synthetic, examples: 50000, test: 1000, channels: 3, height: 32, width: 32,\n"
     "       classes: 10, partition: {kind: iid, clients: 1000}}\n"
     "model: {name: lenet}\n"
     "algorithm: {name: fedavg}\n"
     "train: {cohort: 100, epochs: 1, batch: 10, lr: 0.1}\n"
     "eval: {every: 0}\n",
     1},
    {"population", "logistic regression on 16 features, 5 examples a client, 100 clients a round",
     "name: population\n"
     "data: {format: synthetic, examples: 5000, test: 1000, channels: 16, height: 1, width: 1,\n"
     "       classes: 10, partition: {kind: iid, clients: 1000}}\n"
     "model: {name: logistic}\n"
     "algorithm: {name: fedavg}\n"
     "train: {cohort: 100, epochs: 1, batch: 5, lr: 0.1}\n"
     "eval: {every: 0}\n",
     10},
};

fl_status fl_workload_find(const char *name, const fl_workload **out) {
  char names[256] = "";
  for (int i = 0; i < FL_COUNT(workloads); i++) {
    *out = &workloads[i];
    if (strcmp(workloads[i].name, name) == 0) return FEDLANE_OK;
    size_t at = strlen(names);
    snprintf(names + at, sizeof names - at, "%s%s", i > 0 ? ", " : "", workloads[i].name);
  }
  return fl_fail(FEDLANE_USAGE, "no workload '%s'; there are %s", name, names);
}

fl_status fl_workload_open(const fl_workload *w, const fl_bench_options *o, int rounds,
                           fedlane_run **out) {
  char set[4][64];
  int n = 0;
  fl_config *config = NULL;
  const char **list = calloc((size_t)o->settings.n + 4, sizeof *list);
  if (!list) return fl_fail(FEDLANE_MEMORY, "no memory for %d overrides", o->settings.n);
  snprintf(set[0], sizeof set[0], "train.rounds=%d", rounds);
  snprintf(set[1], sizeof set[1], "device=%s", o->device);
  snprintf(set[2], sizeof set[2], "threads=%d", o->threads);
  snprintf(set[3], sizeof set[3], "precision=%s", o->precision);
  for (; n < 4; n++) list[n] = set[n];
  for (int i = 0; i < o->settings.n; i++) list[n++] = o->settings.at[i];
  fl_status status = fl_config_parse(w->name, w->config, n, list, &config);
  if (status == FEDLANE_OK) status = fl_run_open(&config, 0, out);
  fl_config_close(&config);
  free(list);
  return status;
}
