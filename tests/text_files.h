/* What the tests of text files share: files written on the spot, loading what is good of them. */
#ifndef FL_TEST_TEXT_FILES_H
#define FL_TEST_TEXT_FILES_H

#include <math.h>
#include <string.h>

#include "format_files.h"

static inline const char *write_text(const char *folder, const char *name, const char *text) {
  static char path[1024];
  write_file(folder, name, text, strlen(text));
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static inline fl_args args_of(const char *name) { return fl_args_of(&find(name)->record); }

/* Loads with bad rows left out. */
static inline fl_dataset load_rest(const char *name, const char *path, const fl_args *args) {
  fl_dataset d;
  fl_load how = {.path = path, .seed = 1, .threads = 1, .skip_bad = true};
  CU_ASSERT_EQUAL_FATAL(find(name)->load(&how, args->at, &d), FEDLANE_OK);
  return d;
}

static inline bool same_float(float a, float b) { return a == b || (isnan(a) && isnan(b)); }

/* x of example e. */
static inline void expect_x(const fl_dataset *d, int64_t e, const float *x) {
  int64_t n = fl_image_size(d->image);
  for (int64_t i = 0; i < n; i++) {
    float got = ((float *)d->x)[e * n + i];
    if (!same_float(got, x[i])) printf("\n    value %d of %d is %g\n", (int)i, (int)e, (double)got);
    CU_ASSERT(same_float(got, x[i]));
  }
}

#endif
