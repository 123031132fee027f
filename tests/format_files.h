/* What the tests of data formats share: files made on the spot, loading, refusing. */
#ifndef FL_TEST_FORMAT_FILES_H
#define FL_TEST_FORMAT_FILES_H

#include <stdio.h>
#include <unistd.h>
#include <zlib.h>

#include "args.h"
#include "dataset.h"
#include "files.h"
#include "suite.h"

static inline const fl_format *find(const char *name) {
  const fl_record *record = fl_catalogue_find(&fl_formats, name);
  CU_ASSERT_PTR_NOT_NULL_FATAL(record);
  return (const fl_format *)record;
}

static inline fl_dataset load_good(const char *name, const char *path, const fl_args *args) {
  const fl_format *format = find(name);
  fl_args plain = fl_args_of(&format->record);
  fl_dataset d;
  fl_status status = format->load(&(fl_load){.path = path, .seed = 1, .threads = 2},
                                  args ? args->at : plain.at, &d);
  if (status != FEDLANE_OK) printf("\n    %s: %s\n", path, fedlane_error());
  CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
  return d;
}

/* Loading fails with `status`, and the sentence has both words. */
static inline void refuse(const char *name, const char *path, const fl_args *args, fl_status status,
                          const char *word, const char *other) {
  const fl_format *format = find(name);
  fl_args plain = fl_args_of(&format->record);
  fl_dataset d;
  fl_status got = format->load(&(fl_load){.path = path, .seed = 1, .threads = 2},
                               args ? args->at : plain.at, &d);
  bool good = got == status && strstr(fedlane_error(), word) && strstr(fedlane_error(), other);
  if (!good) printf("\n    expected '%s', '%s', got %d: %s\n", word, other, got, fedlane_error());
  CU_ASSERT(good);
  if (got == FEDLANE_OK) fl_dataset_close(&d);
}

/* Bytes to a file, packed when its name ends in .gz. */
static inline void write_file(const char *folder, const char *name, const void *bytes, size_t n) {
  char *path = fl_path_join(folder, name);
  size_t length = strlen(name);
  if (length > 3 && strcmp(name + length - 3, ".gz") == 0) {
    gzFile file = gzopen(path, "wb");
    CU_ASSERT_EQUAL(gzwrite(file, bytes, (unsigned)n), (int)n);
    gzclose(file);
  } else {
    FILE *file = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fwrite(bytes, 1, n, file), n);
    fclose(file);
  }
  free(path);
}

static inline void remove_file(const char *folder, const char *name) {
  char *path = fl_path_join(folder, name);
  CU_ASSERT_EQUAL(unlink(path), 0);
  free(path);
}

#endif
