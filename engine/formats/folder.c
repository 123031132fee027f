#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "files.h"

bool fl_folder_exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Takes a name over when it is of the kind that is wanted. */
static fl_status add(const char *path, const struct dirent *entry, bool folders, fl_folder *out) {
  bool folder = entry->d_type == DT_DIR;
  if (entry->d_type != DT_DIR && entry->d_type != DT_REG) {
    char *whole = fl_path_join(path, entry->d_name);
    if (!whole) return fl_fail(FEDLANE_MEMORY, "no memory for the names in %s", path);
    folder = fl_folder_exists(whole);
    free(whole);
  }
  if (folder != folders) return FEDLANE_OK;
  if ((out->n & (out->n - 1)) == 0) { /* room doubles at each power of two */
    char **grown = realloc(out->name, (size_t)(out->n ? 2 * out->n : 1) * sizeof *grown);
    if (!grown) return fl_fail(FEDLANE_MEMORY, "no memory for the names in %s", path);
    out->name = grown;
  }
  out->name[out->n] = strdup(entry->d_name);
  if (!out->name[out->n]) return fl_fail(FEDLANE_MEMORY, "no memory for the names in %s", path);
  out->n++;
  return FEDLANE_OK;
}

fl_status fl_folder_list(const char *path, bool folders, fl_folder *out) {
  fl_status status = FEDLANE_OK;
  memset(out, 0, sizeof *out);
  DIR *list = opendir(path);
  if (!list) return fl_fail(FEDLANE_IO, "cannot read the folder %s: %s", path, strerror(errno));
  errno = 0;
  for (struct dirent *entry; (entry = readdir(list)) != NULL; errno = 0)
    if (entry->d_name[0] != '.') FL_GO(add(path, entry, folders, out));
  if (errno) status = fl_fail(FEDLANE_IO, "cannot read the folder %s: %s", path, strerror(errno));
  if (out->n > 0) qsort(out->name, (size_t)out->n, sizeof *out->name, by_name);
done:
  closedir(list);
  if (status != FEDLANE_OK) fl_folder_close(out);
  return status;
}

void fl_folder_close(fl_folder *folder) {
  for (int i = 0; i < folder->n; i++) free(folder->name[i]);
  free(folder->name);
  memset(folder, 0, sizeof *folder);
}
