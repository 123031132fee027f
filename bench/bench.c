#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

double fl_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Reads "--name value"; false when the name is unknown, the value missing or not a number. */
static bool read_option(fl_bench_options *o, const char *name, const char *value) {
  char *end = NULL;
  struct {
    const char *name, **text;
    int *number;
  } known[] = {{"--workload", &o->workload, NULL},   {"--device", &o->device, NULL},
               {"--precision", &o->precision, NULL}, {"--json", &o->json, NULL},
               {"--rounds", NULL, &o->rounds},       {"--threads", NULL, &o->threads}};
  for (int i = 0; i < FL_COUNT(known); i++) {
    if (strcmp(name, known[i].name) != 0 || !value) continue;
    if (known[i].text)
      *known[i].text = value;
    else
      *known[i].number = (int)strtol(value, &end, 10);
    return !end || (*value && !*end && *known[i].number >= 0);
  }
  return false;
}

static int run(int argc, char **argv) {
  static const struct {
    const char *name;
    fl_status (*run)(const fl_bench_options *options);
  } benches[] = {{"round", fl_bench_round}, {"ops", fl_bench_ops}};
  fl_bench_options o = {.workload = "a1", .device = "auto", .precision = "auto"};
  if (argc < 1) return fl_cli_misuse(&fl_command_bench, "say what to measure: round or ops");
  for (int i = 1; i < argc; i += 2)
    if (!read_option(&o, argv[i], i + 1 < argc ? argv[i + 1] : NULL))
      return fl_cli_misuse(&fl_command_bench, "'%s' is unknown or lacks its value", argv[i]);
  for (int i = 0; i < FL_COUNT(benches); i++) {
    if (strcmp(argv[0], benches[i].name) != 0) continue;
    fl_status status = benches[i].run(&o);
    return status == FEDLANE_OK ? FL_EXIT_DONE : fl_cli_failure(status);
  }
  return fl_cli_misuse(&fl_command_bench, "there is no bench '%s'; there are round and ops",
                       argv[0]);
}

const fl_command fl_command_bench = {
    .name = "bench",
    .usage = "round|ops [--workload NAME] [--rounds N] [--threads N] [--device D] "
             "[--precision P] [--json FILE]",
    .help = "measures speed on the public workloads, or op by op",
    .details =
        "round  trains a workload and prints images/s, GFLOP/s and the share of the machine's\n"
        "       own matrix-product peak; workloads: a1 (default), a5, a8, mlp\n"
        "ops    times each op on the shapes of workload a1, and prints its share of the device's\n"
        "       peaks of arithmetic and of memory, as measured in the same run\n"
        "\n"
        "examples\n"
        "  fedlane bench round --workload a1\n"
        "  fedlane bench round --workload a5 --rounds 1 --json a5.json\n",
    .run = run,
};
