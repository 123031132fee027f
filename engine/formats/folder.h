/* What lies in a folder, sorted by name, so that nothing depends on the file system's order. */
#ifndef FL_FOLDER_H
#define FL_FOLDER_H

#include "status.h"

typedef struct fl_folder {
  int n;
  char **name; /* ascending by byte; hidden ones (.name) are left out */
} fl_folder;

/* The subfolders (folders: true) or files of a folder. Links count as what they point to.
 * Errors: IO, MEMORY. */
fl_status fl_folder_list(const char *path, bool folders, fl_folder *out);
void fl_folder_close(fl_folder *folder); /* accepts a zeroed one */
bool fl_folder_exists(const char *path);

#endif
