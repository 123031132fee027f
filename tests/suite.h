/* The frame of a test suite: a list of named tests, run by CUnit, a non-zero exit when any failed.
 */
#ifndef FL_SUITE_H
#define FL_SUITE_H

#include <CUnit/CUnit.h>

typedef struct fl_test {
  const char *name;
  void (*run)(void);
} fl_test;

/* Runs n tests as the suite `name`; returns main's exit status. With arguments, only the tests
 * whose name contains one of them. */
int fl_suite_run(const char *name, int n, const fl_test *tests, int argc, char **argv);

#define FL_SUITE_MAIN(name, tests)                                                           \
  int main(int argc, char **argv) {                                                          \
    return fl_suite_run(name, (int)(sizeof(tests) / sizeof((tests)[0])), tests, argc, argv); \
  }

/* A fresh empty folder that is removed, with its contents, when the program ends. The same folder
 * name is never given twice. */
const char *fl_test_folder(void);

/* The folder of real data named by FEDLANE_DATA joined with `name`, or NULL: then the test prints
 * "skipped: <why>" and returns. */
const char *fl_test_data(const char *name);

#endif
