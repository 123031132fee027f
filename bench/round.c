#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* The matrix-product peak: every station multiplies PEAK x PEAK matrices at once. */
enum { PEAK = 1536, PEAK_TIMES = 4 };

typedef struct figures {
  int rounds;
  int64_t images, steps;
  double train_seconds, wall_seconds, best_rate, worst_rate, peak_gflops, gflops, loss, accuracy;
} figures;

static const fl_workload *find(const char *name) {
  for (int i = 0; i < fl_n_workload; i++)
    if (strcmp(fl_workloads[i].name, name) == 0) return &fl_workloads[i];
  return NULL;
}

static fl_status open_workload(const fl_workload *w, const fl_bench_options *o, int rounds,
                               fedlane_run **out) {
  char override[4][64];
  const char *list[] = {override[0], override[1], override[2], override[3]};
  fl_config *config = NULL;
  snprintf(override[0], sizeof override[0], "train.rounds=%d", rounds);
  snprintf(override[1], sizeof override[1], "device=%s", o->device);
  snprintf(override[2], sizeof override[2], "threads=%d", o->threads);
  snprintf(override[3], sizeof override[3], "precision=%s", o->precision);
  FL_TRY(fl_config_parse(w->name, w->config, FL_COUNT(list), list, &config));
  fl_status status = fl_run_open(&config, 0, out);
  fl_config_close(&config);
  return status;
}

/* One station's share of the peak: PEAK_TIMES products through the op table. */
static fl_status multiply(fedlane_run *run, fl_station *s) {
  const fl_ops *ops = s->lanes.ops;
  fl_dev *dev = s->lanes.dev;
  int32_t rows = PEAK;
  fl_batch b = {1, PEAK, &rows};
  fl_span m[3];
  fl_status status = FEDLANE_OK;
  (void)run;
  for (int i = 0; i < 3; i++) {
    void *at;
    FL_TRY(ops->alloc(dev, 4 * PEAK * PEAK, &at));
    m[i] = (fl_span){at, 0};
    FL_TRY(ops->fill(dev, 1, PEAK * PEAK, 0.5f, m[i]));
  }
  fl_cspan none = {0};
  for (int i = 0; status == FEDLANE_OK && i < PEAK_TIMES; i++)
    status = ops->dense_fwd(dev, b, PEAK, PEAK, fl_const(m[0]), fl_const(m[1]), none, m[2]);
  if (status == FEDLANE_OK) status = ops->sync(dev);
  for (int i = 0; i < 3; i++) {
    void *at = m[i].at;
    ops->release(dev, &at);
  }
  return status;
}

static fl_status measure_peak(fedlane_run *run, double *gflops) {
  for (int i = 0; i < 3; i++) { /* the first only warms up */
    double start = fl_seconds();
    FL_TRY(fl_stations_do(run, multiply));
    double flop = 2.0 * PEAK * PEAK * PEAK * PEAK_TIMES * run->n_station;
    double rate = 1e-9 * flop / (fl_seconds() - start);
    if (i > 0 && rate > *gflops) *gflops = rate;
  }
  return FEDLANE_OK;
}

static fl_status measure(fedlane_run *run, int rounds, figures *f) {
  fedlane_metrics m;
  FL_TRY(measure_peak(run, &f->peak_gflops));
  FL_TRY(fedlane_round(run, &m)); /* warms up */
  double start = fl_seconds();
  f->worst_rate = INFINITY;
  for (f->rounds = 0; f->rounds < rounds; f->rounds++) {
    FL_TRY(fedlane_round(run, &m));
    double rate = (double)m.examples / m.seconds;
    f->images += m.examples;
    f->steps += m.steps;
    f->train_seconds += m.seconds;
    f->best_rate = fmax(f->best_rate, rate);
    f->worst_rate = fmin(f->worst_rate, rate);
  }
  f->wall_seconds = fl_seconds() - start;
  f->loss = m.train_loss;
  f->accuracy = m.test_accuracy;
  FL_TRY(measure_peak(run, &f->peak_gflops));
  f->gflops = 1e-9 * (double)f->images * fl_model_about(run->model)->flop_train / f->train_seconds;
  return FEDLANE_OK;
}

static void print(const fl_workload *w, const fedlane_run *run, const figures *f) {
  printf("%s: %s\n", w->name, w->help);
  printf("  device            %s, %d at once\n", run->devices.ops->record.name, run->n_station);
  printf("  rounds            %d after one to warm up\n", f->rounds);
  printf("  images/s          %.0f   (slowest round %.0f, fastest %.0f)\n",
         (double)f->images / f->train_seconds, f->worst_rate, f->best_rate);
  printf("  local steps/s     %.0f\n", (double)f->steps / f->train_seconds);
  printf("  seconds a round   %.4f   (%.4f with evaluation)\n", f->train_seconds / f->rounds,
         f->wall_seconds / f->rounds);
  printf("  GFLOP/s           %.1f of %.1f in large matrix products: %.1f %%\n", f->gflops,
         f->peak_gflops, 100 * f->gflops / f->peak_gflops);
  printf("  last round        train loss %.4f, test accuracy %.4f\n", f->loss, f->accuracy);
}

static fl_status store(const char *path, const fl_workload *w, const fedlane_run *run,
                       const figures *f) {
  json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f}",
                          "system", "fedlane", "version", fedlane_version(), "workload", w->name,
                          "device", run->devices.ops->record.name, "threads", run->n_station,
                          "rounds", f->rounds, "images", (json_int_t)f->images, "seconds",
                          f->train_seconds, "wall_seconds", f->wall_seconds, "images_per_second",
                          (double)f->images / f->train_seconds, "gflops", f->gflops, "peak_gflops",
                          f->peak_gflops, "share_of_peak", f->gflops / f->peak_gflops);
  bool good = out && json_dump_file(out, path, JSON_INDENT(2)) == 0;
  json_decref(out);
  return good ? FEDLANE_OK : fl_fail(FEDLANE_IO, "%s: the figures cannot be written", path);
}

fl_status fl_bench_round(const fl_bench_options *o) {
  const fl_workload *w = find(o->workload);
  fedlane_run *run = NULL;
  figures f = {0};
  fl_status status;
  if (!w)
    return fl_fail(FEDLANE_USAGE, "no workload '%s'; there are a1, a5, a8 and mlp", o->workload);
  int rounds = o->rounds > 0 ? o->rounds : w->rounds;
  FL_GO(open_workload(w, o, rounds + 1, &run));
  FL_GO(measure(run, rounds, &f));
  print(w, run, &f);
  if (o->json) FL_GO(store(o->json, w, run, &f));
done:
  fedlane_close(&run);
  return status;
}
