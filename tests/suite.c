#include "suite.h"

#include <CUnit/Basic.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FOLDERS = 256 };
static char folder[FOLDERS][64];
static int n_folder;

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk) {
  (void)info, (void)type, (void)walk;
  return remove(path);
}

static void remove_folders(void) {
  for (int i = 0; i < n_folder; i++) nftw(folder[i], remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fl_test_folder(void) {
  const char *parent = getenv("TMPDIR");
  if (n_folder == FOLDERS) abort();
  if (n_folder == 0) atexit(remove_folders);
  snprintf(folder[n_folder], sizeof folder[0], "%.40s/fedlane-XXXXXX", parent ? parent : "/tmp");
  if (!mkdtemp(folder[n_folder])) abort();
  return folder[n_folder++];
}

const char *fl_test_data(const char *name) {
  static char path[4096];
  const char *data = getenv("FEDLANE_DATA");
  if (data) {
    snprintf(path, sizeof path, "%s/%s", data, name);
    if (access(path, R_OK) == 0) return path;
  }
  printf("skipped: %s is not in $FEDLANE_DATA\n", name);
  return NULL;
}

static int wanted(const char *test, int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (strstr(test, argv[i])) return 1;
  return argc < 2;
}

int fl_suite_run(const char *name, int n, const fl_test *tests, int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (CU_initialize_registry() != CUE_SUCCESS) return 1;
  CU_pSuite suite = CU_add_suite(name, NULL, NULL);
  for (int i = 0; i < n; i++)
    if (wanted(tests[i].name, argc, argv)) CU_add_test(suite, tests[i].name, tests[i].run);
  CU_basic_set_mode(CU_BRM_VERBOSE);
  CU_basic_run_tests();
  unsigned failed = CU_get_number_of_failures(), run = CU_get_number_of_tests_run();
  CU_cleanup_registry();
  return failed || run == 0;
}
