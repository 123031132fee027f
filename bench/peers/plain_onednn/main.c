/* Workload a1 as one would write it plainly in C on oneDNN: the clients of a round one after
 * another on each core, every layer for itself, none fused with another.
 *
 *   plain_onednn FOLDER [--rounds R] [--threads T] [--device cpu] [--dropout F]
 *                [--weights-out FILE]
 *
 * FOLDER is what `fedlane bench export --workload a1 --to FOLDER` wrote. One JSON line comes out,
 * as from the other peers: the first round warms up and is timed apart. F multiplies the dropout
 * rates, so 0 turns them off. FILE takes the last weights as bare floats. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "plain.h"

/* oneDNN asks OpenMP how many threads it may use; in here, one. */
static void train_round(const work *work, net *const *nets, int threads, int round) {
  const int32_t *order = work->order + (int64_t)round * work->cohort * work->share;
#pragma omp parallel num_threads(threads)
  {
    net *t = nets[omp_get_thread_num()];
    omp_set_num_threads(1);
    memset(net_tally(t)->sum, 0, WEIGHTS * sizeof(float));
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < work->cohort; i++) net_train(t, work, order + i * work->share);
    for (int k = 0; k < threads; k++) {
      const float *sum = net_tally(nets[k])->sum;
#pragma omp for schedule(static)
      for (int i = 0; i < WEIGHTS; i++) work->w[i] += sum[i];
    }
  }
}

static void test_round(const work *work, net *const *nets, int threads) {
#pragma omp parallel num_threads(threads)
  {
    net *t = nets[omp_get_thread_num()];
    omp_set_num_threads(1);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < work->n_test; i += TEST_BATCH) net_test(t, work, i);
  }
}

/* Prints the mean loss and accuracy, and lets the next sums begin. */
static void print_means(FILE *out, net *const *nets, int threads, int64_t n) {
  double loss = 0, hits = 0;
  for (int k = 0; k < threads; k++) {
    tally *t = net_tally(nets[k]);
    loss += t->loss;
    hits += t->hits;
    t->loss = t->hits = 0;
  }
  fprintf(out, "%.7g, %.7g]", loss / (double)n, hits / (double)n);
}

typedef struct options {
  const char *folder, *weights_out;
  int threads;
  float dropout;
} options;

static void options_read(options *o, work *work, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i];
    if (name[0] != '-') {
      o->folder = name;
      continue;
    }
    const char *value = ++i < argc ? argv[i] : "";
    if (!strcmp(name, "--rounds"))
      work->rounds = atoi(value);
    else if (!strcmp(name, "--threads"))
      o->threads = atoi(value);
    else if (!strcmp(name, "--dropout"))
      o->dropout = strtof(value, NULL);
    else if (!strcmp(name, "--weights-out"))
      o->weights_out = value;
    else if (strcmp(name, "--device") != 0 || strcmp(value, "cpu") != 0)
      die("%s %s is not an option", name, value);
  }
  if (!o->folder) die("it needs the folder that fedlane bench export wrote");
  if (o->threads < 1 || o->threads > 1024) die("--threads must be 1 to 1024");
}

static void print_start(const options *o, const work *work, net *t) {
  const char *const *kernel = net_tally(t)->kernel, *separator = "";
  printf("{\"system\": \"plain_onednn\", \"version\": \"%s\", \"workload\": \"a1\", ",
         net_version());
  printf("\"same\": \"rows\", \"settings\": {\"threads\": %d}, \"kernels\": {", o->threads);
  for (int i = 0; i < PARTS; i++) {
    if (!kernel[i]) continue;
    printf("%s\"%s\": \"%s\"", separator, part_name[i], kernel[i]);
    separator = ", ";
  }
  printf("}, \"setup_seconds\": %.6f, \"parameters\": %d, \"examples\": %d, \"rounds\": %d, ",
         age(), (int)WEIGHTS, work->rounds * work->cohort * work->share, work->rounds - 1);
}

static void print_end(const options *o, const work *work, net *const *nets, double first,
                      double last) {
  const int examples = work->cohort * work->share;
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("\"milliseconds_per_step\": {");
  for (int i = 0; i < PARTS; i++) {
    double sum = 0;
    for (int k = 0; k < o->threads; k++) sum += net_tally(nets[k])->part[i];
    printf("%s\"%s\": %.4f", i ? ", " : "", part_name[i],
           1e3 * sum * BATCH / work->rounds / examples);
  }
  printf("}, \"peak_memory_mb\": %.1f, \"first_round_seconds\": %.6f, \"seconds\": %.6f, ",
         (double)usage.ru_maxrss / 1024, first, last - first);
  if (work->rounds > 1)
    printf("\"images_per_second\": %.2f}\n", (work->rounds - 1) * examples / (last - first));
  else
    printf("\"images_per_second\": null}\n");
}

/* An evaluation's time counts to its round, as in the other peers, but for round_seconds. */
static void run(const options *o, const work *work, net *const *train, net *const *test) {
  double first = 0, last = 0;
  char *means[2] = {NULL, NULL};
  size_t size[2];
  FILE *trained = open_memstream(&means[0], &size[0]),
       *tested = open_memstream(&means[1], &size[1]);
  if (!trained || !tested) die("no memory");
  printf("\"round_seconds\": [");
  for (int round = 1; round <= work->rounds; round++) {
    const char *comma = round < work->rounds ? ", " : "";
    const double begin = now(CLOCK_MONOTONIC);
    train_round(work, train, o->threads, round - 1);
    printf("%.6f%s", now(CLOCK_MONOTONIC) - begin, comma);
    fprintf(trained, "[");
    print_means(trained, train, o->threads, (int64_t)work->cohort * work->share);
    fprintf(trained, "%s", comma);
    if (round == work->rounds || (work->eval_every > 0 && round % work->eval_every == 0)) {
      test_round(work, test, o->threads);
      fprintf(tested, "[%d, ", round);
      print_means(tested, test, o->threads, work->n_test);
      fprintf(tested, "%s", comma);
    }
    last = age();
    if (round == 1) first = last;
  }
  fclose(trained);
  fclose(tested);
  printf("], \"train\": [%s], \"test\": [%s], ", means[0], means[1]);
  free(means[0]);
  free(means[1]);
  print_end(o, work, train, first, last);
}

int main(int argc, char **argv) {
  work work = {0};
  options o = {.threads = omp_get_num_procs(), .dropout = 1};
  options_read(&o, &work, argc, argv);
  work_read(&work, o.folder);
  net **train = make((size_t)o.threads * sizeof *train);
  net **test = make((size_t)o.threads * sizeof *test);
#pragma omp parallel num_threads(o.threads)
  {
    const int k = omp_get_thread_num();
    omp_set_num_threads(1);
#pragma omp critical /* one at a time, so that what they time is their own */
    {
      train[k] = net_new(BATCH, true, o.dropout, (uint32_t)k * 0x9e3779b9U);
      test[k] = net_new(TEST_BATCH, false, o.dropout, 0);
    }
  }
  print_start(&o, &work, train[0]);
  run(&o, &work, train, test);
  if (o.weights_out) {
    FILE *out = fopen(o.weights_out, "wb");
    if (!out || fwrite(work.w, sizeof(float), WEIGHTS, out) != WEIGHTS || fclose(out) != 0)
      die("%s cannot be written", o.weights_out);
  }
  return 0;
}
