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

static const struct {
  const char *name;
  fl_status (*run)(const fl_bench_options *options);
} benches[] = {
    {"round", fl_bench_round},   {"ops", fl_bench_ops},   {"export", fl_bench_export},
    {"decode", fl_bench_decode}, {"wire", fl_bench_wire},
};

static const fl_bench_options usual = {.workload = "a1", .device = "auto", .precision = "auto"};

static const fl_word words[] = {
    {FL_WORD, "WHAT", NULL, offsetof(fl_bench_options, what), "round, ops, export, decode or wire"},
    {FL_SETTINGS, "key.path=value", NULL, offsetof(fl_bench_options, settings),
     "changes the workload, such as train.batch=20"},
    {FL_OPTION, "--workload", "NAME", offsetof(fl_bench_options, workload),
     "a1, a2, a3, a5, a8, mlp, memory or population; default: a1"},
    {FL_NUMBER, "--rounds", "N", offsetof(fl_bench_options, rounds),
     "0, the default: the workload's own"},
    {FL_NUMBER, "--threads", "N", offsetof(fl_bench_options, threads),
     "0, the default: one a core"},
    {FL_OPTION, "--device", "D", offsetof(fl_bench_options, device),
     "as in a configuration; default: auto"},
    {FL_OPTION, "--precision", "P", offsetof(fl_bench_options, precision),
     "as in a configuration; default: auto"},
    {FL_OPTION, "--json", "FILE", offsetof(fl_bench_options, json),
     "also writes the figures there"},
    {FL_OPTION, "--to", "FOLDER", offsetof(fl_bench_options, to), "of export: where the files go"},
};

static int run(void *given) {
  const fl_bench_options *o = given;
  for (int i = 0; i < FL_COUNT(benches); i++)
    if (strcmp(o->what, benches[i].name) == 0) return fl_cli_end(benches[i].run(o));
  return fl_line_misuse(&fl_command_bench,
                        "there is no bench '%s'; there are round, ops, export, decode and wire",
                        o->what);
}

const fl_command fl_command_bench = {
    .name = "bench",
    .help = "measures speed on the public workloads, or op by op",
    .notes =
        "round   trains a workload and prints images/s, GFLOP/s and the share of the machine's\n"
        "        own matrix-product peak\n"
        "ops     times each op on the shapes of workload a1, and prints its share of the device's\n"
        "        peaks of arithmetic and of memory, as measured in the same run\n"
        "export  writes a workload as files, so that other systems can do the same work\n"
        "decode  decodes a folder of JPEGs, given as data.path, beside libjpeg alone\n"
        "wire    turns floats into the bytes of a fleet's messages and back, beside memcpy\n"
        "\n"
        "examples\n"
        "  fedlane bench round --workload a1\n"
        "  fedlane bench round --workload a5 --rounds 1 --json a5.json\n",
    .word = words,
    .n_word = FL_COUNT(words),
    .options_size = sizeof(fl_bench_options),
    .usual = &usual,
    .run = run,
};
