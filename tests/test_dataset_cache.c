/* Cached data sets: the same values come back from a mapped file, and nothing that is damaged,
 * foreign or out of date is ever taken. */
#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>

#include "format_files.h"
#include "safetensors.h"

/* The only file in a folder; valid until the next call. */
static const char *only_file(const char *folder) {
  static char path[512];
  int n = 0;
  DIR *list = opendir(folder);
  for (struct dirent *entry; list && (entry = readdir(list)) != NULL;)
    if (entry->d_name[0] != '.') {
      snprintf(path, sizeof path, "%s/%.200s", folder, entry->d_name);
      n++;
    }
  if (list) closedir(list);
  CU_ASSERT_EQUAL_FATAL(n, 1);
  return path;
}

static int files_in(const char *folder) {
  int n = 0;
  DIR *list = opendir(folder);
  for (struct dirent *entry; list && (entry = readdir(list)) != NULL;) n += entry->d_name[0] != '.';
  if (list) closedir(list);
  return n;
}

static fl_dataset load_through(const char *cache, const char *format, const char *path,
                               const fl_args *args, uint32_t seed) {
  fl_dataset d = {0};
  fl_load how = {.path = path, .seed = seed, .threads = 1};
  fl_args plain = fl_args_of(&find(format)->record);
  fl_status status = fl_dataset_load(&how, find(format), args ? args->at : plain.at, cache, &d);
  if (status != FEDLANE_OK) printf("\n    %s\n", fedlane_error());
  CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
  return d;
}

static bool alike(const void *a, const void *b, int64_t bytes) {
  return !a == !b && (!a || memcmp(a, b, (size_t)bytes) == 0);
}

static bool same(const fl_dataset *a, const fl_dataset *b) {
  int64_t n = a->n_train + a->n_test, x = n * fl_image_size(a->image) * (a->bytes ? 1 : 4);
  return memcmp(&a->image, &b->image, sizeof a->image) == 0 && a->classes == b->classes &&
         a->n_train == b->n_train && a->n_test == b->n_test && a->n_target == b->n_target &&
         a->n_label == b->n_label && a->bytes == b->bytes && a->raw == b->raw &&
         a->tokens == b->tokens && a->n_client == b->n_client && a->skipped == b->skipped &&
         alike(a->x, b->x, x) && alike(a->label, b->label, 4 * n * a->n_label) &&
         alike(a->target, b->target, 4 * n * a->n_target) &&
         alike(a->client, b->client, 4 * a->n_train) && alike(a->unit, b->unit, 4 * a->n_target);
}

/* 30 examples of 7 x 5 bytes with labels, or of floats with two targets; 6 clients. */
static fl_args some(int kind) {
  fl_args args = fl_args_of(&find("synthetic")->record);
  fl_args_set(&args, "kind", kind);
  fl_args_set(&args, "examples", 30);
  fl_args_set(&args, "test", 7);
  fl_args_set(&args, "height", 7);
  fl_args_set(&args, "width", 5);
  fl_args_set(&args, "targets", 2);
  fl_args_set(&args, "clients", 6);
  return args;
}

static void gives_back_what_was_read(void) {
  for (int kind = 0; kind < 2; kind++) {
    const char *cache = fl_test_folder();
    fl_args args = some(kind);
    fl_dataset first = load_through(cache, "synthetic", "", &args, 1);
    fl_dataset again = load_through(cache, "synthetic", "", &args, 1);
    CU_ASSERT(!first.map && again.map && !again.notice && same(&first, &again));
    CU_ASSERT_EQUAL((uintptr_t)again.x % 64, 0);
    ((uint8_t *)again.x)[3] ^= 1; /* may be written to, and nobody else sees it */
    fl_dataset third = load_through(cache, "synthetic", "", &args, 1);
    CU_ASSERT(third.map && same(&first, &third));
    CU_ASSERT_EQUAL(fl_dataset_normalise(&third, FL_NORMALISE_AUTO), FEDLANE_OK);
    fl_dataset_close(&first);
    fl_dataset_close(&again);
    fl_dataset_close(&third);
    CU_ASSERT_EQUAL(files_in(cache), 1);
  }
}

static void knows_options_and_seed(void) {
  const char *cache = fl_test_folder();
  fl_args args = some(0), other = some(0);
  fl_args_set(&other, "noise", 0.25);
  const fl_args *choice[] = {&args, &args, &other};
  for (int i = 0; i < 3; i++) {
    fl_dataset d = load_through(cache, "synthetic", "", choice[i], i == 1 ? 2 : 1);
    CU_ASSERT(!d.map && files_in(cache) == i + 1);
    fl_dataset_close(&d);
  }
}

static const uint8_t pixels[24] = {5, 4, 3, 2, 1, 9, 8, 7, 6};
static const int64_t labels[4] = {3, 0, 1, 5};

static void write_set(const char *path, int shift) {
  const fl_st_tensor t[] = {{"x", FL_U8, 2, {4, 3}, 12, pixels + shift},
                            {"y", FL_I64, 1, {4}, 4, labels}};
  CU_ASSERT_EQUAL_FATAL(fl_st_write(path, 2, t, 0, NULL), FEDLANE_OK);
}

/* A source that changes is read anew; one that does not depend on the seed is found with another.
 */
static void knows_the_source(void) {
  const char *folder = fl_test_folder();
  char path[512], cache[512];
  snprintf(path, sizeof path, "%s/set.safetensors", folder);
  snprintf(cache, sizeof cache, "%s/kept", folder);
  write_set(path, 0);
  for (int i = 0; i < 2; i++) {
    fl_dataset d = load_through(cache, "safetensors", path, NULL, (uint32_t)(1 + i));
    CU_ASSERT(!d.map == (i == 0) && ((uint8_t *)d.x)[0] == 5);
    fl_dataset_close(&d);
  }
  struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
  write_set(path, 1);
  CU_ASSERT_EQUAL(utimensat(AT_FDCWD, path, past, 0), 0);
  fl_dataset d = load_through(cache, "safetensors", path, NULL, 1);
  CU_ASSERT(!d.map && ((uint8_t *)d.x)[0] == 4);
  fl_dataset_close(&d);
}

/* A program that embeds the library may write numbers with a comma; files have points. */
static void reads_in_any_language(void) {
  const char *folder = fl_test_folder();
  char command[512], path[512];
  snprintf(command, sizeof command,
           "ASAN_OPTIONS=detect_leaks=0 localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>/dev/null",
           folder);
  bool made = system(command) != -1;
  setenv("LOCPATH", folder, 1);
  if (!made || !setlocale(LC_NUMERIC, "de_DE.UTF-8")) {
    printf("skipped: the locale de_DE cannot be made\n");
    return;
  }
  snprintf(path, sizeof path, "%s/a.csv", folder);
  write_file(folder, "a.csv", "x,y\n1.5,0.4\n2.5,0.6\n", 20);
  fl_args args = fl_args_of(&find("csv")->record);
  fl_args_text(&args, "threshold", "0.5");
  fl_dataset d = load_through("", "csv", path, &args, 1);
  CU_ASSERT(((float *)d.x)[1] == 2.5f && d.label[0] == 0 && d.label[1] == 1);
  fl_dataset_close(&d);
  snprintf(command, sizeof command, "%.1f", 0.5);
  CU_ASSERT_STRING_EQUAL(command, "0,5"); /* it is the program's own as before */
  setlocale(LC_NUMERIC, "C");
}

/* Files that parameters name belong to the source, wherever they lie. */
static void knows_files_that_are_named(void) {
  const char *folder = fl_test_folder();
  char path[512], cache[512];
  snprintf(path, sizeof path, "%s/a.csv", folder);
  snprintf(cache, sizeof cache, "%s/kept", folder);
  fl_args args = fl_args_of(&find("csv")->record);
  fl_args_text(&args, "test", "b.csv");
  write_file(folder, "a.csv", "x,y\n1,0\n2,1\n", 12);
  for (int i = 0; i < 3; i++) {
    write_file(folder, "b.csv", "x,y\n3,1\n4,0\n", i < 2 ? 8 : 12);
    struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    char test[512];
    snprintf(test, sizeof test, "%s/b.csv", folder);
    CU_ASSERT_EQUAL(utimensat(AT_FDCWD, test, past, 0), 0);
    fl_dataset d = load_through(cache, "csv", path, &args, 1);
    CU_ASSERT(!d.map == (i != 1) && d.n_test == (i < 2 ? 1 : 2));
    fl_dataset_close(&d);
  }
}

/* A cache that lies in the source's own folder is no part of the source. */
static void may_lie_beside_the_source(void) {
  const char *folder = fl_test_folder();
  fl_args args = some(0);
  for (int i = 0; i < 3; i++) {
    fl_dataset d = load_through(folder, "synthetic", folder, &args, 1);
    CU_ASSERT(!d.map == (i != 1));
    fl_dataset_close(&d);
    if (i == 1) write_file(folder, "more", "1", 1);
  }
}

/* Loads after something was done to the cache: the notice has `word`, and the data are right. */
static void rebuilt(const char *cache, const fl_args *args, const fl_dataset *right,
                    const char *word) {
  fl_dataset d = load_through(cache, "synthetic", "", args, 1);
  bool good = !d.map && d.notice && strstr(d.notice, word) && same(right, &d);
  if (!good) printf("\n    '%s': %s\n", word, d.notice ? d.notice : "no notice");
  CU_ASSERT(good);
  fl_dataset_close(&d);
  d = load_through(cache, "synthetic", "", args, 1);
  CU_ASSERT(d.map && !d.notice && same(right, &d));
  fl_dataset_close(&d);
}

static void never_trusts_damage(void) {
  const char *cache = fl_test_folder();
  fl_args args = some(0);
  fl_dataset right = load_through(cache, "synthetic", "", &args, 1);
  const char *path = only_file(cache);
  unsigned char *bytes;
  int64_t size;
  CU_ASSERT_EQUAL_FATAL(fl_read_all(path, &bytes, &size), FEDLANE_OK);
  for (int64_t at = 0; at < size; at += at < 700 ? 1 : 13) {
    unsigned char was = bytes[at];
    bytes[at] ^= 4;
    write_file(cache, strrchr(path, '/') + 1, bytes, (size_t)size);
    bytes[at] = was;
    fl_dataset d = load_through(cache, "synthetic", "", &args, 1);
    CU_ASSERT(same(&right, &d));
    fl_dataset_close(&d);
  }
  write_file(cache, strrchr(path, '/') + 1, bytes, (size_t)size / 2);
  rebuilt(cache, &args, &right, path);
  write_file(cache, strrchr(path, '/') + 1, "", 0);
  rebuilt(cache, &args, &right, "too few");
  bytes[size - 1] ^= 1;
  write_file(cache, strrchr(path, '/') + 1, bytes, (size_t)size);
  rebuilt(cache, &args, &right, "damaged");
  write_set(path, 0);
  rebuilt(cache, &args, &right, "not made from these data");
  free(bytes);
  fl_dataset_close(&right);
}

/* A right file under the name of another one, and a folder that cannot be written. */
static void never_trusts_another(void) {
  const char *cache = fl_test_folder(), *other = fl_test_folder();
  fl_args args = some(0), more = some(0);
  fl_args_set(&more, "noise", 1);
  fl_dataset right = load_through(cache, "synthetic", "", &args, 1);
  fl_dataset wrong = load_through(other, "synthetic", "", &more, 1);
  char from[512];
  snprintf(from, sizeof from, "%s", only_file(other));
  CU_ASSERT_EQUAL(rename(from, only_file(cache)), 0);
  rebuilt(cache, &args, &right, "not made from these data");
  fl_dataset_close(&right);
  fl_dataset_close(&wrong);
  write_file(other, "taken", "", 0);
  char taken[512];
  snprintf(taken, sizeof taken, "%s/taken", other);
  fl_dataset d = {0};
  CU_ASSERT_EQUAL(
      fl_dataset_load(&(fl_load){.path = "", .threads = 1}, find("synthetic"), args.at, taken, &d),
      FEDLANE_IO);
}

static const fl_test tests[] = {
    {"gives back what was read", gives_back_what_was_read},
    {"knows options and seed", knows_options_and_seed},
    {"knows the source", knows_the_source},
    {"reads in any language", reads_in_any_language},
    {"knows files that are named", knows_files_that_are_named},
    {"may lie beside the source", may_lie_beside_the_source},
    {"never trusts damage", never_trusts_damage},
    {"never trusts another", never_trusts_another},
};

FL_SUITE_MAIN("dataset_cache", tests)
