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
  } known[] = {{"--workload", &o->workload, NULL},
               {"--device", &o->device, NULL},
               {"--precision", &o->precision, NULL},
               {"--json", &o->json, NULL},
               {"--to", &o->to, NULL},
               {"--rounds", NULL, &o->rounds},
               {"--threads", NULL, &o->threads}};
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
  } benches[] = {{"round", fl_bench_round},
                 {"ops", fl_bench_ops},
                 {"export", fl_bench_export},
                 {"decode", fl_bench_decode},
                 {"wire", fl_bench_wire}};
  fl_bench_options o = {.workload = "a1", .device = "auto", .precision = "auto"};
  int at = 1;
  if (argc < 1)
    return fl_cli_misuse(&fl_command_bench, "say what: round, ops, export, decode or wire");
  for (; at < argc && argv[at][0] == '-'; at += 2)
    if (!read_option(&o, argv[at], at + 1 < argc ? argv[at + 1] : NULL))
      return fl_cli_misuse(&fl_command_bench, "'%s' is unknown or lacks its value", argv[at]);
  o.override = (const char *const *)argv + at;
  o.n_override = argc > at ? argc - at : 0;
  for (int i = 0; i < o.n_override; i++)
    if (!strchr(o.override[i], '='))
      return fl_cli_misuse(&fl_command_bench, "'%s' is not of the form key.path=value",
                           o.override[i]);
  for (int i = 0; i < FL_COUNT(benches); i++) {
    if (strcmp(argv[0], benches[i].name) != 0) continue;
    fl_status status = benches[i].run(&o);
    return status == FEDLANE_OK ? FL_EXIT_DONE : fl_cli_failure(status);
  }
  return fl_cli_misuse(&fl_command_bench,
                       "there is no bench '%s'; there are round, ops, export, "
                       "decode and wire",
                       argv[0]);
}

const fl_command fl_command_bench = {
    .name = "bench",
    .usage =
        "round|ops|export|decode|wire [--workload NAME] [--rounds N] [--threads N] [--device D] "
        "[--precision P] [--json FILE] [--to FOLDER] [key.path=value ...]",
    .help = "measures speed on the public workloads, or op by op",
    .details =
        "round   trains a workload and prints images/s, GFLOP/s and the share of the machine's\n"
        "        own matrix-product peak; workloads: a1 (default), a2, a5, a8, mlp, memory,\n"
        "        population\n"
        "ops     times each op on the shapes of workload a1, and prints its share of the device's\n"
        "        peaks of arithmetic and of memory, as measured in the same run\n"
        "export  writes a workload as files, so that other systems can do the same work\n"
        "decode  decodes a folder of JPEGs, given as data.path, beside libjpeg alone\n"
        "wire    turns floats into the bytes of a fleet's messages and back, beside memcpy\n"
        "\n"
        "examples\n"
        "  fedlane bench round --workload a1\n"
        "  fedlane bench round --workload a5 --rounds 1 --json a5.json\n",
    .run = run,
};
