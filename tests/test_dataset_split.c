/* The test part that is made of training examples: nothing is lost, nothing is on both sides. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dataset.h"
#include "fixture.h"
#include "safetensors.h"
#include "suite.h"

/* n examples of sizes that differ by client: client i has every example e with e % (clients + 1)
 * equal to i, or both it and i + 1 for the last one. x and the labels or targets are e. */
static fl_dataset make_data(int64_t n, int32_t clients, bool targets) {
  fl_dataset d = {.image = {2, 1, 1}, .n_train = n, .n_label = targets ? 0 : 3};
  d.n_target = targets;
  d.classes = targets ? 0 : (int)n;
  CU_ASSERT_EQUAL_FATAL(fl_dataset_alloc(&d), FEDLANE_OK);
  if (clients > 0) d.client = malloc((size_t)n * sizeof *d.client);
  d.n_client = clients;
  for (int64_t e = 0; e < n; e++) {
    int32_t owner = (int32_t)(e % (clients + 1));
    ((float *)d.x)[2 * e] = ((float *)d.x)[2 * e + 1] = (float)e;
    for (int i = 0; i < 3 && !targets; i++) d.label[3 * e + i] = i == 1 ? -1 : (int32_t)e;
    if (targets) d.target[e] = (float)e;
    if (clients > 0) d.client[e] = owner < clients ? owner : clients - 1;
  }
  return d;
}

/* Where an example of the old data went: -1 out, else its place in the new. */
typedef struct places {
  fl_dataset old, now;
  int64_t *at; /* [old.n_train] */
} places;

/* Splits, and checks that each example that stayed is whole, once there, and in the old order. */
static places split(int64_t n, int32_t clients, bool targets, fl_split how, uint32_t seed) {
  places p = {make_data(n, clients, targets), make_data(n, clients, targets),
              malloc((size_t)n * sizeof *p.at)};
  fl_dataset *d = &p.now;
  CU_ASSERT_EQUAL_FATAL(fl_dataset_split(d, &how, seed), FEDLANE_OK);
  CU_ASSERT_FATAL(d->n_train > 0 && d->n_test > 0 && d->n_train + d->n_test <= n);
  for (int64_t e = 0; e < n; e++) p.at[e] = -1;
  for (int64_t i = 0; i < d->n_train + d->n_test; i++) {
    const float *x = (const float *)d->x + 2 * i;
    int64_t e = (int64_t)x[0];
    CU_ASSERT_FATAL(e >= 0 && e < n && p.at[e] == -1);
    CU_ASSERT(x[1] == x[0] && (i == 0 || i == d->n_train || x[-2] < x[0]));
    CU_ASSERT(targets
                  ? d->target[i] == (float)e
                  : d->label[3 * i] == e && d->label[3 * i + 1] == -1 && d->label[3 * i + 2] == e);
    p.at[e] = i;
  }
  return p;
}

static void close_places(places *p) {
  fl_dataset_close(&p->old);
  fl_dataset_close(&p->now);
  free(p->at);
}

static bool tested(const places *p, int64_t e) { return p->at[e] >= p->now.n_train; }

static void test_whole_clients(void) {
  for (uint32_t seed = 1; seed < 6; seed++) {
    places p = split(230, 10, seed % 2, (fl_split){.by = FL_SPLIT_CLIENT, .share = 0.3}, seed);
    int side[10], number[10], held = 0;
    for (int i = 0; i < 10; i++) side[i] = number[i] = -1;
    CU_ASSERT_EQUAL(p.now.n_train + p.now.n_test, 230);
    for (int64_t e = 0; e < 230; e++) {
      int32_t i = p.old.client[e];
      if (side[i] < 0) side[i] = tested(&p, e);
      CU_ASSERT_EQUAL(side[i], tested(&p, e));
      if (side[i]) continue;
      if (number[i] < 0) number[i] = p.now.client[p.at[e]];
      CU_ASSERT_EQUAL(number[i], p.now.client[p.at[e]]);
    }
    for (int i = 0, next = 0; i < 10; i++) {
      held += side[i];
      CU_ASSERT_EQUAL(number[i], side[i] ? -1 : next++);
    }
    CU_ASSERT_EQUAL(held, 3);
    CU_ASSERT_EQUAL(p.now.n_client, 7);
    close_places(&p);
  }
}

/* Each client's test comes after its training, with the gap between. */
static void test_later_examples(void) {
  for (int64_t gap = 0; gap < 4; gap++) {
    places p =
        split(230, 10, gap % 2, (fl_split){.by = FL_SPLIT_TIME, .share = 0.2, .gap = gap}, 1);
    CU_ASSERT_EQUAL(p.now.n_client, 10);
    for (int32_t i = 0; i < 10; i++) {
      int64_t size = 0, test = 0, place = 0;
      for (int64_t e = 0; e < 230; e++) size += p.old.client[e] == i;
      test = llrint(0.2 * (double)size);
      for (int64_t e = 0; e < 230; e++) {
        if (p.old.client[e] != i) continue;
        int64_t left = size - place++;
        CU_ASSERT_EQUAL(tested(&p, e), left <= test);
        CU_ASSERT_EQUAL(p.at[e] == -1, left > test && left <= test + gap);
        if (left > test + gap) CU_ASSERT_EQUAL(p.now.client[p.at[e]], i);
      }
    }
    close_places(&p);
  }
}

/* Who has too few examples for all three parts trains on all of them. */
static void test_short_clients(void) {
  places p = split(34, 10, true, (fl_split){.by = FL_SPLIT_TIME, .share = 0.4, .gap = 2}, 1);
  for (int64_t e = 0; e < 34; e++)
    CU_ASSERT(p.old.client[e] == 9 ||
              p.at[e] >= 0); /* client 9 has six, the others three or four */
  CU_ASSERT_EQUAL(p.now.n_test, 2);
  close_places(&p);
}

static void test_without_clients(void) {
  places p = split(50, 0, true, (fl_split){.by = FL_SPLIT_TIME, .share = 0.1, .gap = 5}, 1);
  CU_ASSERT_PTR_NULL(p.now.client);
  CU_ASSERT(p.now.n_train == 40 && p.now.n_test == 5 && p.at[39] == 39 && p.at[45] == 40);
  close_places(&p);
}

static void test_random_examples(void) {
  fl_split how = {.by = FL_SPLIT_EXAMPLE, .share = 0.25};
  places a = split(200, 10, false, how, 1), b = split(200, 10, false, how, 1),
         c = split(200, 10, false, how, 2);
  int late = 0;
  CU_ASSERT(a.now.n_test == 50 && a.now.n_train == 150);
  CU_ASSERT_EQUAL(memcmp(a.at, b.at, 200 * sizeof *a.at), 0);
  CU_ASSERT_NOT_EQUAL(memcmp(a.at, c.at, 200 * sizeof *a.at), 0);
  for (int64_t e = 100; e < 200; e++) late += tested(&a, e);
  CU_ASSERT(late > 10 && late < 40);
  close_places(&a);
  close_places(&b);
  close_places(&c);
}

/* A client all of whose examples are for the test is none any more. */
static void test_emptied_clients_vanish(void) {
  places p = split(11, 10, true, (fl_split){.by = FL_SPLIT_EXAMPLE, .share = 0.5}, 3);
  bool seen[10] = {false};
  int32_t left = 0;
  for (int64_t i = 0; i < p.now.n_train; i++) seen[p.now.client[i]] = true;
  for (int i = 0; i < p.now.n_client; i++) left += seen[i];
  CU_ASSERT(p.now.n_client < 10 && left == p.now.n_client);
  close_places(&p);
}

/* What the reading said of the data goes with them, and is given back once. */
static void test_notices_stay(void) {
  fl_dataset d = make_data(40, 4, true);
  fl_split half = {.by = FL_SPLIT_EXAMPLE, .share = 0.5};
  CU_ASSERT_EQUAL(fl_dataset_note(&d, "a frame of %d is bad", 40), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_dataset_split(&d, &half, 1), FEDLANE_OK);
  CU_ASSERT(d.notice && strcmp(d.notice, "a frame of 40 is bad\n") == 0);
  fl_dataset_close(&d);
}

static void refuse(fl_dataset d, fl_split how, const char *says) {
  int64_t n = d.n_train;
  CU_ASSERT_NOT_EQUAL(fl_dataset_split(&d, &how, 1), FEDLANE_OK);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), says));
  CU_ASSERT_EQUAL(d.n_train, n);
  fl_dataset_close(&d);
}

static void test_refusals(void) {
  fl_split client = {.by = FL_SPLIT_CLIENT, .share = 0.5}, time = {FL_SPLIT_TIME, 0.5, 90, false};
  refuse(make_data(40, 0, true), client, "needs two clients in the data; these have 0");
  refuse(make_data(40, 1, true), client, "needs two clients in the data; these have 1");
  refuse(make_data(40, 2, true), time, "a gap of 90");
  refuse(make_data(1, 0, true), client, "one example");
  fl_dataset d = make_data(40, 4, true);
  d.n_train = 30;
  d.n_test = 10;
  refuse(d, client, "data.split.replace");
  d = make_data(40, 4, true);
  d.n_train = 30;
  d.n_test = 10;
  client.replace = true;
  CU_ASSERT_EQUAL(fl_dataset_split(&d, &client, 1), FEDLANE_OK);
  CU_ASSERT(d.n_train + d.n_test == 30 && d.n_client == 2);
  fl_dataset_close(&d);
}

/* The statistics are those of the training part, and what is missing becomes their mean. */
static void test_normalised_by_the_training_part(void) {
  fl_dataset d = {.image = {1, 1, 1}, .n_train = 8, .n_target = 1, .raw = true};
  const float x[8] = {1, NAN, 3, 5, NAN, 7, 1000, NAN};
  CU_ASSERT_EQUAL_FATAL(fl_dataset_alloc(&d), FEDLANE_OK);
  memcpy(d.x, x, sizeof x);
  memset(d.target, 0, 8 * sizeof(float));
  CU_ASSERT_EQUAL(fl_dataset_split(&d, &(fl_split){FL_SPLIT_TIME, 0.25, 0, false}, 1), FEDLANE_OK);
  CU_ASSERT(d.raw && d.n_train == 6 && d.n_test == 2);
  CU_ASSERT_EQUAL(fl_dataset_normalise(&d, FL_NORMALISE_AUTO), FEDLANE_OK);
  CU_ASSERT_DOUBLE_EQUAL(d.shift[0], 4, 1e-6);
  CU_ASSERT_DOUBLE_EQUAL(d.scale[0], 1 / sqrt(5), 1e-6);
  const float want[8] = {1, 4, 3, 5, 4, 7, 1000, 4};
  CU_ASSERT_EQUAL(memcmp(d.x, want, sizeof want), 0);
  fl_dataset_close(&d);
}

/* A whole run: the held-out clients are not in the population, and the same seed holds out the same
 * ones when it is resumed. */
static void test_in_a_run(void) {
  char text[1024], output[160];
  snprintf(output, sizeof output, "%s/run", fl_test_folder());
  snprintf(text, sizeof text,
           "device: cpu\noutput: %s\n"
           "data: {format: synthetic, examples: 200, test: 0, channels: 1, height: 8, width: 8,\n"
           "       classes: 3, clients: 20, partition: natural, split: {by: client}}\n"
           "model: {name: logistic}\ntrain: {rounds: 4, cohort: 5}\neval: {every: 1}\n",
           output);
  fedlane_run *run = NULL;
  fedlane_metrics m, again;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 0, NULL, 0, &run), FEDLANE_OK);
  CU_ASSERT(run->people.n == 16 && run->data.n_train == 160 && run->data.n_test == 40);
  while (fedlane_round(run, &m) == FEDLANE_OK) continue;
  fedlane_close(&run);
  const char *half = "train.rounds=2", *other = "data.split.share=0.3";
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 1, &half, 0, &run), FEDLANE_OK);
  while (fedlane_round(run, &again) == FEDLANE_OK) continue;
  fedlane_close(&run);
  CU_ASSERT_NOT_EQUAL(fl_fixture_open(text, 1, &other, FEDLANE_RESUME, &run), FEDLANE_OK);
  const char *metrics = "eval.metrics=[top3]";
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 1, &metrics, FEDLANE_RESUME, &run), FEDLANE_OK);
  while (fedlane_round(run, &again) == FEDLANE_OK) continue;
  fedlane_close(&run);
  CU_ASSERT(again.round == 4 && again.test_loss == m.test_loss);
  CU_ASSERT_STRING_EQUAL(again.score[0].name, "top3");
}

static const fl_test tests[] = {
    {"whole clients", test_whole_clients},
    {"later examples", test_later_examples},
    {"short clients", test_short_clients},
    {"without clients", test_without_clients},
    {"random examples", test_random_examples},
    {"emptied clients vanish", test_emptied_clients_vanish},
    {"notices stay", test_notices_stay},
    {"refusals", test_refusals},
    {"normalised by the training part", test_normalised_by_the_training_part},
    {"in a run", test_in_a_run},
};

FL_SUITE_MAIN("dataset_split", tests)
