/* `fedlane bench decode`: JPEGs of a folder, decoded by plain calls of libjpeg and by fedlane. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "bench.h"
#include "files.h"
#include "formats/folder.h"
#include "formats/image_file.h"

enum { TRIES = 5, SMALL_HEIGHT = 66, SMALL_WIDTH = 200 };

/* The work: files, decoded whole or scaled. */
typedef struct work {
  int n, threads, height, width;
  char **path;
} work;

/* As a program would do that wants nothing but the pixels; it ends at damage. */
static bool decode_plainly(const char *path, unsigned char *out) {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  unsigned char *bytes = NULL;
  int64_t size;
  if (fl_read_all(path, &bytes, &size) != FEDLANE_OK) return false;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, bytes, (unsigned long)size);
  jpeg_read_header(&jpeg, TRUE);
  jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&jpeg);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = out + (size_t)jpeg.output_scanline * jpeg.output_width * 3;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  jpeg_destroy_decompress(&jpeg);
  free(bytes);
  return true;
}

/* small: cut and scaled as driving_log does it with the simulator's 320 x 160. */
static bool decode_ours(const work *w, const char *path, bool small, fl_image_memory *memory,
                        unsigned char *out) {
  fl_image_read want = {.path = path,
                        .channels = 3,
                        .memory = memory,
                        .top = small ? w->height * 60 / 160 : 0,
                        .bottom = small ? w->height * 25 / 160 : 0,
                        .height = small ? SMALL_HEIGHT : w->height,
                        .width = small ? SMALL_WIDTH : w->width};
  return fl_image_read_file(&want, out) == FEDLANE_OK;
}

enum { PLAIN, WHOLE, SMALL, WAYS };

/* Seconds for all files; below 0 when one could not be read. */
static double decode_all(const work *w, int way) {
  double start = fl_seconds();
  int bad = 0;
#pragma omp parallel num_threads(w->threads) reduction(+ : bad)
  {
    size_t small = 3 * SMALL_HEIGHT * SMALL_WIDTH;
    unsigned char *out = malloc(3 * (size_t)w->height * (size_t)w->width + small);
    fl_image_memory memory = {0};
#pragma omp for schedule(dynamic, 4)
    for (int i = 0; i < w->n; i++)
      bad += !out || !(way == PLAIN ? decode_plainly(w->path[i], out)
                                    : decode_ours(w, w->path[i], way == SMALL, &memory, out));
    free(memory.at);
    free(out);
  }
  return bad ? -1 : fl_seconds() - start;
}

/* The JPEGs of a folder, as large as the first one. */
static fl_status find_files(const char *folder, work *w) {
  fl_folder files;
  fl_status status;
  FL_TRY(fl_folder_list(folder, false, &files));
  w->path = calloc((size_t)files.n + 1, sizeof *w->path);
  if (!w->path) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for the names in %s", folder));
  for (int i = 0; i < files.n; i++) {
    int height, width;
    char *path = fl_path_join(folder, files.name[i]);
    if (!path) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for the names in %s", folder));
    w->path[w->n++] = path;
    FL_GO(fl_image_file_size(path, &height, &width));
    if (w->n == 1) w->height = height, w->width = width;
    if (height != w->height || width != w->width)
      FL_GO(fl_fail(FEDLANE_DATA, "%s: has another size than %s", path, w->path[0]));
  }
  status = FEDLANE_OK;
  if (w->n == 0) status = fl_fail(FEDLANE_DATA, "%s: has no file", folder);
done:
  fl_folder_close(&files);
  return status;
}

static fl_status measure(const work *w) {
  static const char *const name[WAYS] = {"libjpeg alone, whole", "fedlane, whole",
                                         "fedlane, road, 66x200"};
  double best[WAYS] = {0};
  for (int t = 0; t < TRIES; t++) /* in turn, so that all meet the same machine */
    for (int way = 0; way < WAYS; way++) {
      double seconds = decode_all(w, way);
      if (seconds < 0) return fl_fail(FEDLANE_DATA, "%s and others: one is damaged", w->path[0]);
      if (t == 0 || seconds < best[way]) best[way] = seconds;
    }
  printf("%d JPEGs of %d x %d, %d threads, best of %d\n", w->n, w->width, w->height, w->threads,
         TRIES);
  for (int way = 0; way < WAYS; way++)
    printf("  %-22s %8.0f images/s  %5.2f of libjpeg alone\n", name[way], w->n / best[way],
           best[PLAIN] / best[way]);
  return FEDLANE_OK;
}

fl_status fl_bench_decode(const fl_bench_options *o) {
  static const char key[] = "data.path=";
  work w = {.threads = o->threads > 0 ? o->threads : omp_get_max_threads()};
  if (o->settings.n != 1 || strncmp(o->settings.at[0], key, strlen(key)) != 0)
    return fl_fail(FEDLANE_USAGE, "bench decode takes data.path=FOLDER, a folder of JPEGs");
  fl_status status = find_files(o->settings.at[0] + strlen(key), &w);
  if (status == FEDLANE_OK) status = measure(&w);
  for (int i = 0; i < w.n; i++) free(w.path[i]);
  free(w.path);
  return status;
}
