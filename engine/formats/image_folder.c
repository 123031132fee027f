/* A folder of images a class, as most image sets can be downloaded or exported. */
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "folder.h"
#include "formats.h"
#include "pictures.h"

typedef struct image_folder_args {
  int64_t height, width;
  int channels; /* index into 1,3 */
  int clients;  /* NONE or FOLDERS */
} image_folder_args;

enum { NONE, FOLDERS };

/* The names of all classes of the training images, ascending. */
typedef struct reading {
  fl_pictures pictures;
  bool by_client;
  fl_folder classes;
} reading;

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds names that are not there yet. Takes the names of `more` over. */
static fl_status join(fl_folder *all, fl_folder *more) {
  char **grown = realloc(all->name, (size_t)(all->n + more->n + 1) * sizeof *grown);
  if (!grown) return fl_fail(FEDLANE_MEMORY, "no memory for the names of classes");
  all->name = grown;
  int known = all->n;
  for (int i = 0; i < more->n; i++) {
    if (known > 0 && bsearch(&more->name[i], grown, (size_t)known, sizeof *grown, by_name))
      continue;
    grown[all->n++] = more->name[i];
    more->name[i] = NULL;
  }
  qsort(grown, (size_t)all->n, sizeof *grown, by_name);
  return FEDLANE_OK;
}

/* Calls `visit` for each folder that holds folders of classes: the root itself, or each client's.
 */
typedef fl_status (*visitor)(reading *r, const char *folder, int32_t client, bool test);
static fl_status each_client(reading *r, const char *root, bool test, visitor visit) {
  fl_folder clients = {0};
  fl_status status;
  char *folder = NULL;
  if (!r->by_client) return visit(r, root, -1, test);
  FL_GO(fl_folder_list(root, true, &clients));
  for (int i = 0; i < clients.n; i++) {
    free(folder);
    folder = fl_path_join(root, clients.name[i]);
    if (!folder) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for the paths in %s", root));
    FL_GO(visit(r, folder, i, test));
  }
done:
  free(folder);
  fl_folder_close(&clients);
  return status;
}

static fl_status find_classes(reading *r, const char *folder, int32_t client, bool test) {
  (void)client, (void)test;
  fl_folder classes;
  FL_TRY(fl_folder_list(folder, true, &classes));
  fl_status status = join(&r->classes, &classes);
  fl_folder_close(&classes);
  return status;
}

/* All images of one folder of a class. *n: how many. */
static fl_status add_images(reading *r, const char *folder, const fl_picture *like, int64_t *n) {
  fl_folder files;
  fl_status status;
  char *path = NULL;
  FL_TRY(fl_folder_list(folder, false, &files));
  *n = 0;
  for (int i = 0; i < files.n; i++) {
    if (!fl_image_file_named(files.name[i])) continue;
    free(path);
    path = fl_path_join(folder, files.name[i]);
    if (!path) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for the paths in %s", folder));
    fl_picture p = *like;
    p.path = path;
    FL_GO(fl_pictures_add(&r->pictures, &p));
    ++*n;
  }
  status = FEDLANE_OK;
  if (*n == 0)
    status = fl_pictures_forgive(
        &r->pictures, fl_fail(FEDLANE_DATA, "%s: has no .ppm, .pgm, .png, .jpg or .jpeg", folder));
done:
  free(path);
  fl_folder_close(&files);
  return status;
}

static fl_status add_class(reading *r, const char *folder, const char *name, const fl_picture *like,
                           int64_t *n) {
  fl_status status;
  char *path = fl_path_join(folder, name);
  fl_picture p = *like;
  char **known = bsearch(&name, r->classes.name, (size_t)r->classes.n, sizeof *known, by_name);
  *n = 0;
  if (!path) return fl_fail(FEDLANE_MEMORY, "no memory for the paths in %s", folder);
  if (known) {
    p.label = (int32_t)(known - r->classes.name);
    status = add_images(r, path, &p, n);
  } else {
    status = fl_pictures_forgive(
        &r->pictures, fl_fail(FEDLANE_DATA, "%s: is a class that no training image has", path));
  }
  free(path);
  return status;
}

/* All images of the classes of one client, or of all. */
static fl_status add_classes(reading *r, const char *folder, int32_t client, bool test) {
  fl_folder classes;
  fl_status status = FEDLANE_OK;
  fl_picture like = {.test = test, .client = test ? -1 : client};
  int64_t n = 0;
  FL_TRY(fl_folder_list(folder, true, &classes));
  for (int i = 0; i < classes.n; i++) {
    int64_t more;
    FL_GO(add_class(r, folder, classes.name[i], &like, &more));
    n += more;
  }
  if (n == 0)
    status = fl_pictures_forgive(
        &r->pictures, fl_fail(FEDLANE_DATA, "%s: %s no image in a folder of a class", folder,
                              client >= 0 ? "is an empty client: it has" : "has"));
done:
  fl_folder_close(&classes);
  return status;
}

/* root/train and root/test where the first is there, else root is all training. */
static fl_status list_all(reading *r, const char *root, const char *train, const char *test) {
  bool split = fl_folder_exists(train);
  const char *first = split ? train : root;
  FL_TRY(each_client(r, first, false, find_classes));
  if (r->classes.n == 0)
    return fl_fail(FEDLANE_DATA, "%s: has no folder of a class%s", first,
                   r->by_client ? " in a folder of a client" : "");
  if (r->classes.n > FL_CLASSES_MAX)
    return fl_fail(FEDLANE_DATA, "%s: has %d classes; at most %d are allowed", first, r->classes.n,
                   FL_CLASSES_MAX);
  FL_TRY(each_client(r, first, false, add_classes));
  if (split && fl_folder_exists(test)) FL_TRY(each_client(r, test, true, add_classes));
  return FEDLANE_OK;
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  const image_folder_args *a = args;

  fl_status status;
  memset(out, 0, sizeof *out);
  reading r = {.pictures = {.how = how,
                            .out = out,
                            .channels = a->channels ? 3 : 1,
                            .height = (int)a->height,
                            .width = (int)a->width},
               .by_client = a->clients == FOLDERS};
  char *train = fl_path_join(how->path, "train"), *test = fl_path_join(how->path, "test");
  if (!train || !test) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for the path %s", how->path));
  if ((a->height == 0) != (a->width == 0))
    FL_GO(fl_fail(FEDLANE_USAGE,
                  "data.height is %lld and data.width is %lld; give both, or neither for images "
                  "that are all of one size",
                  (long long)a->height, (long long)a->width));
  FL_GO(list_all(&r, how->path, train, test));
  out->classes = r.classes.n;
  FL_GO(fl_pictures_read(&r.pictures));
done:
  free(train);
  free(test);
  fl_folder_close(&r.classes);
  fl_pictures_close(&r.pictures);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

static const fl_param params[] = {
    {.name = "height",
     .type = FL_INT,
     .offset = offsetof(image_folder_args, height),
     .lo = 0,
     .hi = 10000,
     .unit = "pixels",
     .help = "rows to scale images to; 0 with width 0: all images have one size"},
    {.name = "width",
     .type = FL_INT,
     .offset = offsetof(image_folder_args, width),
     .lo = 0,
     .hi = 10000,
     .unit = "pixels",
     .help = "columns to scale images to"},
    {.name = "channels",
     .type = FL_CHOICE,
     .offset = offsetof(image_folder_args, channels),
     .dflt = 1,
     .text = "1,3",
     .help = "1: brightness; 3: red, green and blue"},
    {.name = "clients",
     .type = FL_CHOICE,
     .offset = offsetof(image_folder_args, clients),
     .dflt = NONE,
     .text = "none,folder",
     .help = "none: CLASS/IMAGE; folder: CLIENT/CLASS/IMAGE, a natural client a folder"},
};

const fl_format fl_image_folder = {
    .record = {.name = "image_folder",
               .help = "a folder of PPM, PGM, PNG or JPEG images a class, also in train and test",
               .args_size = sizeof(image_folder_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
    .seedless = true,
};
