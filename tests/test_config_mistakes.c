/* What is refused, in which words and with which line; and that nothing leaks on the way. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_rig.h"
#include "suite.h"
#include "tree.h"

static void mistakes_have_their_line_and_sentence(void) {
  static const struct {
    const char *text, *wanted;
  } bad[] = {
      {"seed: -4\n", "c.yaml:1: seed is -4; it must lie in [0, 4294967295]"},
      {"seed: 1.5\n", "c.yaml:1: seed is 1.5; it must be a whole number in [0, 4294967295]"},
      {"seed: 99999999999999999999\n",
       "c.yaml:1: seed is 99999999999999999999; it must be a whole number in [0, 4294967295]"},
      {"seed: one\n", "c.yaml:1: seed is one; it must be a whole number in [0, 4294967295]"},
      {"seed: 0x10\n", "c.yaml:1: seed is 0x10; it must be a whole number in [0, 4294967295]"},
      {"seed:\n", "c.yaml:1: seed has no value; it must be a whole number in [0, 4294967295]"},
      {"seed: [1]\n", "c.yaml:1: seed is a list; it must be a whole number in [0, 4294967295]"},
      {"\n\nsed: 1\n", "c.yaml:3: sed is no setting; did you mean 'seed'?"},
      {"lr: 1\n", "c.yaml:1: lr is no setting; did you mean train.lr?"},
      {"name: {a: 1}\n", "c.yaml:1: name is a mapping; it must be a text"},
      {"precision: fp31\n",
       "c.yaml:1: precision is fp31; did you mean 'fp32'? It must be one of auto, fp32, tf32, "
       "bf16, tf32x3"},
      {"precision: double\n",
       "c.yaml:1: precision is double; it must be one of auto, fp32, tf32, bf16, tf32x3"},
      {"train:\n  rounds: 3\n  lr: -1\n", "c.yaml:3: train.lr is -1; it must lie in (0, inf)"},
      {"train:\n  lr: 0\n", "c.yaml:2: train.lr is 0; it must lie in (0, inf)"},
      {"train:\n  lr: .nan\n", "c.yaml:2: train.lr is .nan; it must be a number in (0, inf)"},
      {"train:\n  lr: nan\n", "c.yaml:2: train.lr is nan; it must be a number in (0, inf)"},
      {"train:\n  lr: .inf\n", "c.yaml:2: train.lr is .inf; it must be a number in (0, inf)"},
      {"train:\n  lr: 1e999\n", "c.yaml:2: train.lr is 1e999; it must be a number in (0, inf)"},
      {"train:\n  lr: '0.1'\n", "c.yaml:2: train.lr is \"0.1\"; it must be a number in (0, inf)"},
      {"train:\n  lr: 1 2\n", "c.yaml:2: train.lr is 1 2; it must be a number in (0, inf)"},
      {"train:\n  lr: 0.1.2\n", "c.yaml:2: train.lr is 0.1.2; it must be a number in (0, inf)"},
      {"train:\n  momentum: 1\n", "c.yaml:2: train.momentum is 1; it must lie in [0, 1)"},
      {"train:\n  lr: 1\n  lr: 2\n", "c.yaml:3: train.lr is given twice; line 2 has it already"},
      {"eval:\n  clients: 1\n", "c.yaml:2: eval.clients is 1; it must be true or false"},
      {"eval:\n  clients: \"true\"\n",
       "c.yaml:2: eval.clients is \"true\"; it must be true or false"},
      {"train: [1]\n", "c.yaml:1: train is a list; it must be a mapping such as {rounds: ...}"},
      {"train: 5\n", "c.yaml:1: train is a value; it must be a mapping such as {rounds: ...}"},
      {"filters: {name: clip}\n",
       "c.yaml:1: filters is a mapping; it must be a list such as [{name: ...}]"},
      {"filters:\n  - clip\n  - {name: clip, norm: 0}\n",
       "c.yaml:3: filters.1.norm is 0; it must lie in "},
      {"filters: [[clip]]\n",
       "c.yaml:1: filters.0 is a list; it must be a mapping such as {name: ...}"},
      {"sampler: [uniform]\n",
       "c.yaml:1: sampler is a list; it must be a mapping such as {kind: ...}"},
      {"algorithm: feddin\n", "c.yaml:1: no algorithm 'feddin'; did you mean 'feddyn'?"},
      {"algorithm:\n  name: [a]\n",
       "c.yaml:2: algorithm.name is a list; it must be one word, the name of the algorithm"},
      {"algorithm:\n  name: fedavg\n  mu: 1\n",
       "c.yaml:3: algorithm.mu is a parameter of fedprox, not of fedavg"},
      {"algorithm:\n  name: fedprox\n  mo: 1\n",
       "c.yaml:3: algorithm.mo is no setting; did you mean 'mu'?"},
      {"1: 2\n", "c.yaml:1: 1 is no setting; "},
      {"train.lr: 2\n", "c.yaml:1: train.lr is no setting; "},
  };
  char text[512];
  for (int i = 0; i < FL_COUNT(bad); i++) {
    snprintf(text, sizeof text, "%s%s", bad[i].text, fl_config_least);
    fl_rig_refused(text, NULL, bad[i].wanted);
  }
}

static void layer_mistakes(void) {
  static const struct {
    const char *layers, *wanted;
  } bad[] = {
      {"[]",
       "c.yaml:2: model.layers is empty; it must be a list such as [{conv: 32, kernel: 3}, "
       "relu]"},
      {"relu",
       "c.yaml:2: model.layers is a value; it must be a list such as [{conv: 32, kernel: "
       "3}, relu]"},
      {"[[relu]]",
       "c.yaml:2: model.layers.0 is a list; it must be a layer such as relu or {conv: "
       "32, kernel: 3}"},
      {"[relu, {}]",
       "c.yaml:2: model.layers.1 is empty; it must be a layer such as relu or "
       "{conv: 32, kernel: 3}"},
      {"[rely]", "c.yaml:2: no layer 'rely'; did you mean 'relu'?"},
      {"[{conv: 3}]",
       "c.yaml:2: model.layers.0 lacks kernel; it must be a whole number in [1, "
       "1024]"},
      {"[{conv: 0, kernel: 3}]", "c.yaml:2: model.layers.0.conv is 0; it must lie in [1, 1048576]"},
      {"[{conv: 3, kernel: 3, out: 4}]", "c.yaml:2: model.layers.0.out is no setting; "},
      {"[{conv: 3, kernal: 3, kernel: 2}]",
       "c.yaml:2: model.layers.0.kernal is no setting; did you mean 'kernel'?"},
      {"[dropout]", "c.yaml:2: model.layers.0.dropout has no value; it must be a number in [0, 1)"},
      {"[{dropout: 1}]", "c.yaml:2: model.layers.0.dropout is 1; it must lie in [0, 1)"},
      {"[{dense: 3000000000}]",
       "c.yaml:2: model.layers.0.dense is 3000000000; it must lie in [0, 1048576]"},
  };
  char text[512];
  for (int i = 0; i < FL_COUNT(bad); i++) {
    snprintf(text, sizeof text, "data: synthetic\nmodel: {layers: %s}\n", bad[i].layers);
    fl_rig_refused(text, NULL, bad[i].wanted);
  }
}

static void all_mistakes_at_once_in_order(void) {
  fl_rig_refused(
      "train: {lr: -1, rounds: 0}\n"
      "server: {lr: x}\n"
      "data: {format: synthetic, path: $FEDLANE_NOT_SET}\n"
      "model: {name: mlp, layers: [relu]}\n"
      "output: ${}\n",
      "seed=z",
      "c.yaml:1: train.lr is -1; it must lie in (0, inf)\n"
      "c.yaml:1: train.rounds is 0; it must lie in [1, 1000000000]\n"
      "c.yaml:2: server.lr is x; it must be a number in [0, inf)\n"
      "c.yaml:3: data.path names the variable $FEDLANE_NOT_SET, which is not set\n"
      "c.yaml:4: model has both name and layers; it takes one of them\n"
      "c.yaml:5: output has '${' without a name and '}' after it; write $$ for a '$'\n"
      "command line: seed is z; it must be a whole number in [0, 4294967295]");
}

static void what_must_be_there(void) {
  fl_config *c = NULL;
  CU_ASSERT(fl_config_parse("c.yaml", "", 0, NULL, &c) == FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(
      strstr(fedlane_error(), "c.yaml:1: data.format is missing; it must be one of idx, "));
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "c.yaml:1: model.name is missing; "));
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), ", or model.layers in its place"));
  CU_ASSERT(fl_config_parse("c.yaml", "model: mlp\n\ndata: {path: x}\n", 0, NULL, &c) ==
            FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "c.yaml:3: data.format is missing; "));
  CU_ASSERT(fl_config_parse("c.yaml", "data: synthetic\nmodel: mlp\nfilters: [{norm: 1}]\n", 0,
                            NULL, &c) == FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "c.yaml:3: filters.0.name is missing; "));
  /* A mapping that is none lacks nothing else. */
  fl_rig_refused("data: [1]\nmodel: mlp\n", NULL,
                 "c.yaml:1: data is a list; it must be a mapping such as {format: ...}");
}

static void yaml_that_is_refused(void) {
  fl_rig_refused("seed: 1\n  lr: 2\n", NULL,
                 "c.yaml:2: column 5: mapping values are not allowed in this context");
  fl_rig_refused("a: [1\nb: 2\n", NULL, "c.yaml:2: column 2: did not find expected ',' or ']'");
  fl_rig_refused("a: b\n\tc: d\n", NULL,
                 "c.yaml:2: column 1: found a tab character that violates indentation");
  fl_rig_refused("a: \"x\n", NULL, "c.yaml:2: column 1: found unexpected end of stream");
  fl_rig_refused("name: ok\nname2: a\xFFz\n", NULL,
                 "c.yaml:2: column 9: invalid leading UTF-8 octet");
  fl_rig_refused("name: a\x01\n", NULL, "c.yaml:1: column 8: control characters are not allowed");
  fl_rig_refused("- 1\n", NULL,
                 "c.yaml:1: a configuration is a mapping, such as 'seed: 1', not a list");
  fl_rig_refused("x\n", NULL,
                 "c.yaml:1: a configuration is a mapping, such as 'seed: 1', not a value");
  fl_rig_refused("a: 1\n---\nb: 2\n", NULL,
                 "c.yaml:2: a configuration is one document; --- starts a second");
  fl_rig_refused("a: &x 1\nb: *x\n", NULL,
                 "c.yaml:2: aliases (*) are not supported; write the value out");
  fl_rig_refused("a: 1\nb: !!int 3\n", NULL, "c.yaml:2: tags (!) have no meaning here");
  fl_rig_refused("? [a]\n: b\n", NULL, "c.yaml:1: a key must be a word, not a list or a mapping");
  fl_rig_refused("name: \"a\\0b\"\n", NULL, "c.yaml:1: a text contains a zero byte");
}

static void sizes_are_limited(void) {
  char *text = malloc(FL_TREE_BYTES_MAX + 64), deep[256] = "a: ";
  CU_ASSERT_PTR_NOT_NULL_FATAL(text);
  memset(text, '#', FL_TREE_BYTES_MAX + 1);
  text[FL_TREE_BYTES_MAX + 1] = '\0';
  fl_rig_refused(text, NULL, "c.yaml:1: a configuration has at most 1 MiB");
  for (int i = 0; i < 100; i++) strcat(deep, "[");
  fl_rig_refused(deep, NULL, "c.yaml:1: a configuration is at most 16 levels deep");
  size_t used = (size_t)sprintf(text, "a: [");
  for (int i = 0; i < FL_TREE_NODES_MAX; i++) used += (size_t)sprintf(text + used, "1,");
  fl_rig_refused(text, NULL, "c.yaml:1: a configuration has at most 10000 values");
  used = (size_t)sprintf(text, "%s", fl_config_least);
  for (int i = 0; i < 200; i++) used += (size_t)sprintf(text + used, "key_%d: 1\n", i);
  fl_config *c = NULL;
  CU_ASSERT(fl_config_parse("c.yaml", text, 0, NULL, &c) == FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "c.yaml:3: key_0 is no setting"));
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "\nc.yaml: 150 more mistakes"));
  fl_rig_refused(
      "data: synthetic\nmodel: mlp\nfilters: [clip, clip, clip, clip, clip, clip, clip, clip, "
      "clip]\n",
      NULL, "c.yaml:3: filters.8 is one too many; there are at most 8");
  used = (size_t)sprintf(text, "data: synthetic\nmodel: {layers: [");
  for (int i = 0; i <= FL_LAYERS_MAX; i++) used += (size_t)sprintf(text + used, "relu,");
  sprintf(text + used, "]}\n");
  fl_rig_refused(text, NULL, "c.yaml:2: model.layers.250 is one too many; there are at most 250");
  free(text);
}

static void overrides_may_be_wrong_too(void) {
  fl_rig_refused(fl_config_full, "train",
                 "command line: 'train' is not of the form key.path=value");
  fl_rig_refused(fl_config_full, "=3", "command line: '=3' is not of the form key.path=value");
  fl_rig_refused(fl_config_full, "train..lr=3",
                 "command line: 'train..lr=3' is not of the form key.path=value");
  fl_rig_refused(fl_config_full, ".lr=3",
                 "command line: '.lr=3' is not of the form key.path=value");
  fl_rig_refused(fl_config_full, "train.=3",
                 "command line: 'train.=3' is not of the form key.path=value");
  fl_rig_refused(fl_config_full, "train.lr=-1",
                 "command line: train.lr is -1; it must lie in (0, inf)");
  fl_rig_refused(fl_config_full, "train.lrr=1",
                 "command line: train.lrr is no setting; did you mean 'lr'?");
  fl_rig_refused(fl_config_full, "train.lr=[1",
                 "command line: train.lr=[1: column 1: did not find expected ',' or ']'");
  fl_rig_refused(fl_config_full, "train.lr.x=1",
                 "command line: train.lr.x=1: there is no 'x' in a value");
  fl_rig_refused(fl_config_full, "filters.0.norm=1",
                 "command line: filters.0.norm=1: there is no '0' in a list");
  fl_rig_refused(
      fl_config_full, "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a=1",
      "command line: a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a=1: there is no 'a' in a value\n"
      "command line: a is no setting; known here: name, seed, device, precision, threads, "
      "width, output, data, model, algorithm, train, sampler, filters, server, eval, "
      "checkpoint, fleet");
  fl_rig_refused(fl_config_full, "algorithm.name=feddin",
                 "command line: no algorithm 'feddin'; did you mean 'feddyn'?");
}

/* Every beginning of a configuration, and every small damage to it, is taken or refused with a
 * sentence; the address sanitizer watches for leaks. */
static void damage(const char *text, int *taken, int *refusals) {
  fl_config *c = NULL;
  fl_status status = fl_config_parse("c.yaml", text, 0, NULL, &c);
  CU_ASSERT(status == FEDLANE_OK || status == FEDLANE_USAGE);
  CU_ASSERT((status == FEDLANE_OK) == (c != NULL));
  if (status == FEDLANE_USAGE) CU_ASSERT(strstr(fedlane_error(), "c.yaml:") == fedlane_error());
  *(c ? taken : refusals) += 1;
  fl_config_close(&c);
}

static void truncated_and_damaged_texts(void) {
  static const char bytes[] = "{}[]:,-#&*!|>'\"%@` \n\t\x01\x80\xFFz9$";
  int taken = 0, refusals = 0;
  char text[2048];
  size_t size = strlen(fl_config_full);
  CU_ASSERT_FATAL(size < sizeof text);
  for (size_t length = 0; length <= size; length++) {
    memcpy(text, fl_config_full, length);
    text[length] = '\0';
    damage(text, &taken, &refusals);
  }
  CU_ASSERT(taken > 20 && refusals > 100);
  for (size_t at = 0; at < size; at++) {
    memcpy(text, fl_config_full, size + 1);
    text[at] = bytes[at * 7 % (sizeof bytes - 1)];
    damage(text, &taken, &refusals);
    text[at] = bytes[at * 5 % (sizeof bytes - 1)];
    damage(text, &taken, &refusals);
  }
}

static void files_that_cannot_be_read(void) {
  char path[256], wanted[400];
  fl_config *c = NULL;
  const char *folder = fl_test_folder();
  snprintf(path, sizeof path, "%s/none.yaml", folder);
  CU_ASSERT(fl_config_read(path, 0, NULL, &c) == FEDLANE_IO);
  snprintf(wanted, sizeof wanted, "cannot open %s: No such file or directory", path);
  fl_rig_same(fedlane_error(), wanted);
  CU_ASSERT(fl_config_read(folder, 0, NULL, &c) == FEDLANE_IO);
  snprintf(path, sizeof path, "%s/zero.yaml", folder);
  FILE *file = fopen(path, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(file);
  fwrite("seed: 1\0\n", 1, 9, file);
  fclose(file);
  CU_ASSERT(fl_config_read(path, 0, NULL, &c) == FEDLANE_USAGE);
  file = fopen(path, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(file);
  fputs(fl_config_least, file);
  fclose(file);
  CU_ASSERT(fl_config_read(path, 0, NULL, &c) == FEDLANE_OK);
  fl_config_close(&c);
}

static void examples_are_accepted(void) {
  glob_t found;
  CU_ASSERT_EQUAL_FATAL(glob(FEDLANE_SOURCE "/examples/*.yaml", 0, NULL, &found), 0);
  setenv("FEDLANE_DATA", "data", 0);
  for (size_t i = 0; i < found.gl_pathc; i++) {
    fl_config *c = NULL;
    fl_status status = fl_config_read(found.gl_pathv[i], 0, NULL, &c);
    if (status != FEDLANE_OK) printf("\n    %s\n", fedlane_error());
    CU_ASSERT_EQUAL(status, FEDLANE_OK);
    fl_config_close(&c);
  }
  globfree(&found);
}

static const fl_test tests[] = {
    {"mistakes_have_their_line_and_sentence", mistakes_have_their_line_and_sentence},
    {"layer_mistakes", layer_mistakes},
    {"all_mistakes_at_once_in_order", all_mistakes_at_once_in_order},
    {"what_must_be_there", what_must_be_there},
    {"yaml_that_is_refused", yaml_that_is_refused},
    {"sizes_are_limited", sizes_are_limited},
    {"overrides_may_be_wrong_too", overrides_may_be_wrong_too},
    {"truncated_and_damaged_texts", truncated_and_damaged_texts},
    {"files_that_cannot_be_read", files_that_cannot_be_read},
    {"examples_are_accepted", examples_are_accepted},
};

FL_SUITE_MAIN("config_mistakes", tests)
