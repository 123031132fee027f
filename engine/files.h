/* Small file helpers shared by formats, checkpoints and sinks. */
#ifndef FL_FILES_H
#define FL_FILES_H

#include <stdio.h>

#include "status.h"

/* Makes a folder and its parents. Errors: IO with path and reason. */
fl_status fl_make_folder(const char *path);
bool fl_file_exists(const char *path);
/* `folder`/`name` in a new string (free it); NULL when memory is exhausted. */
char *fl_path_join(const char *folder, const char *name);

/* A file written aside: path.part until fl_aside_commit syncs it and renames it to path.
 * fl_aside_abandon removes it; both close *file and null it. Errors: IO (also a full disk). */
typedef struct fl_aside {
  FILE *file;
  char *path, *part;
} fl_aside;
fl_status fl_aside_open(const char *path, fl_aside *out);
fl_status fl_aside_commit(fl_aside *aside);
void fl_aside_abandon(fl_aside *aside);

/* Reads a whole file, plain or gzip (told by its first bytes), into a new buffer (free it).
 * Errors: IO (cannot open or read), DATA (damaged or truncated gzip), MEMORY. */
fl_status fl_read_all(const char *path, unsigned char **data, int64_t *size);

#endif
