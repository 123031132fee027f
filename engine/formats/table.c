#include "formats/table.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "files.h"

enum { FIRST_ROWS = 256 };

fl_status fl_table_add(fl_table *t, int32_t client, float **row) {
  if (t->n == t->room) {
    int64_t room = t->room ? 2 * t->room : FIRST_ROWS;
    float *value = realloc(t->value, (size_t)(room * t->columns) * sizeof *value);
    if (value) t->value = value;
    int32_t *clients = value ? realloc(t->client, (size_t)room * sizeof *clients) : NULL;
    if (!clients) return fl_fail(FEDLANE_MEMORY, "no memory for %lld rows", (long long)room);
    t->client = clients;
    t->room = room;
  }
  t->client[t->n] = client;
  *row = t->value + t->n++ * t->columns;
  return FEDLANE_OK;
}

void fl_table_free(fl_table *t) {
  free(t->value);
  free(t->client);
  *t = (fl_table){0};
}

fl_status fl_dataset_alloc_clients(fl_dataset *d, int32_t n_client) {
  d->client = malloc((size_t)d->n_train * sizeof *d->client);
  d->n_client = n_client;
  if (d->client) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no memory for the clients of %lld examples",
                 (long long)d->n_train);
}

fl_status fl_pass_over(const fl_load *how, fl_status failed, int64_t *skipped) {
  if (failed != FEDLANE_DATA || !how->skip_bad) return failed;
  ++*skipped;
  return FEDLANE_OK;
}

static fl_status add_path(const char *folder, const char *name, fl_file_list *list) {
  if (list->n == list->room) {
    int room = list->room ? 2 * list->room : 16;
    char **path = realloc(list->path, (size_t)room * sizeof *path);
    if (!path) return fl_fail(FEDLANE_MEMORY, "no memory for the files of %s", folder);
    list->path = path;
    list->room = room;
  }
  char *path = name ? fl_path_join(folder, name) : strdup(folder);
  if (!path) return fl_fail(FEDLANE_MEMORY, "no memory for the files of %s", folder);
  list->path[list->n++] = path;
  return FEDLANE_OK;
}

/* Whether a name matches one of the patterns; words is scratch that holds a copy of them. */
static bool matches(const char *name, const char *patterns, char *words) {
  char *rest = strcpy(words, patterns);
  for (char *word; (word = strsep(&rest, ","));)
    if (fnmatch(word + strspn(word, " "), name, FNM_PERIOD) == 0) return true;
  return false;
}

static fl_status add_matching(DIR *folder, const char *path, const char *patterns,
                              fl_file_list *list) {
  char *words = malloc(strlen(patterns) + 1);
  fl_status status = FEDLANE_OK;
  if (!words) return fl_fail(FEDLANE_MEMORY, "no memory for the files of %s", path);
  for (struct dirent *entry; (entry = readdir(folder));)
    if (matches(entry->d_name, patterns, words)) FL_GO(add_path(path, entry->d_name, list));
done:
  free(words);
  return status;
}

static int by_bytes(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

fl_status fl_file_list_open(const char *path, const char *patterns, fl_file_list *out) {
  fl_status status;
  struct stat info;
  DIR *folder = NULL;
  *out = (fl_file_list){0};
  if (stat(path, &info) != 0)
    return fl_fail(FEDLANE_IO, "cannot read %s: %s", path, strerror(errno));
  if (!S_ISDIR(info.st_mode)) {
    FL_GO(add_path(path, NULL, out));
    goto done;
  }
  folder = opendir(path);
  if (!folder) {
    status = fl_fail(FEDLANE_IO, "cannot read %s: %s", path, strerror(errno));
    goto done;
  }
  FL_GO(add_matching(folder, path, patterns, out));
  if (out->n == 0)
    status = fl_fail(FEDLANE_DATA, "no file of the folder %s matches '%s'", path, patterns);
  else
    qsort(out->path, (size_t)out->n, sizeof *out->path, by_bytes);
done:
  if (folder) closedir(folder);
  if (status != FEDLANE_OK) fl_file_list_close(out);
  return status;
}

void fl_file_list_close(fl_file_list *list) {
  for (int i = 0; i < list->n; i++) free(list->path[i]);
  free(list->path);
  *list = (fl_file_list){0};
}

fl_status fl_file_beside(const char *path, const char *name, char **out) {
  struct stat info;
  char *folder = strdup(path), *slash = strrchr(path, '/');
  bool is_folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
  *out = NULL;
  if (folder && !is_folder) folder[slash ? slash - path + 1 : 0] = '\0';
  if (folder) *out = fl_path_join(folder, name);
  free(folder);
  return *out ? FEDLANE_OK : fl_fail(FEDLANE_MEMORY, "no memory for the path of %s", name);
}
