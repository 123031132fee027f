/* The German Traffic Sign Recognition Benchmark as it is downloaded: a folder a class with its
 * list, GT-<class>.csv, and images TTTTT_FFFFF.ppm: frame F of track T, which is one physical sign
 * passed by a car. Frames of a track are nearly alike, so a track is never divided. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "folder.h"
#include "formats.h"
#include "lines.h"
#include "pictures.h"
#include "rng.h"

typedef struct gtsrb_args {
  int64_t size, vehicles;
  bool region;
  int clients; /* TRACK or VEHICLE */
  double test_share;
} gtsrb_args;

enum { TRACK, VEHICLE };
enum { CLASSES_MOST = 1000, FIELDS = 8 };
enum { FOR_TEST = 1, FOR_VEHICLES }; /* the layer word of the keys below */

/* One physical sign. */
typedef struct track {
  uint32_t word; /* random */
  int32_t label, number, vehicle;
  bool test;
} track;

typedef struct reading {
  const gtsrb_args *args;
  fl_pictures pictures;
  char *train, *test; /* the folders of images; test: NULL when it is not there */
  char *test_list;    /* of the test images */
  int n_list;         /* lists that pictures point to */
  char *list[CLASSES_MOST];
  int32_t n_track;
  track *tracks; /* by class and track */
  uint32_t seed;
} reading;

/* base/a/b in a new string when it is there, else NULL. */
static char *existing(const char *base, const char *inner, const char *name) {
  char *folder = fl_path_join(base, inner), *path = folder ? fl_path_join(folder, name) : NULL;
  free(folder);
  if (path && fl_file_exists(path)) return path;
  free(path);
  return NULL;
}

/* The data may lie at the path, or in the folders that the archives make. */
static fl_status find_folders(const char *path, reading *r) {
  static const char *const bases[] = {"GTSRB", ""};
  for (int i = 0; i < FL_COUNT(bases) && !r->train; i++)
    r->train = existing(path, bases[i], "Final_Training/Images");
  if (!r->train) r->train = strdup(path);
  for (int i = 0; i < FL_COUNT(bases) && !r->test_list; i++) {
    r->test = existing(path, bases[i], "Final_Test/Images");
    if (r->test) r->test_list = existing(r->test, "", "GT-final_test.csv");
    if (r->test && !r->test_list) r->test_list = existing(path, "", "GT-final_test.csv");
    if (r->test_list) break;
    free(r->test);
    r->test = NULL;
  }
  if (r->train) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no memory for the path %s", path);
}

/* Turns a row of a list into a picture. label: what the folder says, or -1. */
static fl_status read_row(const reading *r, const fl_lines *lines, int n, char **field,
                          int32_t label, fl_picture *p) {
  static const char *const name[] = {"",       "Width",  "Height", "Roi.X1",
                                     "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"};
  int64_t v[FIELDS] = {0};
  if (n != FIELDS)
    return fl_fail(FEDLANE_DATA, "%s: row %lld has %d fields; %d are due", lines->path,
                   (long long)lines->row, n, FIELDS);
  for (int i = 1; i < FIELDS; i++) {
    int64_t most = i == 3 || i == 5 ? v[1] : i == 4 || i == 6 ? v[2] : i == 7 ? 999 : 100000;
    FL_TRY(fl_lines_whole(lines, name[i], field[i], 0, most, &v[i]));
  }
  if (v[3] >= v[5] || v[4] >= v[6])
    return fl_fail(FEDLANE_DATA, "%s: row %lld: the region %lld,%lld .. %lld,%lld is empty",
                   lines->path, (long long)lines->row, (long long)v[3], (long long)v[4],
                   (long long)v[5], (long long)v[6]);
  if (label >= 0 && v[7] != label)
    return fl_fail(FEDLANE_DATA, "%s: row %lld: ClassId is %lld in the folder of class %d",
                   lines->path, (long long)lines->row, (long long)v[7], label);
  p->label = (int32_t)v[7];
  p->full_width = (int)v[1];
  p->full_height = (int)v[2];
  if (!r->args->region) return FEDLANE_OK;
  p->left = (int)v[3];
  p->top = (int)v[4];
  p->right = (int)(v[1] - v[5]);
  p->bottom = (int)(v[2] - v[6]);
  return FEDLANE_OK;
}

/* The track in an image's name; -1 when it has none. */
static int32_t track_of(const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  char *end;
  long number = strtol(name, &end, 10);
  return end > name && *end == '_' && number >= 0 && number < 1000000 ? (int32_t)number : -1;
}

static fl_status add_row(reading *r, const char *folder, const fl_lines *lines, int n, char **field,
                         const fl_picture *like) {
  fl_picture p = *like;
  char *path = NULL;
  fl_status status;
  FL_GO(read_row(r, lines, n, field, like->label, &p));
  path = p.path = fl_path_join(folder, field[0]);
  if (!path) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for the paths in %s", folder));
  p.row = lines->row;
  p.client = p.test ? -1 : track_of(path);
  if (!p.test && p.client < 0)
    FL_GO(fl_fail(FEDLANE_DATA, "%s: row %lld: '%.80s' does not begin with a track and '_'",
                  lines->path, (long long)lines->row, field[0]));
  FL_GO(fl_pictures_add(&r->pictures, &p));
done:
  free(path);
  return fl_pictures_forgive(&r->pictures, status);
}

/* Adds all rows of a list, which the reading takes over. */
static fl_status add_list(reading *r, const char *folder, char *list, const fl_picture *about) {
  fl_status status;
  fl_lines lines = {0};
  fl_picture like = *about;
  char *field[FIELDS];
  like.list = r->list[r->n_list++] = list;
  FL_GO(fl_lines_open(list, &lines));
  int n = fl_lines_next(&lines, ';', FIELDS, field);
  if (n != FIELDS || strcmp(field[0], "Filename") != 0 || strcmp(field[7], "ClassId") != 0)
    FL_GO(fl_fail(FEDLANE_DATA,
                  "%s: row 1 must be Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId",
                  list));
  int64_t before = r->pictures.n;
  while ((n = fl_lines_next(&lines, ';', FIELDS, field)) > 0)
    FL_GO(add_row(r, folder, &lines, n, field, &like));
  if (r->pictures.n == before) status = fl_fail(FEDLANE_DATA, "%s: lists no image", list);
done:
  fl_lines_close(&lines);
  return fl_pictures_forgive(&r->pictures, status);
}

static fl_status add_class(reading *r, const char *name) {
  char file[64], *end;
  long label = strtol(name, &end, 10);
  if (*end || label < 0 || r->n_list >= CLASSES_MOST - 1 || label >= CLASSES_MOST)
    return fl_fail(FEDLANE_DATA, "%s: the folder '%.80s' is no number of a class, 00000 .. %05d",
                   r->train, name, CLASSES_MOST - 1);
  char *folder = fl_path_join(r->train, name);
  snprintf(file, sizeof file, "GT-%.40s.csv", name);
  char *list = folder ? fl_path_join(folder, file) : NULL;
  fl_picture like = {.label = (int32_t)label};
  fl_status status = list ? add_list(r, folder, list, &like)
                          : fl_fail(FEDLANE_MEMORY, "no memory for the paths in %s", r->train);
  free(folder);
  return status;
}

static int by_track(const void *a, const void *b) {
  const fl_picture *x = a, *y = b;
  if (x->test != y->test) return x->test - y->test;
  if (!x->test && x->label != y->label) return x->label - y->label;
  return strcmp(x->path, y->path);
}

/* Brings the pictures into an order of their own, and numbers their tracks. */
static fl_status number_tracks(reading *r) {
  fl_pictures *set = &r->pictures;
  r->tracks = calloc((size_t)set->n + 1, sizeof *r->tracks);
  if (!r->tracks) return fl_fail(FEDLANE_MEMORY, "no memory for the tracks of the signs");
  if (set->n > 0) qsort(set->at, (size_t)set->n, sizeof *set->at, by_track);
  for (int64_t i = 0; i < set->n; i++) {
    fl_picture *p = &set->at[i];
    const track *last = &r->tracks[r->n_track > 0 ? r->n_track - 1 : 0];
    if (p->test) break;
    if (r->n_track == 0 || last->label != p->label || last->number != p->client)
      r->tracks[r->n_track++] = (track){.label = p->label, .number = p->client};
    p->client = r->n_track - 1;
  }
  return FEDLANE_OK;
}

static void draw(const reading *r, uint32_t use) {
  for (int32_t t = 0; t < r->n_track; t++) {
    fl_key key = {.seed = r->seed, .purpose = FL_FOR_DATA, .client = (uint32_t)t, .layer = use};
    r->tracks[t].word = fl_rng_block(&key, 0).v[0];
  }
}

/* Whether track a comes before b in a random order. */
static bool before(const reading *r, int32_t a, int32_t b) {
  uint32_t x = r->tracks[a].word, y = r->tracks[b].word;
  return x < y || (x == y && a < b);
}

/* Of each class the share of its tracks that is nearest to the one asked for, never all. */
static void hold_out(const reading *r) {
  draw(r, FOR_TEST);
  for (int32_t first = 0, end; first < r->n_track; first = end) {
    for (end = first; end < r->n_track && r->tracks[end].label == r->tracks[first].label;) end++;
    int32_t most = (int32_t)lround(r->args->test_share * (end - first));
    if (most > end - first - 1) most = end - first - 1;
    for (int32_t t = first; t < end; t++) {
      int32_t earlier = 0;
      for (int32_t other = first; other < end; other++) earlier += before(r, other, t);
      r->tracks[t].test = earlier < most;
    }
  }
}

/* Deals the training tracks, in a random order, to vehicles in turn. */
static fl_status deal(const reading *r) {
  int32_t n = 0, vehicles = (int32_t)r->args->vehicles;
  int32_t *order = malloc((size_t)(r->n_track + 1) * sizeof *order);
  if (!order) return fl_fail(FEDLANE_MEMORY, "no memory for the tracks of the signs");
  draw(r, FOR_VEHICLES);
  for (int32_t t = 0; t < r->n_track; t++) {
    if (r->tracks[t].test) continue;
    int32_t at = n++;
    for (; at > 0 && before(r, t, order[at - 1]); at--) order[at] = order[at - 1];
    order[at] = t;
  }
  for (int32_t i = 0; i < n; i++) r->tracks[order[i]].vehicle = i % vehicles;
  free(order);
  if (vehicles <= n) return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE, "data.vehicles is %d, but there are only %d signs to train with",
                 vehicles, n);
}

static fl_status assign(reading *r) {
  FL_TRY(number_tracks(r));
  if (!r->test_list) hold_out(r);
  if (r->args->clients == VEHICLE) FL_TRY(deal(r));
  for (int64_t i = 0; i < r->pictures.n && !r->pictures.at[i].test; i++) {
    fl_picture *p = &r->pictures.at[i];
    const track *t = &r->tracks[p->client];
    p->test = t->test;
    if (r->args->clients == VEHICLE) p->client = t->vehicle;
    if (p->test) p->client = -1;
  }
  return FEDLANE_OK;
}

static fl_status list_all(reading *r) {
  fl_folder classes;
  fl_status status;
  fl_picture like = {.label = -1, .client = -1, .test = true};
  FL_TRY(fl_folder_list(r->train, true, &classes));
  if (classes.n == 0)
    FL_GO(fl_fail(FEDLANE_DATA, "%s: has no folder of a class, such as 00000", r->train));
  for (int i = 0; i < classes.n; i++) FL_GO(add_class(r, classes.name[i]));
  if (r->test_list) {
    char *list = strdup(r->test_list);
    FL_GO(list ? add_list(r, r->test, list, &like)
               : fl_fail(FEDLANE_MEMORY, "no memory for the path %s", r->test_list));
  }
done:
  fl_folder_close(&classes);
  return status;
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  fl_status status;
  const gtsrb_args *a = args;
  memset(out, 0, sizeof *out);
  int size = (int)a->size;
  reading r = {.args = a,
               .seed = how->seed,
               .pictures = {.how = how, .out = out, .channels = 3, .height = size, .width = size}};
  FL_GO(find_folders(how->path, &r));
  FL_GO(list_all(&r));
  for (int64_t i = 0; i < r.pictures.n; i++)
    if (r.pictures.at[i].label >= out->classes) out->classes = r.pictures.at[i].label + 1;
  FL_GO(assign(&r));
  FL_GO(fl_pictures_read(&r.pictures));
done:
  fl_pictures_close(&r.pictures);
  for (int i = 0; i < r.n_list; i++) free(r.list[i]);
  free(r.tracks);
  free(r.train);
  free(r.test);
  free(r.test_list);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

static const fl_param params[] = {
    {.name = "size",
     .type = FL_INT,
     .offset = offsetof(gtsrb_args, size),
     .dflt = 32,
     .lo = 1,
     .hi = 1024,
     .unit = "pixels",
     .help = "rows and columns that all images are scaled to"},
    {.name = "region",
     .type = FL_BOOL,
     .offset = offsetof(gtsrb_args, region),
     .dflt = 1,
     .help = "cut the image down to the sign, as the list gives its place"},
    {.name = "clients",
     .type = FL_CHOICE,
     .offset = offsetof(gtsrb_args, clients),
     .dflt = TRACK,
     .text = "track,vehicle",
     .help = "who is a natural client: one physical sign, or a vehicle that has passed several"},
    {.name = "vehicles",
     .type = FL_INT,
     .offset = offsetof(gtsrb_args, vehicles),
     .dflt = 40,
     .lo = 1,
     .hi = 1000000,
     .unit = "vehicles",
     .help = "that the signs are dealt to at random"},
    {.name = "test_share",
     .type = FL_REAL,
     .offset = offsetof(gtsrb_args, test_share),
     .dflt = 0.2,
     .lo = 0,
     .hi = 1,
     .flags = FL_HI_OPEN,
     .help = "of the signs of each class, held out whole, where there are no official test images"},
};

const fl_format fl_gtsrb = {
    .record = {.name = "gtsrb",
               .help = "German traffic signs as downloaded: class folders with GT-*.csv",
               .paper = "Stallkamp et al., The German Traffic Sign Recognition Benchmark, IJCNN "
                        "2011, doi:10.1109/IJCNN.2011.6033395",
               .args_size = sizeof(gtsrb_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
};
