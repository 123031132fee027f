/* Partitions: whatever the parameters, every example is dealt once and sizes are as asked. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "dataset.h"
#include "suite.h"

static const fl_partition *find(const char *name) {
  const fl_record *record = fl_catalogue_find(&fl_partitions, name);
  CU_ASSERT_PTR_NOT_NULL_FATAL(record);
  return (const fl_partition *)record;
}

/* n examples of K classes in uneven shares, and natural clients 0 .. 9. Some classes may be empty.
 */
static fl_dataset make_data(int64_t n, int K, uint32_t seed) {
  fl_rng rng = fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_DATA});
  fl_dataset d = {.image = {1, 1, 1}, .n_train = n, .classes = K, .bytes = true};
  CU_ASSERT_EQUAL_FATAL(fl_dataset_alloc(&d), FEDLANE_OK);
  d.client = malloc((size_t)n * sizeof *d.client);
  d.n_client = 10;
  for (int64_t e = 0; e < n; e++) {
    d.label[e] = (int32_t)fl_rng_below(&rng, 1 + fl_rng_below(&rng, (uint32_t)K));
    d.client[e] = (int32_t)(e % 10);
  }
  return d;
}

static int64_t size_of(const fl_population *p, int32_t i) {
  return p->offset[i + 1] - p->offset[i];
}

/* Every example once, in ascending order inside a client, and no client below `least`. */
static void check_deal(const fl_dataset *d, const fl_population *p, int64_t clients,
                       int64_t least) {
  bool *seen = calloc((size_t)d->n_train, 1), once = true, ascending = true, enough = true;
  CU_ASSERT_EQUAL(p->n, clients);
  CU_ASSERT_EQUAL(p->offset[0], 0);
  CU_ASSERT_EQUAL_FATAL(p->offset[p->n], d->n_train);
  for (int32_t i = 0; i < p->n; i++) {
    enough = enough && size_of(p, i) >= least;
    for (int64_t k = p->offset[i]; k < p->offset[i + 1]; k++) {
      int32_t e = p->index[k];
      CU_ASSERT_FATAL(e >= 0 && e < d->n_train);
      once = once && !seen[e];
      ascending = ascending && (k == p->offset[i] || p->index[k - 1] < e);
      seen[e] = true;
    }
  }
  CU_ASSERT(once);
  CU_ASSERT(ascending);
  CU_ASSERT(enough);
  free(seen);
}

static int distinct_labels(const fl_dataset *d, const fl_population *p, int32_t i) {
  bool has[256] = {false};
  int n = 0;
  for (int64_t k = p->offset[i]; k < p->offset[i + 1]; k++) {
    bool *one = &has[d->label[p->index[k]]];
    n += !*one;
    *one = true;
  }
  return n;
}

static double from(fl_rng *rng, double lo, double hi) { return lo + (hi - lo) * fl_rng_unit(rng); }

/* Random sizes, classes, clients and alphas for every partition that makes clients. */
static void deals_everything_once(void) {
  static const char *const names[] = {"iid", "dirichlet", "shards", "quantity", "pathological"};
  fl_rng rng = fl_rng_open((fl_key){.seed = 11, .purpose = FL_FOR_DATA});
  for (uint32_t trial = 0; trial < 300; trial++) {
    const char *name = names[trial % 5];
    const fl_partition *part = find(name);
    fl_args args = fl_args_of(&part->record);
    int64_t n = 1 + fl_rng_below(&rng, 3000), least = 1;
    int64_t clients = 1 + fl_rng_below(&rng, (uint32_t)(trial % 3 ? n / 4 + 1 : n));
    int K = 1 + (int)fl_rng_below(&rng, 60);
    if (strcmp(name, "dirichlet") == 0 || strcmp(name, "quantity") == 0) {
      least = fl_rng_below(&rng, (uint32_t)(n / clients) + 1);
      fl_args_set(&args, "alpha", exp(from(&rng, log(0.001), log(1000))));
      fl_args_set(&args, "min_examples", (double)least);
    } else if (strcmp(name, "shards") == 0) {
      least = 1 + fl_rng_below(&rng, (uint32_t)(n / clients));
      fl_args_set(&args, "shards", (double)least);
    } else if (strcmp(name, "pathological") == 0) {
      int64_t needed = (K + clients - 1) / clients;
      fl_args_set(&args, "classes",
                  (double)(needed + fl_rng_below(&rng, (uint32_t)(K - needed + 1))));
    }
    fl_args_set(&args, "clients", (double)clients);
    fl_dataset d = make_data(n, K, trial);
    fl_population p = {0};
    fl_status status = part->deal(&d, args.at, trial, &p);
    CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
    check_deal(&d, &p, clients, least);
    fl_population_close(&p);
    fl_dataset_close(&d);
  }
}

static void follows_the_seed(void) {
  fl_dataset d = make_data(2000, 10, 1);
  for (int i = 0; i < fl_partitions.n; i++) {
    const fl_partition *part = (const fl_partition *)fl_partitions.entry[i];
    fl_args args = fl_args_of(&part->record);
    fl_population p[3];
    const uint32_t seed[3] = {7, 7, 8};
    for (int k = 0; k < 3; k++)
      CU_ASSERT_EQUAL_FATAL(part->deal(&d, args.at, seed[k], &p[k]), FEDLANE_OK);
    size_t bytes = 2000 * sizeof *p[0].index;
    bool natural = strcmp(part->record.name, "natural") == 0;
    CU_ASSERT_EQUAL(memcmp(p[0].index, p[1].index, bytes), 0);
    CU_ASSERT_EQUAL(memcmp(p[0].index, p[2].index, bytes) == 0, natural);
    for (int k = 0; k < 3; k++) fl_population_close(&p[k]);
  }
  fl_dataset_close(&d);
}

static void iid_is_balanced(void) {
  const fl_partition *part = find("iid");
  fl_args args = fl_args_of(&part->record);
  fl_dataset d = make_data(1003, 10, 1);
  fl_args_set(&args, "clients", 100);
  fl_population p;
  CU_ASSERT_EQUAL_FATAL(part->deal(&d, args.at, 1, &p), FEDLANE_OK);
  int eleven = 0;
  for (int32_t i = 0; i < 100; i++) {
    CU_ASSERT(size_of(&p, i) == 10 || size_of(&p, i) == 11);
    eleven += size_of(&p, i) == 11;
  }
  CU_ASSERT_EQUAL(eleven, 3);
  fl_population_close(&p);
  fl_dataset_close(&d);
}

/* The share of a class that a client gets has mean 1/N and variance (1/N)(1 - 1/N)/(N*alpha + 1).
 * 400 classes of 500 examples dealt to 5 clients give 2,000 shares. */
static void dirichlet_has_its_moments(void) {
  enum { N = 5, K = 400, EACH = 500 };
  const fl_partition *part = find("dirichlet");
  fl_dataset d = {.image = {1, 1, 1}, .n_train = K * EACH, .classes = K, .bytes = true};
  CU_ASSERT_EQUAL_FATAL(fl_dataset_alloc(&d), FEDLANE_OK);
  for (int e = 0; e < K * EACH; e++) d.label[e] = e % K;
  const double alphas[] = {0.01, 0.1, 0.5, 1, 10};
  static int count[N][K];
  for (int a = 0; a < 5; a++) {
    fl_args args = fl_args_of(&part->record);
    fl_args_set(&args, "clients", N);
    fl_args_set(&args, "alpha", alphas[a]);
    fl_population p;
    CU_ASSERT_EQUAL_FATAL(part->deal(&d, args.at, 3, &p), FEDLANE_OK);
    memset(count, 0, sizeof count);
    double variance = 0, expected = (1.0 / N) * (1 - 1.0 / N) / (N * alphas[a] + 1);
    for (int32_t i = 0; i < N; i++)
      for (int64_t k = p.offset[i]; k < p.offset[i + 1]; k++) count[i][d.label[p.index[k]]]++;
    for (int i = 0; i < N; i++)
      for (int k = 0; k < K; k++)
        variance += pow((double)count[i][k] / EACH - 1.0 / N, 2) / (N * K);
    CU_ASSERT_DOUBLE_EQUAL(variance / expected, 1, 0.15);
    fl_population_close(&p);
  }
  fl_dataset_close(&d);
}

/* The extremes end, and leave nobody empty: alpha 0.001 for as many clients as examples, and many
 * more clients than a class has examples. */
static void dirichlet_never_hangs(void) {
  const fl_partition *part = find("dirichlet");
  fl_dataset d = make_data(20000, 10, 1);
  const int64_t clients[] = {1, 2, 1000, 10000, 20000};
  const double alphas[] = {0.001, 0.3, 1e6};
  for (int c = 0; c < 5; c++)
    for (int a = 0; a < 3; a++) {
      fl_args args = fl_args_of(&part->record);
      fl_args_set(&args, "clients", (double)clients[c]);
      fl_args_set(&args, "alpha", alphas[a]);
      fl_population p;
      CU_ASSERT_EQUAL_FATAL(part->deal(&d, args.at, 1, &p), FEDLANE_OK);
      check_deal(&d, &p, clients[c], 1);
      fl_population_close(&p);
    }
  fl_dataset_close(&d);
}

/* Without a minimum a tiny alpha gives each class to one client; with one, only as many examples
 * move as the others lack. */
static void repair_is_as_small_as_can_be(void) {
  const fl_partition *part = find("dirichlet");
  fl_dataset d = make_data(5000, 10, 1);
  fl_args args = fl_args_of(&part->record);
  fl_args_set(&args, "alpha", 0.001);
  fl_args_set(&args, "clients", 100);
  fl_population p[2];
  for (int least = 0; least < 2; least++) {
    fl_args_set(&args, "min_examples", 3 * least);
    CU_ASSERT_EQUAL_FATAL(part->deal(&d, args.at, 1, &p[least]), FEDLANE_OK);
  }
  int64_t lacking = 0, moved = 0, largest = 0;
  for (int32_t i = 0; i < 100; i++) {
    int64_t before = size_of(&p[0], i), after = size_of(&p[1], i);
    lacking += before < 3 ? 3 - before : 0;
    moved += before > after ? before - after : 0;
    largest = before > largest ? before : largest;
    CU_ASSERT(before < 3 ? after == 3 : after <= before);
  }
  CU_ASSERT(lacking > 200);
  CU_ASSERT_EQUAL(moved, lacking);
  CU_ASSERT(largest > 500);
  fl_population_close(&p[0]);
  fl_population_close(&p[1]);
  fl_dataset_close(&d);
}

/* With classes of equal size that shards divide, k shards are equal sizes and at most k labels, and
 * mostly k, because a client's shards come from anywhere. */
static void shards_limit_labels(void) {
  const fl_partition *part = find("shards");
  fl_dataset d = make_data(6000, 10, 1);
  for (int e = 0; e < 6000; e++) d.label[e] = (e * 7) % 10;
  for (int k = 1; k <= 3; k++) {
    fl_args args = fl_args_of(&part->record);
    fl_args_set(&args, "clients", 100);
    fl_args_set(&args, "shards", k);
    fl_population p;
    CU_ASSERT_EQUAL_FATAL(part->deal(&d, args.at, 1, &p), FEDLANE_OK);
    int labels = 0;
    for (int32_t i = 0; i < 100; i++) {
      CU_ASSERT_EQUAL(size_of(&p, i), 60);
      CU_ASSERT(distinct_labels(&d, &p, i) <= k);
      labels += distinct_labels(&d, &p, i);
    }
    CU_ASSERT(labels > 85 * k);
    fl_population_close(&p);
  }
  fl_dataset_close(&d);
}

static void pathological_limits_labels(void) {
  const fl_partition *part = find("pathological");
  fl_dataset d = make_data(6000, 10, 1);
  for (int e = 0; e < 6000; e++) d.label[e] = (e * 7) % 10;
  const int64_t clients[] = {4, 33, 100};
  for (int c = 0; c < 3; c++)
    for (int k = 3; k <= 10; k++) {
      fl_args args = fl_args_of(&part->record);
      fl_args_set(&args, "clients", (double)clients[c]);
      fl_args_set(&args, "classes", k);
      fl_population p;
      CU_ASSERT_EQUAL_FATAL(part->deal(&d, args.at, 1, &p), FEDLANE_OK);
      check_deal(&d, &p, clients[c], 1);
      for (int32_t i = 0; i < p.n; i++) CU_ASSERT_EQUAL(distinct_labels(&d, &p, i), k);
      fl_population_close(&p);
    }
  fl_dataset_close(&d);
}

static void natural_keeps_clients(void) {
  const fl_partition *part = find("natural");
  fl_args args = fl_args_of(&part->record);
  fl_dataset d = make_data(95, 3, 1);
  fl_population p;
  CU_ASSERT_EQUAL_FATAL(part->deal(&d, args.at, 1, &p), FEDLANE_OK);
  check_deal(&d, &p, 10, 9);
  for (int32_t i = 0; i < 10; i++)
    for (int64_t k = p.offset[i]; k < p.offset[i + 1]; k++)
      CU_ASSERT_EQUAL(d.client[p.index[k]], i);
  fl_population_close(&p);
  fl_dataset_close(&d);
}

static void natural_has_one_client_alone(void) {
  const fl_partition *part = find("natural");
  fl_args args = fl_args_of(&part->record);
  fl_dataset d = make_data(95, 3, 1);
  fl_population p;
  fl_args_set(&args, "only", 7);
  CU_ASSERT_EQUAL_FATAL(part->deal(&d, args.at, 1, &p), FEDLANE_OK);
  CU_ASSERT_EQUAL(p.n, 1);
  CU_ASSERT_EQUAL_FATAL(p.offset[1], 9);
  for (int k = 0; k < 9; k++) CU_ASSERT_EQUAL(p.index[k], 7 + 10 * k);
  fl_population_close(&p);
  fl_dataset_close(&d);
}

static void refuse(const char *name, const fl_dataset *d, const char *key, double value,
                   const char *word) {
  const fl_partition *part = find(name);
  fl_args args = fl_args_of(&part->record);
  fl_population p = {0};
  if (key) fl_args_set(&args, key, value);
  CU_ASSERT_EQUAL(part->deal(d, args.at, 1, &p), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), word));
  if (!strstr(fedlane_error(), word)) printf("\n    %s: %s\n", name, fedlane_error());
  CU_ASSERT_PTR_NULL(p.offset);
}

static void refuses_the_impossible(void) {
  fl_dataset d = make_data(250, 12, 1);
  refuse("iid", &d, "clients", 251, "at most 250");
  refuse("dirichlet", &d, "clients", 251, "at most 250");
  refuse("dirichlet", &d, "min_examples", 3, "at most 83");
  refuse("quantity", &d, "clients", 1e9, "at most 250");
  refuse("shards", &d, "shards", 3, "at most 83");
  refuse("pathological", &d, "classes", 13, "1 .. 12");
  refuse("pathological", &d, "clients", 5, "to nobody");
  refuse("natural", &d, "only", 10, "clients 0 .. 9");
  int32_t *client = d.client;
  d.client = NULL;
  refuse("natural", &d, NULL, 0, "these have none");
  d.client = client;
  int32_t *label = d.label;
  d.label = NULL;
  d.classes = 0;
  refuse("dirichlet", &d, NULL, 0, "regression");
  refuse("shards", &d, NULL, 0, "regression");
  refuse("pathological", &d, NULL, 0, "regression");
  d.label = label;
  fl_dataset_close(&d);
}

static void regression_can_be_dealt(void) {
  static const char *const names[] = {"iid", "quantity", "natural"};
  fl_dataset d = make_data(500, 3, 1);
  int32_t *label = d.label;
  d.label = NULL;
  d.classes = 0;
  for (int i = 0; i < 3; i++) {
    const fl_partition *part = find(names[i]);
    fl_args args = fl_args_of(&part->record);
    fl_population p;
    CU_ASSERT_EQUAL_FATAL(part->deal(&d, args.at, 1, &p), FEDLANE_OK);
    check_deal(&d, &p, i < 2 ? 100 : 10, 1);
    fl_population_close(&p);
  }
  d.label = label;
  fl_dataset_close(&d);
}

static const fl_test tests[] = {
    {"deals everything once", deals_everything_once},
    {"follows the seed", follows_the_seed},
    {"iid is balanced", iid_is_balanced},
    {"dirichlet has its moments", dirichlet_has_its_moments},
    {"dirichlet never hangs", dirichlet_never_hangs},
    {"repair is as small as can be", repair_is_as_small_as_can_be},
    {"shards limit labels", shards_limit_labels},
    {"pathological limits labels", pathological_limits_labels},
    {"natural keeps clients", natural_keeps_clients},
    {"natural has one client alone", natural_has_one_client_alone},
    {"refuses the impossible", refuses_the_impossible},
    {"regression can be dealt", regression_can_be_dealt},
};

FL_SUITE_MAIN("partitions", tests)
