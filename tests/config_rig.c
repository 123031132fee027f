#include "config_rig.h"

#include <stdio.h>
#include <string.h>

#include "suite.h"

const char fl_config_full[] =
    "name: fashion                         # examples/fashion_mnist.yaml\n"
    "seed: 1\n"
    "device: auto                          # auto | cpu | cuda | cuda:0,1\n"
    "precision: auto                       # fp32 on CPU, tf32 on CUDA; fp32 | tf32 | bf16 | "
    "tf32x3\n"
    "data:\n"
    "  format: idx\n"
    "  path: /usr/share/datasets/fashion-mnist\n"
    "  partition: {kind: dirichlet, clients: 1000, alpha: 0.3}\n"
    "model: {name: cnn_dropout}            # or {layers: [{conv: 32, kernel: 3}, relu]}\n"
    "algorithm: {name: feddyn, alpha: 0.01}\n"
    "train: {rounds: 100, cohort: 100, epochs: 1, batch: 20, lr: 0.05, weight_decay: 0, momentum: "
    "0, clip_norm: 0}\n"
    "sampler: {kind: uniform}\n"
    "filters: []\n"
    "server: {lr: 1.0}\n"
    "eval: {every: 5}\n"
    "output: runs/fashion\n";

const char fl_config_least[] = "data: {format: synthetic}\nmodel: mlp\n";

fl_config *fl_rig_parse(const char *text, int n, const char *const *overrides) {
  fl_config *config = NULL;
  fl_status status = fl_config_parse("c.yaml", text, n, overrides, &config);
  if (status != FEDLANE_OK) printf("\n%s\n", fedlane_error());
  CU_ASSERT_FATAL(status == FEDLANE_OK && config != NULL);
  return config;
}

fl_config *fl_rig_parse_one(const char *text, const char *override) {
  return fl_rig_parse(text, override != NULL, &override);
}

void fl_rig_same(const char *got, const char *wanted) {
  if (strcmp(got, wanted) != 0) printf("\ngot    %s\nwanted %s\n", got, wanted);
  CU_ASSERT_STRING_EQUAL(got, wanted);
}

void fl_rig_refused(const char *text, const char *override, const char *wanted) {
  fl_config *config = NULL;
  size_t length = strlen(wanted);
  fl_status status = fl_config_parse("c.yaml", text, override != NULL, &override, &config);
  CU_ASSERT(status == FEDLANE_USAGE);
  CU_ASSERT_PTR_NULL(config);
  const char *got = status == FEDLANE_USAGE ? fedlane_error() : "taken";
  bool good = strncmp(got, wanted, length) == 0 && (!got[length] || wanted[length - 1] == ' ');
  if (!good) printf("\ngot    %s\nwanted %s\n", got, wanted);
  CU_ASSERT(good);
  fl_config_close(&config);
}
