/* Logs of Udacity's driving simulator: driving_log.csv beside IMG, for one recording or for several
 * in folders. Neighbouring frames are nearly alike, so a recording is divided into segments of
 * consecutive rows, and whole segments are held out, with a gap on both sides. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "files.h"
#include "folder.h"
#include "formats.h"
#include "lines.h"
#include "pictures.h"

typedef struct driving_args {
  int64_t height, width, crop_top, crop_bottom, stride, segment, gap, smooth, before, after;
  double correction, test_share;
  const char *targets;
  int cameras, clients;
  bool mirror;
} driving_args;

enum { CENTER, ALL_CAMERAS };
enum { BY_SEGMENT, BY_RECORDING };
enum { LEFT = 1, CAMERAS = 3, VALUES = 4, FIELDS = CAMERAS + VALUES, RECORDINGS_MOST = 10000 };

static const char *const column[FIELDS] = {"center",   "left",  "right", "steering",
                                           "throttle", "brake", "speed"};

/* A row: the base names of its images, and its values. */
typedef struct drive_row {
  const char *image[CAMERAS];
  double value[VALUES];
  int64_t row;
} drive_row;

typedef struct recording {
  char *folder, *list;
  fl_lines lines; /* names point into its text */
  int64_t n, room;
  drive_row *rows;
  bool has[CAMERAS]; /* whether any image of the camera is there */
} recording;

typedef struct reading {
  const driving_args *args;
  fl_pictures pictures;
  int n_target, target[VALUES];
  int n_recording;
  recording *recordings;
  int32_t segments; /* dealt so far */
} reading;

static fl_status read_targets(reading *r) {
  char text[80], *rest = NULL;
  snprintf(text, sizeof text, "%s", r->args->targets);
  for (char *word = strtok_r(text, ", ", &rest); word; word = strtok_r(NULL, ", ", &rest)) {
    int v = 0;
    while (v < VALUES && strcmp(word, column[CAMERAS + v]) != 0) v++;
    if (v == VALUES || r->n_target == VALUES)
      return fl_fail(FEDLANE_USAGE,
                     "data.targets is '%.60s'; it must be a list of steering, throttle, brake and "
                     "speed",
                     r->args->targets);
    r->target[r->n_target++] = v;
  }
  if (r->n_target > 0) return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE, "data.targets is empty; it must name steering at least");
}

/* What follows the last slash of either kind. */
static const char *base_name(const char *path) {
  const char *base = path;
  for (; *path; path++)
    if (*path == '/' || *path == '\\') base = path + 1;
  return base;
}

static fl_status read_row(const fl_lines *lines, int n, char **field, drive_row *out) {
  if (n != FIELDS)
    return fl_fail(FEDLANE_DATA,
                   "%s: row %lld has %d fields; center, left, right, steering, throttle, brake and "
                   "speed are due",
                   lines->path, (long long)lines->row, n);
  for (int c = 0; c < CAMERAS; c++) out->image[c] = base_name(field[c]);
  for (int v = 0; v < VALUES; v++)
    FL_TRY(fl_lines_number(lines, column[CAMERAS + v], field[CAMERAS + v], &out->value[v]));
  if (fabs(out->value[0]) > 1)
    return fl_fail(FEDLANE_DATA, "%s: row %lld: steering is %g; it must lie in -1 .. 1",
                   lines->path, (long long)lines->row, out->value[0]);
  if (!*out->image[0])
    return fl_fail(FEDLANE_DATA, "%s: row %lld names no image", lines->path, (long long)lines->row);
  out->row = lines->row;
  return FEDLANE_OK;
}

static fl_status add_row(recording *c, const drive_row *row) {
  if (c->n == c->room) {
    c->room = c->room ? 2 * c->room : 1024;
    drive_row *grown = realloc(c->rows, (size_t)c->room * sizeof *grown);
    if (!grown) return fl_fail(FEDLANE_MEMORY, "no memory for the rows of %s", c->list);
    c->rows = grown;
  }
  c->rows[c->n++] = *row;
  return FEDLANE_OK;
}

static fl_status read_list(const reading *r, recording *c) {
  char *field[FIELDS];
  drive_row row;
  FL_TRY(fl_lines_open(c->list, &c->lines));
  for (int n, first = 1; (n = fl_lines_next(&c->lines, ',', FIELDS, field)) > 0; first = 0) {
    if (first && n == FIELDS && strcasecmp(field[CAMERAS], column[CAMERAS]) == 0) continue;
    fl_status status = read_row(&c->lines, n, field, &row);
    FL_TRY(status == FEDLANE_OK ? add_row(c, &row) : fl_pictures_forgive(&r->pictures, status));
  }
  if (c->n > 0) return FEDLANE_OK;
  return fl_pictures_forgive(&r->pictures, fl_fail(FEDLANE_DATA, "%s: has no row", c->list));
}

/* The image's path in a new string: in IMG, or beside the list when it is there. */
static char *image_path(const recording *c, const char *name) {
  char *folder = fl_path_join(c->folder, "IMG"), *path = NULL;
  if (folder) path = fl_path_join(folder, name);
  free(folder);
  if (!path || fl_file_exists(path)) return path;
  char *beside = fl_path_join(c->folder, name);
  bool there = beside && fl_file_exists(beside);
  free(there ? path : beside);
  return there ? beside : path;
}

/* Side cameras of which no image is there are left out; one that has only some is not. */
static fl_status find_cameras(const reading *r, recording *c) {
  c->has[0] = true;
  for (int side = LEFT; side < CAMERAS && r->args->cameras == ALL_CAMERAS; side++) {
    for (int64_t i = 0; i < c->n && !c->has[side]; i++) {
      char *path = image_path(c, c->rows[i].image[side]);
      if (!path) return fl_fail(FEDLANE_MEMORY, "no memory for the paths in %s", c->folder);
      c->has[side] = *c->rows[i].image[side] && fl_file_exists(path);
      free(path);
    }
    if (!c->has[side])
      FL_TRY(fl_dataset_note(r->pictures.out,
                             "%s: there is no image of the %s camera; the others are used",
                             c->folder, column[side]));
  }
  return FEDLANE_OK;
}

static fl_status open_recording(reading *r, const char *folder) {
  recording *grown = realloc(r->recordings, (size_t)(r->n_recording + 1) * sizeof *grown);
  if (!grown) return fl_fail(FEDLANE_MEMORY, "no memory for a recording");
  r->recordings = grown;
  recording *c = &grown[r->n_recording++];
  *c = (recording){.folder = strdup(folder), .list = fl_path_join(folder, "driving_log.csv")};
  if (!c->folder || !c->list) return fl_fail(FEDLANE_MEMORY, "no memory for the path %s", folder);
  FL_TRY(read_list(r, c));
  return find_cameras(r, c);
}

/* One recording at the path, or one in each folder that has a list. */
static fl_status open_recordings(reading *r, const char *path) {
  fl_folder folders = {0};
  fl_status status = FEDLANE_OK;
  char *folder = NULL, *list = fl_path_join(path, "driving_log.csv");
  if (list && fl_file_exists(list)) {
    FL_GO(open_recording(r, path));
    goto done;
  }
  FL_GO(fl_folder_list(path, true, &folders));
  for (int i = 0; i < folders.n && r->n_recording < RECORDINGS_MOST; i++) {
    free(folder);
    free(list);
    folder = fl_path_join(path, folders.name[i]);
    list = folder ? fl_path_join(folder, "driving_log.csv") : NULL;
    if (!list) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for the paths in %s", path));
    if (fl_file_exists(list)) FL_GO(open_recording(r, folder));
  }
  if (r->n_recording == 0)
    status = fl_fail(FEDLANE_DATA, "%s: neither it nor a folder in it has a driving_log.csv", path);
done:
  free(folder);
  free(list);
  fl_folder_close(&folders);
  return status;
}

/* The image of row i, and those of the rows before and after it, in the order of time. */
static fl_status add_frames(reading *r, const recording *c, int64_t i, int camera,
                            const fl_picture *like) {
  fl_picture p = *like;
  char *path[1 + FL_PICTURE_MORE] = {NULL};
  fl_status status = FEDLANE_OK;
  for (int k = 0; k <= r->pictures.stacked && status == FEDLANE_OK; k++) {
    path[k] = image_path(c, c->rows[i - r->args->before + k].image[camera]);
    if (!path[k]) status = fl_fail(FEDLANE_MEMORY, "no memory for the paths in %s", c->folder);
  }
  p.path = path[0];
  memcpy(p.more, path + 1, sizeof p.more);
  if (status == FEDLANE_OK) status = fl_pictures_add(&r->pictures, &p);
  for (int k = 0; k <= r->pictures.stacked; k++) free(path[k]);
  return status;
}

/* Row i of a camera, as it is or mirrored. row: its values. */
static fl_status add_image(reading *r, const recording *c, int64_t i, const drive_row *row,
                           int camera, bool mirror, const fl_picture *like) {
  fl_picture p = *like;
  double turn = camera == 0 ? 0 : camera == LEFT ? r->args->correction : -r->args->correction;
  p.row = row->row;
  p.mirror = mirror;
  for (int t = 0; t < r->n_target; t++) {
    double value = row->value[r->target[t]];
    if (r->target[t] == 0) value = mirror ? -(value + turn) : value + turn;
    p.target[t] = (float)value;
  }
  return add_frames(r, c, i, camera, &p);
}

/* Training takes all cameras that there are, and mirrored images; a test only the driver's view. */
static fl_status add_images(reading *r, const recording *c, int64_t i, const drive_row *row,
                            const fl_picture *like) {
  int cameras = like->test ? 1 : CAMERAS;
  for (int camera = 0; camera < cameras; camera++)
    for (int mirror = 0; c->has[camera] && mirror <= (r->args->mirror && !like->test); mirror++)
      FL_TRY(add_image(r, c, i, row, camera, mirror, like));
  return FEDLANE_OK;
}

/* Test segments are spread evenly over all segments of all recordings. */
static bool is_test(const reading *r, int64_t segment) {
  double share = r->args->test_share;
  return floor((double)(segment + 1) * share + 0.5) > floor((double)segment * share + 0.5);
}

/* Row i with the mean values of the rows around it, none of them outside first .. end - 1. */
static drive_row smoothed(const recording *c, int64_t i, int64_t first, int64_t end,
                          int64_t window) {
  drive_row row = c->rows[i];
  int64_t from = i - window / 2 > first ? i - window / 2 : first;
  int64_t to = i + window / 2 + 1 < end ? i + window / 2 + 1 : end;
  for (int v = 0; v < VALUES; v++) {
    row.value[v] = 0;
    for (int64_t k = from; k < to; k++) row.value[v] += c->rows[k].value[v];
    row.value[v] /= (double)(to - from);
  }
  return row;
}

/* Rows of a recording to segments; a short end belongs to the last one. */
static fl_status deal(reading *r, int number) {
  const driving_args *a = r->args;
  const recording *c = &r->recordings[number];
  int64_t segments = (c->n + a->segment / 2) / a->segment;
  if (segments < 1) segments = c->n > 0;
  for (int64_t i = 0; i < c->n; i += a->stride) {
    int64_t s = i / a->segment < segments ? i / a->segment : segments - 1, global = r->segments + s;
    bool test = is_test(r, global);
    int64_t from_first = i - s * a->segment, to_next = (s + 1) * a->segment - i;
    int64_t end = s + 1 < segments ? (s + 1) * a->segment : c->n;
    if (from_first < a->before || i + a->after >= end) continue;
    bool near = (s > 0 && is_test(r, global - 1) && from_first < a->gap) ||
                (s + 1 < segments && is_test(r, global + 1) && to_next <= a->gap);
    if (!test && near) continue;
    fl_picture like = {.top = (int)a->crop_top,
                       .bottom = (int)a->crop_bottom,
                       .test = test,
                       .client = test                         ? -1
                                 : a->clients == BY_RECORDING ? number
                                                              : (int32_t)global,
                       .list = c->list};
    drive_row row = smoothed(c, i, s * a->segment, end, a->smooth);
    FL_TRY(add_images(r, c, i, &row, &like));
  }
  r->segments += (int32_t)segments;
  return FEDLANE_OK;
}

static void close_all(reading *r) {
  fl_pictures_close(&r->pictures);
  for (int i = 0; i < r->n_recording; i++) {
    recording *c = &r->recordings[i];
    fl_lines_close(&c->lines);
    free(c->folder);
    free(c->list);
    free(c->rows);
  }
  free(r->recordings);
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  const driving_args *a = args;

  fl_status status;
  memset(out, 0, sizeof *out);
  reading r = {
      .args = a,
      .pictures = {
          .how = how, .out = out, .channels = 3, .height = (int)a->height, .width = (int)a->width}};
  FL_GO(read_targets(&r));
  if (2 * a->gap >= a->segment)
    FL_GO(fl_fail(FEDLANE_USAGE,
                  "data.gap is %lld; two gaps must be shorter than a segment, which is %lld",
                  (long long)a->gap, (long long)a->segment));
  if (a->smooth % 2 == 0)
    FL_GO(fl_fail(FEDLANE_USAGE, "data.smooth is %lld; it must be odd", (long long)a->smooth));
  r.pictures.stacked = (int)(a->before + a->after);
  if (r.pictures.stacked > FL_PICTURE_MORE)
    FL_GO(fl_fail(FEDLANE_USAGE, "data.before and data.after are %d together; they may be %d",
                  r.pictures.stacked, FL_PICTURE_MORE));
  out->n_target = r.n_target;
  FL_GO(open_recordings(&r, how->path));
  for (int i = 0; i < r.n_recording; i++) FL_GO(deal(&r, i));
  FL_GO(fl_pictures_read(&r.pictures));
done:
  close_all(&r);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

#define WHOLE(field, value, low, high, of, text)                                              \
  {                                                                                           \
    .name = #field, .type = FL_INT, .offset = offsetof(driving_args, field), .dflt = (value), \
    .lo = (low), .hi = (high), .unit = (of), .help = (text)                                   \
  }

static const fl_param params[] = {
    WHOLE(height, 66, 1, 4096, "pixels", "rows to scale images to"),
    WHOLE(width, 200, 1, 4096, "pixels", "columns to scale images to"),
    WHOLE(crop_top, 60, 0, 10000, "pixels", "rows of sky to cut off the image first"),
    WHOLE(crop_bottom, 25, 0, 10000, "pixels", "rows of bonnet to cut off the image first"),
    WHOLE(stride, 1, 1, 1000, "rows", "take every so manieth row"),
    WHOLE(segment, 80, 1, 1e9, "rows", "consecutive rows that stay together"),
    WHOLE(gap, 10, 0, 1e9, "rows", "left out of training on both sides of a test segment"),
    WHOLE(smooth, 1, 1, 10001, "rows",
          "targets are means over so many rows around (an odd number), none of another segment: "
          "keyboards steer in pulses"),
    WHOLE(before, 0, 0, FL_PICTURE_MORE, "rows",
          "further channels are the images of so many rows before; rows without them in their "
          "segment are left out"),
    WHOLE(after, 0, 0, FL_PICTURE_MORE, "rows", "as before, of rows after"),
    {.name = "test_share",
     .type = FL_REAL,
     .offset = offsetof(driving_args, test_share),
     .dflt = 0.2,
     .lo = 0,
     .hi = 1,
     .flags = FL_HI_OPEN,
     .help = "of the segments, spread evenly, that are held out whole"},
    {.name = "clients",
     .type = FL_CHOICE,
     .offset = offsetof(driving_args, clients),
     .dflt = BY_SEGMENT,
     .text = "segment,recording",
     .help = "who is a natural client: a trip of one segment, or a whole recording"},
    {.name = "cameras",
     .type = FL_CHOICE,
     .offset = offsetof(driving_args, cameras),
     .dflt = CENTER,
     .text = "center,all",
     .help = "all: train with the left and right cameras too, where a recording has them"},
    {.name = "correction",
     .type = FL_REAL,
     .offset = offsetof(driving_args, correction),
     .dflt = 0.2,
     .lo = 0,
     .hi = 1,
     .help = "steering added for the left camera and taken off for the right one"},
    {.name = "mirror",
     .type = FL_BOOL,
     .offset = offsetof(driving_args, mirror),
     .help = "train with each image mirrored too, and its steering negated"},
    {.name = "targets",
     .type = FL_TEXT,
     .offset = offsetof(driving_args, targets),
     .text = "steering",
     .help = "what is predicted, such as steering,speed; also throttle and brake"},
};

const fl_format fl_driving_log = {
    .record = {.name = "driving_log",
               .help =
                   "Udacity's driving simulator: driving_log.csv beside IMG, or folders of such",
               .paper = "Bojarski et al., End to End Learning for Self-Driving Cars, "
                        "arXiv:1604.07316",
               .args_size = sizeof(driving_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
    .seedless = true,
};
