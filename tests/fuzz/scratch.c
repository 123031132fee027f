#include "scratch.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64];

static void path_of(const char *name, char path[512]) {
  snprintf(path, 512, "%s/%.400s", folder, name);
}

static void remove_scratch(void) {
  char path[512];
  DIR *list = opendir(folder);
  for (struct dirent *entry; list && (entry = readdir(list)) != NULL;) {
    path_of(entry->d_name, path);
    unlink(path);
  }
  if (list) closedir(list);
  rmdir(folder);
}

const char *fl_scratch(void) {
  if (folder[0]) return folder;
  snprintf(folder, sizeof folder, "%s/fedlane-fuzz-XXXXXX",
           access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  if (!mkdtemp(folder)) abort();
  atexit(remove_scratch);
  return folder;
}

void fl_scratch_write(const char *name, const uint8_t *data, size_t size) {
  char path[512];
  fl_scratch();
  path_of(name, path);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(data, 1, size, file) != size || fclose(file)) abort();
}
