/* Energy and rates of a round: counters that the tests make up, and metrics that follow them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "fixture.h"
#include "suite.h"
#ifdef FL_HAS_CUDA
#include "cuda/nvml.h"
#endif

/* --- the processor ------------------------------------------------------------------------- */
static void write_file(const char *folder, const char *domain, const char *name, const char *text) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", folder, domain);
  mkdir(path, 0700);
  snprintf(path, sizeof path, "%s/%s/%s", folder, domain, name);
  FILE *file = fopen(path, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(file);
  fputs(text, file);
  fclose(file);
}

static void write_domain(const char *folder, const char *domain, const char *name,
                         const char *energy) {
  write_file(folder, domain, "name", name);
  write_file(folder, domain, "max_energy_range_uj", "100000000\n");
  write_file(folder, domain, "energy_uj", energy);
}

static double joules_of(fl_powercap *cap) {
  double joules = NAN;
  CU_ASSERT_EQUAL(fl_powercap_read(cap, &joules), FEDLANE_OK);
  return joules;
}

static void packages_are_added(void) {
  const char *folder = fl_test_folder();
  fl_powercap cap;
  write_domain(folder, "intel-rapl:0", "package-0\n", "5000000\n");
  write_domain(folder, "intel-rapl:0:0", "core\n", "7000000\n");
  write_domain(folder, "intel-rapl:1", "psys\n", "9000000\n");
  write_domain(folder, "intel-rapl:2", "package-1\n", "99000000\n");
  fl_powercap_open(folder, &cap);
  CU_ASSERT_EQUAL(cap.n, 2);
  CU_ASSERT_EQUAL(joules_of(&cap), 0);
  write_file(folder, "intel-rapl:0", "energy_uj", "5500000\n");
  write_file(folder, "intel-rapl:0:0", "energy_uj", "7400000\n");
  write_file(folder, "intel-rapl:1", "energy_uj", "9900000\n");
  CU_ASSERT_DOUBLE_EQUAL(joules_of(&cap), 0.5, 1e-9);
  write_file(folder, "intel-rapl:2", "energy_uj", "2000000\n"); /* wrapped at 100 J */
  CU_ASSERT_DOUBLE_EQUAL(joules_of(&cap), 3.5, 1e-9);
  CU_ASSERT_DOUBLE_EQUAL(joules_of(&cap), 3.5, 1e-9);
  fl_powercap_close(&cap);
  fl_powercap_close(&cap);
}

static void counters_that_cannot_be_read(void) {
  const char *folder = fl_test_folder();
  char path[512];
  fl_powercap cap;
  double joules;
  fl_powercap_open("/nowhere", &cap);
  CU_ASSERT_EQUAL(fl_powercap_read(&cap, &joules), FEDLANE_UNSUPPORTED);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "no package's energy_uj"));
  write_domain(folder, "intel-rapl:0", "package-0\n", "1\n");
  write_domain(folder, "intel-rapl:1", "package-1\n", "none\n"); /* one of two is no answer */
  fl_powercap_open(folder, &cap);
  CU_ASSERT_EQUAL(fl_powercap_read(&cap, &joules), FEDLANE_UNSUPPORTED);
  write_file(folder, "intel-rapl:1", "energy_uj", "1\n");
  snprintf(path, sizeof path, "%s/intel-rapl:1/max_energy_range_uj", folder);
  unlink(path);
  fl_powercap_open(folder, &cap);
  CU_ASSERT_EQUAL(cap.n, 0);
  write_file(folder, "intel-rapl:1", "max_energy_range_uj", "100\n");
  fl_powercap_open(folder, &cap);
  CU_ASSERT_EQUAL(fl_powercap_read(&cap, &joules), FEDLANE_OK);
  write_file(folder, "intel-rapl:1", "energy_uj", "");
  CU_ASSERT_EQUAL(fl_powercap_read(&cap, &joules), FEDLANE_DEVICE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "package 1"));
  fl_powercap_close(&cap);
}

/* Threads share the packages: the first one counts for all. */
static void threads_do_not_count_twice(void) {
  fl_devices d;
  double joules = NAN;
  CU_ASSERT_EQUAL_FATAL(fl_devices_open("cpu", FL_MATH_FP32, 3, &d), FEDLANE_OK);
  for (int i = 1; i < d.n; i++) {
    CU_ASSERT_EQUAL(d.ops->energy(d.dev[i], &joules), FEDLANE_OK);
    CU_ASSERT_EQUAL(joules, 0);
  }
  fl_status first = d.ops->energy(d.dev[0], &joules); /* as this machine has it */
  CU_ASSERT(first == FEDLANE_UNSUPPORTED || (first == FEDLANE_OK && joules >= 0));
  fl_devices_close(&d);
}

/* --- a GPU --------------------------------------------------------------------------------- */
#ifdef FL_HAS_CUDA
static struct {
  int init, find, energy; /* what the calls answer */
  int users;              /* init less shutdown */
  char bus[32];
  unsigned long long millijoules;
} nvml;
static int board;

static int nvml_init(void) {
  if (nvml.init == 0) nvml.users++;
  return nvml.init;
}

static int nvml_shutdown(void) {
  nvml.users--;
  return 0;
}

static int nvml_find(const char *bus, void **out) {
  snprintf(nvml.bus, sizeof nvml.bus, "%s", bus);
  *out = &board;
  return nvml.find;
}

static int nvml_energy(void *device, unsigned long long *millijoules) {
  CU_ASSERT_PTR_EQUAL(device, &board);
  *millijoules = nvml.millijoules;
  return nvml.energy;
}

static const fl_nvml table = {nvml_init, nvml_shutdown, nvml_find, nvml_energy};

static void boards_by_their_place_on_the_bus(void) {
  fl_meter meter;
  double joules = 0;
  memset(&nvml, 0, sizeof nvml);
  nvml.millijoules = 12500;
  fl_meter_open(&table, "0000:3b:00.0", &meter);
  CU_ASSERT_STRING_EQUAL(nvml.bus, "0000:3b:00.0");
  CU_ASSERT_EQUAL(fl_meter_read(&meter, &joules), FEDLANE_OK);
  CU_ASSERT_DOUBLE_EQUAL(joules, 12.5, 1e-9);
  nvml.energy = 15;
  CU_ASSERT_EQUAL(fl_meter_read(&meter, &joules), FEDLANE_DEVICE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "NVML's error 15"));
  fl_meter_close(&meter);
  fl_meter_close(&meter);
  CU_ASSERT_EQUAL(nvml.users, 0);
}

static void boards_without_a_counter(void) {
  int *const answer[] = {&nvml.init, &nvml.find, &nvml.energy};
  for (int i = 0; i < FL_COUNT(answer); i++) {
    fl_meter meter;
    double joules;
    memset(&nvml, 0, sizeof nvml);
    *answer[i] = 3;
    fl_meter_open(&table, "0000:01:00.0", &meter);
    CU_ASSERT_EQUAL(fl_meter_read(&meter, &joules), FEDLANE_UNSUPPORTED);
    CU_ASSERT_EQUAL(nvml.users, 0);
    fl_meter_close(&meter);
    CU_ASSERT_EQUAL(nvml.users, 0);
  }
}
#endif

/* --- a round ------------------------------------------------------------------------------- */
static const char *const text =
    "seed: 5\ndevice: cpu\nthreads: 2\n"
    "data: {format: synthetic, examples: 60, test: 10, channels: 1, height: 6, width: 6,\n"
    "       classes: 4, partition: {kind: iid, clients: 6}}\n"
    "model: {layers: [{conv: 4, kernel: 3}, relu, flatten, {dense: 8}, relu, {dense: 0}]}\n"
    "train: {rounds: 3, cohort: 4, epochs: 2, batch: 4, lr: 0.1}\neval: {every: 0}\n";

static double counter; /* joules of all devices together */
static fl_status answer;

static fl_status counted(fl_dev *d, double *joules) {
  (void)d;
  *joules = counter += 10; /* each of two devices is asked before and after */
  return answer;
}

static void rounds_tell_what_they_used(void) {
  fedlane_run *run = NULL;
  fedlane_metrics m;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 0, NULL, 0, &run), FEDLANE_OK);
  fl_ops ops = *run->devices.ops;
  const fl_model_info *model = fl_model_about(run->model);
  ops.energy = counted;
  run->devices.ops = &ops;
  counter = 0;
  answer = FEDLANE_OK;
  CU_ASSERT_EQUAL(fedlane_round(run, &m), FEDLANE_OK);
  CU_ASSERT_EQUAL(m.joules, 30 + 40 - 10 - 20);
  CU_ASSERT_EQUAL(m.examples, 80);
  CU_ASSERT_EQUAL(m.steps, 24);
  double flop = model->flop_train * 80, bytes = model->bytes_train * 80 + model->bytes_step * 24;
  CU_ASSERT(m.seconds > 0 && m.gflops > 0 && m.gbytes_per_second > 0);
  CU_ASSERT_DOUBLE_EQUAL(1e9 * m.gflops * m.seconds, flop, 1e-6 * flop);
  CU_ASSERT_DOUBLE_EQUAL(1e9 * m.gbytes_per_second * m.seconds, bytes, 1e-6 * bytes);
  answer = FEDLANE_DEVICE; /* no reason for a run to end */
  CU_ASSERT_EQUAL(fedlane_round(run, &m), FEDLANE_OK);
  CU_ASSERT(isnan(m.joules) && isfinite(m.gflops));
  ops.energy = NULL;
  CU_ASSERT_EQUAL(fedlane_round(run, &m), FEDLANE_OK);
  CU_ASSERT(isnan(m.joules) && isfinite(m.gbytes_per_second));
  fedlane_close(&run);
}

static const fl_test tests[] = {
    {"packages are added", packages_are_added},
    {"counters that cannot be read", counters_that_cannot_be_read},
    {"threads do not count twice", threads_do_not_count_twice},
#ifdef FL_HAS_CUDA
    {"boards by their place on the bus", boards_by_their_place_on_the_bus},
    {"boards without a counter", boards_without_a_counter},
#endif
    {"rounds tell what they used", rounds_tell_what_they_used},
};

FL_SUITE_MAIN("energy", tests)
