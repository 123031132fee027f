/* Configurations: what is accepted, what is refused and in which words, and that the resolved text
 * is the same configuration again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_rig.h"
#include "param.h"
#include "suite.h"

static void the_design_is_accepted(void) {
  fl_config *c = fl_rig_parse_one(fl_config_full, NULL);
  fl_rig_same(c->general.name, "fashion");
  fl_rig_same(c->data.path, "/usr/share/datasets/fashion-mnist");
  fl_rig_same(c->general.output, "runs/fashion");
  fl_rig_same(c->format.record->name, "idx");
  fl_rig_same(c->partition.record->name, "dirichlet");
  fl_rig_same(c->model.record->name, "cnn_dropout");
  fl_rig_same(c->algorithm.record->name, "feddyn");
  fl_rig_same(c->sampler.record->name, "uniform");
  const fl_param *alpha = fl_record_param(c->algorithm.record, "alpha");
  const fl_param *clients = fl_record_param(c->partition.record, "clients");
  char value[64];
  fl_rig_same(fl_param_print(alpha, c->algorithm.args, sizeof value, value), "0.01");
  fl_rig_same(fl_param_print(clients, c->partition.args, sizeof value, value), "1000");
  CU_ASSERT(c->train.cohort == 100 && c->train.batch == 20 && c->train.lr == 0.05);
  CU_ASSERT(c->n_filter == 0 && c->n_layer == 0);
  fl_config_close(&c);
  CU_ASSERT_PTR_NULL(c);
  fl_config_close(&c);
  fl_config_close(NULL);
}

/* As some editors write it. */
static void a_byte_order_mark_says_nothing(void) {
  char text[4096];
  snprintf(text, sizeof text, "\xef\xbb\xbf%s", fl_config_least);
  fl_config *plain = fl_rig_parse_one(fl_config_least, NULL),
            *marked = fl_rig_parse_one(text, NULL);
  fl_rig_same(marked->resolved, plain->resolved);
  fl_config_close(&plain);
  fl_config_close(&marked);
}

static void what_is_left_out_has_its_default(void) {
  fl_config *c = fl_rig_parse_one(fl_config_least, NULL);
  CU_ASSERT(c->general.seed == 1 && c->general.threads == 0 && c->general.width == 0);
  fl_rig_same(c->general.device, "auto");
  fl_rig_same(c->general.output, "");
  CU_ASSERT(c->general.precision_choice == 0 && c->data.normalise == FL_NORMALISE_AUTO);
  CU_ASSERT(c->data.crop == 0 && !c->data.flip && c->data.hold_out == 0);
  CU_ASSERT(c->train.rounds == 100 && c->train.cohort == 10 && c->train.epochs == 1);
  CU_ASSERT(c->train.batch == 20 && c->train.lr == 0.05 && c->train.lr_decay == 1);
  CU_ASSERT(c->train.weight_decay == 0 && c->train.momentum == 0 && c->train.clip_norm == 0);
  CU_ASSERT(c->train.loss == FL_LOSS_AUTO && c->train.huber_delta == 1 && c->server.lr == 0);
  CU_ASSERT(c->eval.every == 5 && c->eval.batch == 50 && !c->eval.clients);
  CU_ASSERT(c->checkpoint.every == 10);
  fl_rig_same(c->model_args.weights, "");
  fl_rig_same(c->algorithm.record->name, "fedavg");
  fl_rig_same(c->partition.record->name, "iid");
  fl_rig_same(c->sampler.record->name, "uniform");
  fl_config_close(&c);
}

static void layers_and_filters(void) {
  fl_config *c = fl_rig_parse_one(
      "data: {format: synthetic}\n"
      "model:\n"
      "  layers:\n"
      "    - {conv: 32, kernel: 3, pad: 1, name: conv1}\n"
      "    - relu\n"
      "    - max_pool\n"
      "    - {max_pool: 3, stride: 1}\n"
      "    - {dropout: 0.25}\n"
      "    - flatten\n"
      "    - {dense: }\n"
      "filters: [clip, {name: gaussian, where: clients}]\n",
      NULL);
  CU_ASSERT_FATAL(c->n_layer == 7 && c->n_filter == 2);
  CU_ASSERT_PTR_NULL(c->model.record);
  CU_ASSERT(c->layer[0].kind == FL_CONV && c->layer[0].out == 32 && c->layer[0].kernel == 3);
  CU_ASSERT(c->layer[0].pad == 1 && c->layer[0].stride == 1 && !c->layer[0].no_bias);
  fl_rig_same(c->layer[0].name, "conv1");
  CU_ASSERT(c->layer[1].kind == FL_RELU && c->layer[5].kind == FL_FLATTEN);
  CU_ASSERT(c->layer[2].kind == FL_MAX_POOL && c->layer[2].kernel == 2);
  CU_ASSERT(c->layer[3].kernel == 3 && c->layer[3].stride == 1);
  CU_ASSERT(c->layer[4].kind == FL_DROPOUT && c->layer[4].p == 0.25);
  CU_ASSERT(c->layer[6].kind == FL_DENSE && c->layer[6].out == 0);
  fl_rig_same(c->filter[0].record->name, "clip");
  fl_rig_same(c->filter[1].record->name, "gaussian");
  fl_config_close(&c);
}

static void overrides_win(void) {
  static const char *const both[] = {"train.lr=0.1", "train.lr=0.2",       "name=other",
                                     "output=",      "train.momentum=0.5", "eval={every: 7}"};
  fl_config *c = fl_rig_parse(fl_config_full, FL_COUNT(both), both);
  CU_ASSERT(c->train.lr == 0.2 && c->train.momentum == 0.5 && c->train.cohort == 100);
  CU_ASSERT(c->eval.every == 7);
  fl_rig_same(c->general.name, "other");
  fl_rig_same(c->general.output, "");
  fl_config_close(&c);
  static const char *const lists[] = {"filters=[{name: clip, norm: 1}, gaussian]",
                                      "filters.0.norm=2", "model.layers=[flatten, {dense: }]",
                                      "model.layers.1.dense=7"};
  c = fl_rig_parse(fl_config_full, FL_COUNT(lists), lists);
  CU_ASSERT_FATAL(c->n_filter == 2 && c->n_layer == 2);
  CU_ASSERT(c->layer[1].out == 7);
  CU_ASSERT_PTR_NULL(c->model.record);
  CU_ASSERT_PTR_NOT_NULL(strstr(c->resolved, "norm: 2 "));
  fl_config_close(&c);
  c = fl_rig_parse_one("data: synthetic\nmodel: {layers: [flatten, {dense: }]}\n",
                       "model=logistic");
  CU_ASSERT(c->n_layer == 0 && c->model.record != NULL);
  fl_config_close(&c);
  c = fl_rig_parse_one("data: synthetic\nmodel: {layers: [flatten, {dense: }]}\n",
                       "model.name=logistic");
  CU_ASSERT(c->n_layer == 0 && c->model.record != NULL);
  fl_config_close(&c);
  c = fl_rig_parse_one("data: synthetic\nmodel: mlp\nalgorithm: feddyn\n", "algorithm.alpha=0.5");
  CU_ASSERT_PTR_NOT_NULL(strstr(c->resolved, "alpha: 0.5 "));
  fl_config_close(&c);
}

/* Parameters of the file that belong to another entry go when the command line names the entry. */
static void the_entry_may_be_switched(void) {
  static const struct {
    const fl_catalogue *catalogue;
    const char *key;
  } kinds[] = {{&fl_algorithms, "algorithm.name"},
               {&fl_partitions, "data.partition.kind"},
               {&fl_formats, "data.format"},
               {&fl_samplers, "sampler.kind"},
               {&fl_models, "model.name"}};
  for (int i = 0; i < FL_COUNT(kinds); i++)
    for (int j = 0; j < kinds[i].catalogue->n; j++) {
      char override[128], line[128];
      const char *name = kinds[i].catalogue->entry[j]->name;
      snprintf(override, sizeof override, "%s=%s", kinds[i].key, name);
      snprintf(line, sizeof line, "%s: %s\n", strrchr(kinds[i].key, '.') + 1, name);
      fl_config *c = fl_rig_parse_one(fl_config_full, override);
      CU_ASSERT_PTR_NOT_NULL(strstr(c->resolved, line));
      fl_config_close(&c);
    }
  static const char *const wrong[] = {"algorithm.name=fedavg", "algorithm.mu=1"};
  fl_config *c = NULL;
  CU_ASSERT(fl_config_parse("c.yaml", fl_config_full, 2, wrong, &c) == FEDLANE_USAGE);
  fl_rig_same(fedlane_error(),
              "command line: algorithm.mu is a parameter of fedprox, not of fedavg");
  fl_rig_refused("data: synthetic\nmodel: mlp\nalgorithm:\n  name: feddyn\n  alpa: 1\n",
                 "algorithm.name=fedavg",
                 "c.yaml:5: algorithm.alpa is no setting; known here: name");
}

static void variables_are_expanded(void) {
  setenv("FEDLANE_T", "sc\"r\\a$tch", 1);
  setenv("FEDLANE_EMPTY", "", 1);
  unsetenv("FEDLANE_NONE");
  static const char *const some[] = {"output=$FEDLANE_T/x${FEDLANE_T}y$FEDLANE_EMPTY$$z$",
                                     "name='$1 a$ $$$$'"};
  fl_config *c = fl_rig_parse(fl_config_full, 2, some);
  fl_rig_same(c->general.output, "sc\"r\\a$tch/xsc\"r\\a$tchy$z$");
  fl_rig_same(c->general.name, "$1 a$ $$");
  fl_config *again = fl_rig_parse_one(c->resolved, NULL);
  fl_rig_same(again->general.output, c->general.output);
  fl_rig_same(again->general.name, c->general.name);
  fl_config_close(&c);
  fl_config_close(&again);
  fl_rig_refused(fl_config_full, "output=$FEDLANE_NONE",
                 "command line: output names the variable $FEDLANE_NONE, which is not set");
  fl_rig_refused(
      fl_config_full, "output=a${FEDLANE_T",
      "command line: output has '${' without a name and '}' after it; write $$ for a '$'");
  setenv("FEDLANE_T", "\xC3\x28", 1);
  fl_rig_refused(fl_config_full, "output=$FEDLANE_T",
                 "command line: output is not a text in UTF-8");
  char many[5000] = "output=";
  while (strlen(many) < 4200) strcat(many, "abcdefgh");
  fl_rig_refused(fl_config_full, many, "command line: output is longer than 4095 bytes");
  strcpy(many, "output=");
  while (strlen(many) < 4200) strcat(many, "$HOME");
  fl_rig_refused(fl_config_full, many, "command line: output is longer than 4095 bytes");
}

static void round_trip(const char *text, const char *override) {
  fl_config *c = fl_rig_parse_one(text, override), *again = fl_rig_parse_one(c->resolved, NULL);
  fl_rig_same(again->resolved, c->resolved);
  fl_rig_same(again->digest, c->digest);
  CU_ASSERT(strlen(c->digest) == 16 && strspn(c->digest, "0123456789abcdef") == 16);
  fl_config_close(&c);
  fl_config_close(&again);
}

static void resolved_is_the_same_configuration(void) {
  round_trip(fl_config_full, NULL);
  round_trip(fl_config_least, NULL);
  round_trip(fl_config_full, "filters=[clip, {name: gaussian, deviation: 1e-7}]");
  round_trip(fl_config_full,
             "model.layers=[{conv: 8, kernel: 3}, relu, {add: -2, name: \"it's\"}]");
  round_trip(fl_config_full, "train.lr=0.1000000000000000055");
  round_trip(fl_config_full, "train.lr=4.9e-324");
  round_trip(fl_config_full, "train.clip_norm=1.7976931348623157e308");
  round_trip(fl_config_full, "seed=4294967295");
  round_trip(fl_config_full,
             "name=\"a\\tb\\n\\\"c\\\\ \\u00e9\\u2028\\N\\uFEFF # : ' \\U0001F600\"");
  for (int i = 0; i < fl_algorithms.n; i++) {
    char override[96];
    snprintf(override, sizeof override, "algorithm=%s", fl_algorithms.entry[i]->name);
    round_trip(fl_config_full, override);
  }
}

/* Another value that the parameter may have than the one in args. */
static void other_value(const fl_param *param, size_t size, char *out) {
  size_t length = 0;
  const char *word;
  double step = param->lo + 1 < param->hi || param->lo >= param->hi ? 1 : 0.25;
  switch (param->type) {
    case FL_BOOL:
      snprintf(out, size, param->dflt != 0 ? "false" : "true");
      break;
    case FL_TEXT:
      snprintf(out, size, "another");
      break;
    case FL_CHOICE:
      word = fl_param_word(param, 1, &length);
      snprintf(out, size, "%.*s", (int)length, word ? word : "");
      break;
    case FL_REAL:
      snprintf(out, size, "%g", param->dflt + step <= param->hi ? param->dflt + step : step);
      break;
    default:
      snprintf(out, size, "%g", param->dflt + 1 <= param->hi ? param->dflt + 1 : param->lo);
      break;
  }
}

/* The digest follows every setting but those that may differ when a run is resumed. */
static void the_digest_is_of_what_decides_the_weights(void) {
  int seen = 0;
  fl_config *c = fl_rig_parse_one(fl_config_least, NULL);
  for (int i = 0; i < fl_config_sections.n; i++) {
    const fl_record *section = fl_config_sections.entry[i];
    bool top = strcmp(section->name, "run") == 0;
    for (int j = 0; j < section->n_param; j++) {
      char value[64], override[192];
      const fl_param *param = &section->param[j];
      other_value(param, sizeof value, value);
      snprintf(override, sizeof override, "%s%s%s=%s", top ? "" : section->name, top ? "" : ".",
               param->name, value);
      fl_config *other = fl_rig_parse_one(fl_config_least, override);
      bool same = strcmp(c->digest, other->digest) == 0, free_one = param->flags & FL_FREE;
      if (same != free_one) printf("\n%s\n", override);
      CU_ASSERT(same == free_one);
      CU_ASSERT(strcmp(c->resolved, other->resolved) != 0);
      seen++;
      fl_config_close(&other);
    }
  }
  CU_ASSERT(seen >= 25);
  fl_config *metrics = fl_rig_parse_one(fl_config_least, "eval.metrics=[mae, {name: auc}]");
  CU_ASSERT_STRING_EQUAL(c->digest, metrics->digest);
  CU_ASSERT_EQUAL(metrics->n_metric, 2);
  CU_ASSERT_PTR_NOT_NULL(
      strstr(metrics->resolved, "  metrics:\n    - name: mae\n    - name: auc\n"));
  CU_ASSERT_PTR_NOT_NULL(strstr(c->resolved, "  metrics: auto\n"));
  fl_config_close(&metrics);
  static const char *const decisive[] = {
      "algorithm=fedprox", "sampler=cyclic", "data.partition={kind: iid, clients: 3}",
      "filters=[clip]",    "model=lenet",    "model.layers=[flatten, {dense: }]",
      "data.noise=0.25"};
  for (int i = 0; i < FL_COUNT(decisive); i++) {
    fl_config *other = fl_rig_parse_one(fl_config_least, decisive[i]);
    CU_ASSERT_STRING_NOT_EQUAL(c->digest, other->digest);
    fl_config_close(&other);
  }
  fl_config_close(&c);
}

/* Order, comments and shorthands are not part of a configuration. */
static void the_digest_is_of_values_not_of_text(void) {
  fl_config *a = fl_rig_parse_one("data: {format: synthetic}\nmodel: {name: mlp}\nseed: 1\n", NULL);
  fl_config *b =
      fl_rig_parse_one("# x\nmodel: mlp\nseed: 1e0\ntrain: {lr: 5e-2}\ndata: synthetic\n", NULL);
  fl_rig_same(a->digest, b->digest);
  fl_config_close(&a);
  fl_config_close(&b);
}

static bool sound(const fl_param *p) {
  char text[FL_PARAM_TEXT];
  bool good = p->name && p->help && (p->type != FL_CHOICE || p->text) && p->lo <= p->hi;
  good = good && strspn(p->name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(p->name);
  good = good && p->help[strlen(p->help) - 1] != '.' && strlen(fl_param_range(p, text)) < 160;
  return good;
}

/* What the reader relies on holds for every record of this build. */
static void records_are_sound(void) {
  int n = 0;
  const fl_catalogue *const *all = fl_catalogues(&n);
  for (int i = 0; i < n; i++)
    for (int j = 0; j < all[i]->n; j++) {
      const fl_record *r = all[i]->entry[j];
      void *args = calloc(1, r->args_size + 1);
      CU_ASSERT_PTR_NOT_NULL_FATAL(args);
      CU_ASSERT(fl_catalogue_find(all[i], r->name) == r);
      CU_ASSERT(r->n_param < 40 && strlen(r->name) < 48 && (r->n_param == 0 || r->args_size > 0));
      fl_record_defaults(r, args);
      for (int k = 0; k < r->n_param; k++) {
        const fl_param *p = &r->param[k];
        char value[512], why[FL_PARAM_TEXT] = "";
        bool good = sound(p) && fl_record_param(r, p->name) == p;
        fl_param_print(p, args, sizeof value, value);
        if (p->type != FL_TEXT && !(p->flags & FL_REQUIRED))
          good = good && fl_param_read(p, value, false, args, why);
        if (!good) printf("\n%s %s: %s %s\n", all[i]->kind, r->name, p->name, why);
        CU_ASSERT(good);
      }
      free(args);
    }
}

/* A format's parameters stand beside the data section's own, so no name may mean two things. */
static void inline_parameters_do_not_collide(void) {
  const fl_record *data = fl_catalogue_find(&fl_config_sections, "data");
  CU_ASSERT_PTR_NOT_NULL_FATAL(data);
  for (int i = 0; i < fl_formats.n; i++)
    for (int j = 0; j < fl_formats.entry[i]->n_param; j++) {
      const char *name = fl_formats.entry[i]->param[j].name;
      CU_ASSERT_PTR_NULL(fl_record_param(data, name));
      CU_ASSERT(strcmp(name, "format") != 0 && strcmp(name, "partition") != 0);
      CU_ASSERT(strcmp(name, "split") != 0);
    }
}

static const fl_test tests[] = {
    {"the_design_is_accepted", the_design_is_accepted},
    {"a_byte_order_mark_says_nothing", a_byte_order_mark_says_nothing},
    {"what_is_left_out_has_its_default", what_is_left_out_has_its_default},
    {"layers_and_filters", layers_and_filters},
    {"overrides_win", overrides_win},
    {"the_entry_may_be_switched", the_entry_may_be_switched},
    {"variables_are_expanded", variables_are_expanded},
    {"resolved_is_the_same_configuration", resolved_is_the_same_configuration},
    {"the_digest_is_of_what_decides_the_weights", the_digest_is_of_what_decides_the_weights},
    {"the_digest_is_of_values_not_of_text", the_digest_is_of_values_not_of_text},
    {"records_are_sound", records_are_sound},
    {"inline_parameters_do_not_collide", inline_parameters_do_not_collide},
};

FL_SUITE_MAIN("config", tests)
