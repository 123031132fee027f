/* Each op alone, on the shapes of workload a1 at batch 10: what a local step is made of, and how
 * near each comes to what the device can do. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "op_items.h"

static const fl_op_extent on_cpu = {1, 10, FL_BENCH_REPEAT, 1, 1536, (int64_t)1 << 24};
#ifdef FL_CUDA_ON_HOST
static const fl_op_extent on_gpu = {2, 2,  1,
                                    1, 64, (int64_t)1 << 16}; /* slow, and no measure of speed */
#else
static const fl_op_extent on_gpu = {50, 10, FL_BENCH_REPEAT, 10, 4096, (int64_t)1 << 26};
#endif

typedef struct peak {
  double flops, bytes; /* a second */
} peak;

static fl_status multiply(fl_op_rig *r) {
  int n = r->b.B;
  return r->ops->dense_fwd(r->dev, r->b, n, n, fl_const(r->x), fl_const(r->w), (fl_cspan){0}, r->y);
}

static fl_status copy(fl_op_rig *r) {
  return r->ops->axpby(r->dev, 1, r->w.stride, fl_all(1), fl_const(r->x), fl_all(0), r->y);
}

static fl_status find_peak(const fl_op_extent *e, const fl_op_rig *r, peak *out) {
  double n = e->product, seconds;
  FL_TRY(fl_op_time_large(e, r, e->product, (int64_t)e->product * e->product, multiply, &seconds));
  out->flops = 2 * n * n * n / seconds;
  FL_TRY(fl_op_time_large(e, r, 1, e->copy, copy, &seconds));
  out->bytes = 8 * (double)e->copy / seconds;
  return FEDLANE_OK;
}

/* A line of the table and an entry of the file. What bounds an op is what would take the longer at
 * its peak. */
static void report(const fl_op_item *k, fl_op_count n, double seconds, double calls, peak p,
                   json_t *out) {
  double flops = n.flop / seconds, bytes = n.bytes / seconds;
  const char *bound = n.flop / p.flops > n.bytes / p.bytes ? "arithmetic" : "memory";
  printf("%-21s %9.4f ", k->name, 1e3 * seconds);
  if (n.flop > 0)
    printf("%10.1f %5.1f ", 1e-9 * flops, 100 * flops / p.flops);
  else
    printf("%10s %5s ", "", "");
  printf("%8.1f %5.1f  %-10s %9.4f\n", 1e-9 * bytes, 100 * bytes / p.bytes, bound,
         1e3 * seconds * calls);
  json_array_append_new(
      out, json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:f}", "op", k->name, "seconds",
                     seconds, "flop", n.flop, "bytes", n.bytes, "gflops", 1e-9 * flops,
                     "gigabytes_per_second", 1e-9 * bytes, "share_of_peak", flops / p.flops,
                     "share_of_bandwidth", bytes / p.bytes, "bound", bound, "calls_a_step", calls));
}

static fl_status time_all(const fl_op_extent *e, fl_op_rig *r, peak p, json_t *out) {
  double step = 0, each[FL_BENCH_REPEAT];
  bool blocks = fl_ops_have_blocks(r->ops);
  printf("%-21s %9s %10s %5s %8s %5s  %-10s %9s\n", "op", "ms", "GFLOP/s", "%", "GB/s", "%",
         "bound by", "ms a step");
  for (int i = 0; i < fl_n_op_item; i++) {
    const fl_op_item *k = &fl_op_items[i];
    double calls = blocks ? k->a_block : k->a_step;
    if (k->has && !k->has(r->ops)) continue;
    FL_TRY(fl_op_time(e, r, k->run, each));
    double median = each[e->repeat / 2];
    step += median * calls;
    report(k, fl_op_count_of(k, r), median, calls, p, out);
  }
  printf("%-21s %56s %9.4f   = %.0f images/s\n", "a local step", "", 1e3 * step,
         r->b.C * r->b.B / step);
  return FEDLANE_OK;
}

/* The choices are the configuration's. */
static fl_status read_precision(const char *word, fl_precision *out) {
  char text[64];
  const char *override = text;
  const fl_workload *w;
  fl_config *config = NULL;
  FL_TRY(fl_workload_find("a1", &w));
  snprintf(text, sizeof text, "precision=%s", word);
  FL_TRY(fl_config_parse(w->name, w->config, 1, &override, &config));
  *out = (fl_precision)(config->general.precision_choice - 1); /* auto comes first */
  fl_config_close(&config);
  return FEDLANE_OK;
}

static fl_status store(const char *path, const fl_op_rig *r, const char *precision, peak p,
                       json_t *items, json_t *verdicts) {
  json_t *out =
      json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:O, s:O}", "version", fedlane_version(),
                "device", r->ops->record.name, "precision", precision, "lanes", r->b.C, "batch",
                r->b.B, "peak_gflops", 1e-9 * p.flops, "peak_gigabytes_per_second", 1e-9 * p.bytes,
                "ops", items, "verdicts", verdicts);
  bool good = out && json_dump_file(out, path, JSON_INDENT(2)) == 0;
  json_decref(out);
  return good ? FEDLANE_OK : fl_fail(FEDLANE_IO, "%s: the figures cannot be written", path);
}

fl_status fl_bench_ops(const fl_bench_options *o) {
  fl_devices devices = {0};
  fl_op_rig r = {0};
  fl_precision precision;
  peak p = {0};
  json_t *items = json_array(), *verdicts = json_array();
  fl_status status;
  FL_GO(read_precision(o->precision, &precision));
  FL_GO(fl_devices_open(o->device, precision, 1, &devices));
  r.ops = devices.ops;
  r.dev = devices.dev[0];
  const fl_op_extent *e = r.ops->host ? &on_cpu : &on_gpu;
  FL_GO(find_peak(e, &r, &p));
  FL_GO(fl_op_rig_open(&r, e->lanes, e->rows));
  printf(
      "%s, one device, precision %s, shapes of workload a1, lanes x rows %d x %d, median of %d\n",
      r.ops->record.name, o->precision, e->lanes, e->rows, e->repeat);
  printf("peaks: %.1f GFLOP/s in a product of %d x %d matrices, %.1f GB/s in a copy of %.1f MB\n",
         1e-9 * p.flops, e->product, e->product, 1e-9 * p.bytes, 4e-6 * (double)e->copy);
  FL_GO(time_all(e, &r, p, items));
#ifdef FL_HAS_CUDA
  if (!r.ops->host) FL_GO(fl_op_judge(e, &r, items, verdicts));
#endif
  if (o->json) FL_GO(store(o->json, &r, o->precision, p, items, verdicts));
done:
  if (r.ops) fl_op_rig_close(&r);
  fl_devices_close(&devices);
  json_decref(items);
  json_decref(verdicts);
  return status;
}
