/* Every op case on every backend: against the oracle, against central differences, and against the
 * promises of ops.h that lanes and rows never see each other. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "op_cases.h"
#include "op_runs.h"
#include "suite.h"

static fl_rig rig_of(const fl_op_case *k, fl_present present) {
  fl_rig rig = {.k = k, .ops = present.ops, .dev = present.dev, .C = k->C};
  return rig;
}

static void run(fl_rig *rig) {
  fl_status status = fl_rig_run(rig);
  if (status != FEDLANE_OK)
    printf("\n    %s on %s: %s", rig->k->name, rig->ops->record.name, fedlane_error());
  CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
}

static const fl_field *find_field(const fl_rig *rig, fl_field like) {
  for (int i = 0; i < rig->n_field; i++)
    if (rig->field[i].lane == like.lane && strcmp(rig->field[i].name, like.name) == 0)
      return &rig->field[i];
  return NULL;
}

/* Whether every field of `got` is in `want` within tolerance times the largest magnitude there;
 * tolerance 0 asks for the same values. */
static void compare(const char *what, const fl_rig *got, const fl_rig *want, double tolerance) {
  for (int f = 0; f < got->n_field; f++) {
    fl_field a = got->field[f];
    const fl_field *b = find_field(want, a);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b);
    CU_ASSERT_EQUAL_FATAL(a.n, b->n);
    const double *x = got->value + a.at, *y = want->value + b->at;
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < a.n; i++) largest = fmax(largest, fabs(y[i]));
    for (int64_t i = 0; i < a.n; i++)
      if (x[i] != y[i]) worst = isnan(x[i] - y[i]) ? INFINITY : fmax(worst, fabs(x[i] - y[i]));
    if (worst > tolerance * largest)
      printf("\n    %s: %s on %s: lane %d of '%s' is off by %.3g of the largest, %.3g", what,
             got->k->name, got->ops->record.name, a.lane, a.name, worst / largest, largest);
    CU_ASSERT(worst <= tolerance * largest);
  }
}

/* Calls check for each case on each backend; the long cases are left out where they would take
 * long: on the oracle, whose loops have no short cuts, and on a GPU that the host pretends to be.
 */
static void each(void (*check)(const fl_op_case *k, fl_present present)) {
  int n;
  const fl_present *present = fl_present_backends(&n);
  for (int i = 0; i < n; i++) {
    const fl_ops *ops = present[i].ops;
    bool slow = ops == &fl_ref_ops || strcmp(ops->record.name, "cuda-on-host") == 0;
    for (int k = 0; k < fl_op_case_count; k++)
      if (!slow || fl_op_case_list[k].C == FL_CASE_LANES) check(&fl_op_case_list[k], present[i]);
  }
}

/* Compares n backends, each with its tolerance, with the oracle, which is asked once. */
static void compare_with_oracle(const fl_op_case *k, int n, const fl_present *present,
                                const double *tolerance) {
  fl_dev_options options = {0, FL_MATH_FP32};
  fl_present oracle = {&fl_ref_ops, NULL};
  CU_ASSERT_EQUAL_FATAL(fl_ref_ops.open(&options, &oracle.dev), FEDLANE_OK);
  fl_rig want = rig_of(k, oracle);
  run(&want);
  for (int i = 0; i < n; i++) {
    fl_rig got = rig_of(k, present[i]);
    run(&got);
    compare("oracle", &got, &want, tolerance[i]);
    fl_rig_close(&got);
  }
  fl_rig_close(&want);
  fl_ref_ops.close(&oracle.dev);
}

static void test_oracle(void) {
  int n, others = 0;
  const fl_present *present = fl_present_backends(&n);
  fl_present other[FL_PRESENT_MAX];
  for (int i = 0; i < n; i++)
    if (present[i].ops != &fl_ref_ops) other[others++] = present[i];
  for (int k = 0; k < fl_op_case_count; k++) {
    double tolerance[FL_PRESENT_MAX];
    for (int i = 0; i < others; i++) tolerance[i] = fl_op_case_list[k].tolerance;
    compare_with_oracle(&fl_op_case_list[k], others, other, tolerance);
  }
}

static double score_at(fl_rig rig, fl_input input, int64_t at, float nudge) {
  rig.nudged = input;
  rig.nudged_at = at;
  rig.nudge = nudge;
  run(&rig);
  double score = rig.score;
  fl_rig_close(&rig);
  return score;
}

/* About a dozen elements of each gradient of lane 0; plain accumulators make them whole. */
static void check_gradient(const fl_op_case *k, fl_present present) {
  enum { SAMPLES = 12 };
  const float h = 1.0f / 64;
  if (!k->gradient) return;
  fl_rig blank = rig_of(k, present), rig = blank;
  blank.C = rig.C = 1;
  blank.plain = rig.plain = true;
  run(&rig);
  for (int f = 0; f < rig.n_field; f++) {
    fl_field field = rig.field[f];
    const double *got = rig.value + field.at;
    double largest = 0;
    if (field.of == FL_IN_NONE) continue;
    for (int64_t i = 0; i < field.n; i++) largest = fmax(largest, fabs(got[i]));
    for (int64_t s = 0; s < SAMPLES && s < field.n; s++) {
      int64_t at = s * field.n / (field.n < SAMPLES ? field.n : SAMPLES);
      double up = score_at(blank, field.of, at, h), down = score_at(blank, field.of, at, -h);
      double want = (up - down) / (2 * h);
      if (!(fabs(got[at] - want) <= 2e-3 * largest))
        printf("\n    %s on %s: '%s' %lld is %g, central difference %g", k->name,
               present.ops->record.name, field.name, (long long)at, got[at], want);
      CU_ASSERT(fabs(got[at] - want) <= 2e-3 * largest);
    }
    CU_ASSERT(largest > 0);
  }
  fl_rig_close(&rig);
}

static void test_gradient(void) { each(check_gradient); }

static void check_batching(const fl_op_case *k, fl_present present) {
  const int width[] = {2, 3, FL_CASE_LANES};
  fl_rig alone[FL_CASE_LANES];
  for (int c = 0; c < k->C; c++) {
    alone[c] = rig_of(k, present);
    alone[c].first = c;
    alone[c].C = 1;
    run(&alone[c]);
  }
  for (int i = 0; i < FL_COUNT(width); i++) {
    if (width[i] > k->C) continue;
    fl_rig together = rig_of(k, present);
    together.C = width[i];
    run(&together);
    for (int c = 0; c < width[i]; c++) compare("batching", &alone[c], &together, 0);
    fl_rig_close(&together);
  }
  for (int c = 0; c < k->C; c++) fl_rig_close(&alone[c]);
}

static void test_batching_is_invisible(void) { each(check_batching); }

static void check_sharing(const fl_op_case *k, fl_present present) {
  fl_rig shared = rig_of(k, present), copies = rig_of(k, present);
  shared.C = copies.C = k->C < 3 ? k->C : 3;
  shared.share = FL_SHARED;
  copies.share = FL_COPIES;
  run(&shared);
  run(&copies);
  compare("sharing", &shared, &copies, 0);
  fl_rig_close(&shared);
  fl_rig_close(&copies);
}

static void test_sharing_is_invisible(void) { each(check_sharing); }

static void check_dead_rows(const fl_op_case *k, fl_present present) {
  fl_rig zero = rig_of(k, present), junk = rig_of(k, present);
  junk.dead = 1000;
  run(&zero);
  run(&junk);
  compare("dead rows", &junk, &zero, 0);
  fl_rig_close(&zero);
  fl_rig_close(&junk);
}

static void test_dead_rows_add_nothing(void) { each(check_dead_rows); }

static void check_again(const fl_op_case *k, fl_present present) {
  fl_rig first = rig_of(k, present), second = rig_of(k, present);
  run(&first);
  run(&second);
  compare("second call", &second, &first, 0);
  fl_rig_close(&first);
  fl_rig_close(&second);
}

static void test_second_call_same_bits(void) { each(check_again); }

/* A case on a device that rounds, in each of these precisions. */
static void check_lower(const fl_op_case *k, int n, const fl_present *rounded,
                        const double *tolerance) {
  double allowed[FL_PRESENT_MAX];
  bool recurs = k->run == fl_run_lstm || k->run == fl_run_gru;
  if (k->run != fl_run_dense && k->run != fl_run_conv && !recurs) return;
  for (int i = 0; i < n; i++) allowed[i] = (recurs ? 4 : 1) * tolerance[i];
  compare_with_oracle(k, n, rounded, allowed);
  for (int i = 0; i < n && k->C == FL_CASE_LANES; i++) {
    check_batching(k, rounded[i]);
    check_sharing(k, rounded[i]);
  }
}

/* What multiplies matrices does so in the precision that was asked for, where a backend has more
 * than one: inputs are rounded to 11, 8 or 22 bits, sums are not. Steps that follow one another
 * round again. */
static void test_lower_precisions(void) {
  static const int lower[] = {FL_MATH_TF32, FL_MATH_BF16, FL_MATH_TF32X3};
  static const double tolerance[] = {2e-3, 1.5e-2, 2e-6};
  int n;
  const fl_present *present = fl_present_backends(&n);
  for (int i = 0; i < n; i++) {
    fl_present rounded[FL_COUNT(lower)];
    if (present[i].ops->host) continue;
    for (int p = 0; p < FL_COUNT(lower); p++) {
      fl_dev_options options = {0, lower[p]};
      rounded[p] = (fl_present){present[i].ops, NULL};
      CU_ASSERT_EQUAL_FATAL(rounded[p].ops->open(&options, &rounded[p].dev), FEDLANE_OK);
    }
    for (int k = 0; k < fl_op_case_count; k++)
      check_lower(&fl_op_case_list[k], FL_COUNT(lower), rounded, tolerance);
    for (int p = 0; p < FL_COUNT(lower); p++) rounded[p].ops->close(&rounded[p].dev);
  }
  CU_ASSERT(n >= 2);
}

/* The slots of a block give the bits of its layers', in either order of relu and pooling, and exact
 * inputs the oracle's values in every precision. */
static void check_block(const fl_op_case *k, fl_present present) {
  const fl_block parts[] = {FL_BLOCK_RELU_FIRST, FL_BLOCK_POOL_FIRST};
  fl_rig together = rig_of(k, present);
  run(&together);
  for (int i = 0; i < FL_COUNT(parts); i++) {
    fl_rig apart = rig_of(k, present);
    apart.block = parts[i];
    run(&apart);
    compare("block", &together, &apart, 0);
    fl_rig_close(&apart);
  }
  fl_rig_close(&together);
  if (k->spread == FL_EXACT) compare_with_oracle(k, 1, &present, &(double){0});
}

static void test_blocks(void) {
  const int precision[] = {FL_MATH_FP32, FL_MATH_TF32, FL_MATH_BF16};
  int n;
  const fl_present *present = fl_present_backends(&n);
  for (int i = 0; i < n; i++) {
    if (!present[i].ops->conv_relu_fwd) {
      printf("absent: %s has no slots for blocks; ", present[i].ops->record.name);
      continue;
    }
    for (int p = 0; p < (present[i].ops->host ? 1 : FL_COUNT(precision)); p++) {
      fl_dev_options options = {0, precision[p]};
      fl_present one = {present[i].ops, NULL};
      CU_ASSERT_EQUAL_FATAL(one.ops->open(&options, &one.dev), FEDLANE_OK);
      for (int k = 0; k < fl_op_case_count; k++)
        if (fl_op_case_list[k].run == fl_run_block) check_block(&fl_op_case_list[k], one);
      one.ops->close(&one.dev);
    }
  }
  CU_ASSERT(n >= 2);
}

static void test_backends_are_present(void) {
  int n;
  const fl_present *present = fl_present_backends(&n);
  CU_ASSERT(n >= 2);
  for (int i = 0; i < n; i++) printf("%s ", present[i].ops->record.name);
}

static const fl_test tests[] = {
    {"backends are present", test_backends_are_present},
    {"oracle", test_oracle},
    {"gradient", test_gradient},
    {"batching is invisible", test_batching_is_invisible},
    {"sharing is invisible", test_sharing_is_invisible},
    {"dead rows add nothing", test_dead_rows_add_nothing},
    {"second call, same bits", test_second_call_same_bits},
    {"lower precisions", test_lower_precisions},
    {"blocks give the bits of their layers", test_blocks},
};

FL_SUITE_MAIN("ops", tests)
