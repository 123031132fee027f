/* One file of a set of the format tff. */
#include <stdio.h>
#include <stdlib.h>

#include "files.h"
#include "formats/tff.h"

fl_status fl_tff_open(const char *folder, const char *name, int64_t most, fl_tff_part *p) {
  p->path = fl_path_join(folder, name);
  if (!p->path) return fl_fail(FEDLANE_MEMORY, "no memory for the name of a file");
  FL_TRY(fl_h5_open(p->path, &p->file));
  FL_TRY(fl_h5_list(p->file, "examples", &p->client));
  while (most > 0 && p->client.n > most) free(p->client.at[--p->client.n]);
  return FEDLANE_OK;
}

void fl_tff_close(fl_tff_part *p) {
  fl_h5_names_free(&p->client);
  fl_h5_close(&p->file);
  free(p->path);
}

fl_tff_name fl_tff_array(const fl_tff_part *p, int64_t client, const char *array) {
  fl_tff_name n;
  snprintf(n.at, sizeof n.at, "examples/%s/%s", p->client.at[client], array);
  return n;
}
