#include "record.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "suite.h"

typedef struct sample_args {
  double real;
  int64_t whole;
  bool flag;
  const char *text;
  int choice, small;
  char rest[8]; /* described by no parameter */
} sample_args;

static const fl_param params[] = {
    {.name = "real", .type = FL_REAL, .offset = offsetof(sample_args, real), .dflt = 0.25},
    {.name = "whole", .type = FL_INT, .offset = offsetof(sample_args, whole), .dflt = 4294967295},
    {.name = "flag", .type = FL_BOOL, .offset = offsetof(sample_args, flag), .dflt = 1},
    {.name = "text", .type = FL_TEXT, .offset = offsetof(sample_args, text), .text = "words"},
    {.name = "choice",
     .type = FL_CHOICE,
     .offset = offsetof(sample_args, choice),
     .dflt = 2,
     .text = "a,b,c"},
    {.name = "small", .type = FL_INT32, .offset = offsetof(sample_args, small), .dflt = -3},
};
static const fl_record sample = {.name = "sample",
                                 .args_size = sizeof(sample_args),
                                 .param = params,
                                 .n_param = FL_COUNT(params)};
static const fl_record plain = {.name = "plain"};
static const fl_record *const entry[] = {&sample, &plain};
static const fl_catalogue catalogue = {"thing", "a thing", entry, FL_COUNT(entry)};

static void test_defaults(void) {
  static const char zero[8] = {0};
  sample_args args;
  memset(&args, 0xFF, sizeof args);
  fl_record_defaults(&sample, &args);
  CU_ASSERT_EQUAL(args.real, 0.25);
  CU_ASSERT_EQUAL(args.whole, 4294967295);
  CU_ASSERT_TRUE(args.flag);
  CU_ASSERT_STRING_EQUAL(args.text, "words");
  CU_ASSERT_EQUAL(args.choice, 2);
  CU_ASSERT_EQUAL(args.small, -3);
  CU_ASSERT_EQUAL(memcmp(args.rest, zero, sizeof zero), 0);
  fl_record_defaults(&plain, NULL);
}

static void test_find(void) {
  CU_ASSERT_PTR_EQUAL(fl_catalogue_find(&catalogue, "sample"), &sample);
  CU_ASSERT_PTR_EQUAL(fl_catalogue_find(&catalogue, "plain"), &plain);
  CU_ASSERT_PTR_NULL(fl_catalogue_find(&catalogue, "Plain"));
  CU_ASSERT_PTR_NULL(fl_catalogue_find(&catalogue, ""));
}

static void nearest_is(const char *word, const char *want) {
  static const char *const words[] = {
      "fedavg", "feddyn", "fedprox", "scaffold", "lr", "cpu", "client_learning_rate"};
  const char *got = fl_nearest(word, FL_COUNT(words), words);
  CU_ASSERT_EQUAL(got == NULL, want == NULL);
  if (got && want) CU_ASSERT_STRING_EQUAL(got, want);
}

static void test_nearest(void) {
  nearest_is("feddin", "feddyn");
  nearest_is("fedvag", "fedavg"); /* two letters changed places */
  nearest_is("feddyn", "feddyn");
  nearest_is("prox", NULL); /* three letters away */
  nearest_is("fedprx", "fedprox");
  nearest_is("scafold", "scaffold");
  nearest_is("lrr", "lr");
  nearest_is("clientlerningrate", "client_learning_rate"); /* long words may be further off */
  nearest_is("gpu", "cpu");
}

static void test_nothing_is_near(void) {
  nearest_is("momentum", NULL);
  nearest_is("", NULL);
  nearest_is("x", NULL);  /* as many changes as letters */
  nearest_is("ab", NULL); /* likewise */
  CU_ASSERT_PTR_NULL(fl_nearest("cpu", 0, NULL));
}

static void test_nearest_of_long_words(void) {
  char word[200], other[200];
  const char *const words[] = {other};
  memset(word, 'a', sizeof word);
  memset(other, 'a', sizeof other);
  word[199] = other[199] = 0;
  CU_ASSERT_PTR_NULL(fl_nearest(word, 1, words)); /* no name is that long */
  other[60] = 0;
  word[61] = 0;
  CU_ASSERT_PTR_EQUAL(fl_nearest(word, 1, words), other);
}

static const fl_test tests[] = {
    {"defaults", test_defaults},
    {"find", test_find},
    {"nearest", test_nearest},
    {"nothing is near", test_nothing_is_near},
    {"long words", test_nearest_of_long_words},
};

FL_SUITE_MAIN("record", tests)
