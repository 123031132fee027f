#include "bench.h"

/* Settings are those of the public benchmarks named in docs/measuring.md; pixels are synthetic, so
 * that nothing has to be downloaded: speed does not depend on what the pixels show. */
const fl_workload fl_workloads[] = {
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
     "eval: {every: 20}\n",
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
};
const int fl_n_workload = FL_COUNT(fl_workloads);
