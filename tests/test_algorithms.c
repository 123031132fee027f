/* Every algorithm on heterogeneous quadratics with a known optimum. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "suite.h"

enum { FEATURES = 6, CLIENTS = 8, ROWS = 12 };
static fl_quadratics q;

/* A linear model without a bias; each local step takes all of a client's rows. */
static const char *const setting =
    "seed: 3\n"
    "device: %s\nthreads: 1\n"
    "data: {format: safetensors, path: %s, normalise: none, partition: natural}\n"
    "model: {layers: [{dense: 1, no_bias: true}]}\n"
    "algorithm: {name: %s}\n"
    "train: {rounds: %d, cohort: %d, epochs: %d, batch: 0, lr: %g}\n"
    "eval: {every: 0}\n"
    "output: ''\n";

typedef struct quest {
  const char *algorithm;
  int rounds, cohort, epochs;
  double lr;
  const char *override; /* or NULL */
} quest;

/* Largest distance of a weight from the optimum after training, or NAN. */
static double distance(const char *device, const quest *t) {
  char text[1024];
  int64_t P = 0;
  snprintf(text, sizeof text, setting, device, q.path, t->algorithm, t->rounds, t->cohort,
           t->epochs, t->lr);
  float *w = fl_fixture_train(text, t->override != NULL, &t->override, &P, NULL);
  double most = w ? 0 : NAN;
  for (int i = 0; w && i < FEATURES; i++) most = fmax(most, fabs(w[i] - q.best[i]));
  free(w);
  return most;
}

static const char *const devices[] = {"ref", "cpu"};

static void expect(const quest *t, double at_least, double at_most) {
  for (int d = 0; d < FL_COUNT(devices); d++) {
    double far = distance(devices[d], t);
    printf("    %-10s on %s: %.3g from the optimum\n", t->algorithm, devices[d], far);
    CU_ASSERT(far >= at_least && far <= at_most);
  }
}

static void test_the_quadratic_table(void) {
  fl_quadratics_open(&q, CLIENTS, ROWS, FEATURES, 5);
  /* Several local steps pull FedAvg and FedProx to a biased point; SCAFFOLD and FedDyn find the
   * optimum, and so does one full gradient a round. */
  static const quest biased[] = {{"fedavg", 400, CLIENTS, 10, 0.1, NULL},
                                 {"fedprox", 400, CLIENTS, 10, 0.1, "algorithm.mu=0.1"},
                                 {"fedavgm", 400, CLIENTS, 10, 0.1, "algorithm.beta=0.5"}};
  static const quest exact[] = {{"scaffold", 400, CLIENTS, 10, 0.1, NULL},
                                {"feddyn", 600, CLIENTS, 40, 0.1, "algorithm.alpha=0.5"},
                                {"fedsgd", 600, CLIENTS, 1, 0.2, NULL}};
  for (int i = 0; i < FL_COUNT(biased); i++) expect(&biased[i], 1e-2, 1);
  for (int i = 0; i < FL_COUNT(exact); i++) expect(&exact[i], 0, 1e-5);
}

static void test_part_of_the_clients(void) {
  static const quest some[] = {{"scaffold", 3000, CLIENTS / 2, 10, 0.05, NULL},
                               {"feddyn", 3000, CLIENTS / 2, 40, 0.1, "algorithm.alpha=1"}};
  for (int i = 0; i < FL_COUNT(some); i++) expect(&some[i], 0, 1e-5);
}

static void test_adaptive_servers_approach(void) {
  /* Adaptive steps with a constant rate circle the point where the mean update is zero. */
  static const quest adaptive[] = {{"fedadam", 1500, CLIENTS, 1, 0.1, "server.lr=0.002"},
                                   {"fedyogi", 1500, CLIENTS, 1, 0.1, "server.lr=0.002"},
                                   {"fedadagrad", 1500, CLIENTS, 1, 0.1, "server.lr=0.1"}};
  for (int i = 0; i < FL_COUNT(adaptive); i++) expect(&adaptive[i], 0, 5e-3);
}

static void test_fedprox_zero_is_fedavg(void) {
  char avg[1024], prox[1024];
  int64_t p, r;
  const char *zero = "algorithm.mu=0";
  snprintf(avg, sizeof avg, setting, "cpu", q.path, "fedavg", 5, 4, 3, 0.1);
  snprintf(prox, sizeof prox, setting, "cpu", q.path, "fedprox", 5, 4, 3, 0.1);
  float *a = fl_fixture_train(avg, 0, NULL, &p, NULL);
  float *b = fl_fixture_train(prox, 1, &zero, &r, NULL);
  CU_ASSERT(a && b && p == r && memcmp(a, b, (size_t)(4 * p)) == 0);
  free(a);
  free(b);
}

/* Gradient descent on one client's quadratic, in double, is FedAvg with that client alone. */
static void test_one_client_is_gradient_descent(void) {
  fl_quadratics one;
  char text[1024];
  double w[FEATURES] = {0};
  int64_t P;
  const char *start[] = {"train.weight_decay=0.01"};
  fl_quadratics_open(&one, 1, ROWS, FEATURES, 77);
  snprintf(text, sizeof text, setting, "ref", one.path, "fedavg", 3, 1, 4, 0.1);
  fedlane_run *run = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 1, start, 0, &run), FEDLANE_OK);
  for (int i = 0; i < FEATURES; i++) w[i] = run->server.w[i];
  fedlane_close(&run);
  for (int step = 0; step < 12; step++) {
    double g[FEATURES] = {0};
    for (int r = 0; r < ROWS; r++) {
      double e = -one.y[r];
      for (int i = 0; i < FEATURES; i++) e += w[i] * one.x[r * FEATURES + i];
      for (int i = 0; i < FEATURES; i++) g[i] += 2 * e * one.x[r * FEATURES + i] / ROWS;
    }
    for (int i = 0; i < FEATURES; i++) w[i] -= 0.1 * (g[i] + 0.01 * w[i]);
  }
  float *got = fl_fixture_train(text, 1, start, &P, NULL);
  for (int i = 0; got && i < FEATURES; i++) CU_ASSERT_DOUBLE_EQUAL(got[i], w[i], 2e-6);
  free(got);
  fl_quadratics_close(&one);
}

static void test_momentum_and_clipping(void) {
  fl_quadratics one;
  char text[1024];
  double w[FEATURES], v[FEATURES] = {0};
  int64_t P;
  const char *how[] = {"train.momentum=0.8", "train.clip_norm=0.3"};
  fl_quadratics_open(&one, 1, ROWS, FEATURES, 78);
  snprintf(text, sizeof text, setting, "ref", one.path, "fedavg", 1, 1, 9, 0.1);
  fedlane_run *run = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 2, how, 0, &run), FEDLANE_OK);
  for (int i = 0; i < FEATURES; i++) w[i] = run->server.w[i];
  fedlane_close(&run);
  for (int step = 0; step < 9; step++) {
    double g[FEATURES] = {0}, norm = 0;
    for (int r = 0; r < ROWS; r++) {
      double e = -one.y[r];
      for (int i = 0; i < FEATURES; i++) e += w[i] * one.x[r * FEATURES + i];
      for (int i = 0; i < FEATURES; i++) g[i] += 2 * e * one.x[r * FEATURES + i] / ROWS;
    }
    for (int i = 0; i < FEATURES; i++) norm += g[i] * g[i];
    double scale = fmin(1, 0.3 / sqrt(norm));
    for (int i = 0; i < FEATURES; i++) {
      v[i] = 0.8 * v[i] + scale * g[i];
      w[i] -= 0.1 * v[i];
    }
  }
  float *got = fl_fixture_train(text, 2, how, &P, NULL);
  for (int i = 0; got && i < FEATURES; i++) CU_ASSERT_DOUBLE_EQUAL(got[i], w[i], 2e-6);
  free(got);
  fl_quadratics_close(&one);
}

static const fl_test tests[] = {
    {"the quadratic table", test_the_quadratic_table},
    {"with part of the clients", test_part_of_the_clients},
    {"adaptive servers approach the optimum", test_adaptive_servers_approach},
    {"fedprox with mu 0 is fedavg, bit for bit", test_fedprox_zero_is_fedavg},
    {"one client is gradient descent", test_one_client_is_gradient_descent},
    {"momentum and clipping", test_momentum_and_clipping},
};

FL_SUITE_MAIN("algorithms", tests)
