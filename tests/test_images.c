/* Image files against what PIL wrote and reads, scaling against hand-made sums, every kind of
 * damage, and folders of images. */
#include "images.h"

#include <math.h>

#include "format_files.h"
#include "formats/image_file.h"

typedef struct sample {
  const char *name;
  const unsigned char *bytes;
  size_t size;
} sample;

#define SAMPLE(name, array) \
  { name, array, sizeof array }
static const sample samples[] = {
    SAMPLE("a.ppm", pil_ppm),           SAMPLE("a.pgm", pil_pgm),
    SAMPLE("rgb.png", pil_png),         SAMPLE("grey.png", pil_png_grey),
    SAMPLE("alpha.png", pil_png_alpha), SAMPLE("palette.png", pil_png_palette),
    SAMPLE("a.jpg", pil_jpeg),          SAMPLE("progressive.jpeg", pil_jpeg_progressive),
    SAMPLE("grey.jpg", pil_jpeg_grey),
};
enum { PPM, PGM, RGB_PNG, GREY_PNG, ALPHA_PNG, PALETTE_PNG, JPEG, SAMPLES = 9 };

/* The sample's file in a folder; its path is valid until the next call. */
static const char *write_sample(const char *folder, const sample *s) {
  static char path[512];
  write_file(folder, s->name, s->bytes, s->size);
  snprintf(path, sizeof path, "%s/%s", folder, s->name);
  return path;
}

static void read_good(const fl_image_read *want, uint8_t *out) {
  fl_status status = fl_image_read_file(want, out);
  if (status != FEDLANE_OK) printf("\n    %s\n", fedlane_error());
  CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
}

static uint8_t red(int x, int y) { return (uint8_t)(23 * x + 7 * y); }
static uint8_t green(int x, int y) { return (uint8_t)(5 * x + 31 * y + 40); }
static uint8_t blue(int x, int y) { return (uint8_t)(255 - 11 * x - 13 * y); }

static void reads_without_loss(void) {
  static const int exact[] = {PPM, RGB_PNG, ALPHA_PNG};
  const char *folder = fl_test_folder();
  uint8_t x[3 * 35];
  for (int s = 0; s < 3; s++) {
    const char *path = write_sample(folder, &samples[exact[s]]);
    read_good(&(fl_image_read){.path = path, .channels = 3, .height = 5, .width = 7}, x);
    int wrong = 0;
    for (int i = 0; i < 35; i++)
      wrong += x[i] != red(i % 7, i / 7) || x[35 + i] != green(i % 7, i / 7) ||
               x[70 + i] != blue(i % 7, i / 7);
    CU_ASSERT_EQUAL(wrong, 0);
    int height, width;
    CU_ASSERT_EQUAL(fl_image_file_size(path, &height, &width), FEDLANE_OK);
    CU_ASSERT(height == 5 && width == 7);
  }
  const char *path = write_sample(folder, &samples[PALETTE_PNG]);
  read_good(&(fl_image_read){.path = path, .channels = 3, .height = 5, .width = 7}, x);
  for (int i = 0; i < 105; i++) CU_ASSERT_EQUAL(x[i % 3 * 35 + i / 3], pil_palette_pixels[i]);
}

/* Brightness as PIL has it, to within rounding, from grey files and from colour; and grey in all
 * three channels. */
static void reads_brightness(void) {
  static const int grey[] = {PGM, GREY_PNG, PPM, RGB_PNG};
  const char *folder = fl_test_folder();
  uint8_t x[3 * 35];
  for (int s = 0; s < 4; s++) {
    const char *path = write_sample(folder, &samples[grey[s]]);
    read_good(&(fl_image_read){.path = path, .channels = 1, .height = 5, .width = 7}, x);
    for (int i = 0; i < 35; i++) CU_ASSERT(abs(x[i] - pil_grey_pixels[i]) <= (s < 2 ? 0 : 1));
    if (s > 1) continue;
    read_good(&(fl_image_read){.path = path, .channels = 3, .height = 5, .width = 7}, x);
    for (int i = 0; i < 105; i++) CU_ASSERT_EQUAL(x[i], pil_grey_pixels[i % 35]);
  }
}

static void reads_jpeg(void) {
  const char *folder = fl_test_folder();
  uint8_t x[3 * 256];
  for (int s = JPEG; s < SAMPLES; s++) {
    const char *path = write_sample(folder, &samples[s]);
    bool grey = s == SAMPLES - 1;
    read_good(&(fl_image_read){.path = path, .channels = 3, .height = 16, .width = 16}, x);
    for (int i = 0; i < 256; i++) {
      const unsigned char *p = &pil_jpeg_pixels[3 * i];
      double bright = 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
      for (int c = 0; c < 3; c++) CU_ASSERT(fabs(x[c * 256 + i] - (grey ? bright : p[c])) < 6);
    }
  }
  const char *path = write_sample(folder, &samples[JPEG]);
  read_good(&(fl_image_read){.path = path, .channels = 3, .height = 4, .width = 2}, x);
  for (int i = 0; i < 8; i++) { /* decoded at a quarter of the size; means over 4 x 8 pixels */
    CU_ASSERT(abs(x[i] - (i % 2 * 128 + 56)) <= 6);
    CU_ASSERT(abs(x[8 + i] - (i / 2 * 64 + 24)) <= 6);
  }
}

/* Rows that are cut off are not decoded; the others are the same. */
static void cuts_jpeg(void) {
  const char *folder = fl_test_folder();
  uint8_t whole[3 * 256], x[3 * 256];
  for (int s = JPEG; s < SAMPLES; s++) {
    fl_image_read want = {
        .path = write_sample(folder, &samples[s]), .channels = 3, .height = 16, .width = 16};
    read_good(&want, whole);
    for (want.top = 0; want.top < 15; want.top++) {
      want.bottom = want.top * 5 % (16 - want.top);
      want.height = 16 - want.top - want.bottom;
      read_good(&want, x);
      for (int c = 0; c < 3; c++)
        CU_ASSERT_EQUAL(memcmp(x + c * 16 * want.height, whole + c * 256 + 16 * want.top,
                               16 * (size_t)want.height),
                        0);
    }
  }
}

/* Grey values of one row or block to a file. */
static const char *write_grey(const char *folder, int width, int height, const char *values) {
  static char path[512];
  char text[256];
  int n = snprintf(text, sizeof text, "P5 # made here\n%d %d\n255\n", width, height);
  memcpy(text + n, values, (size_t)(width * height));
  write_file(folder, "block.pgm", text, (size_t)(n + width * height));
  snprintf(path, sizeof path, "%s/block.pgm", folder);
  return path;
}

static void scales(void) {
  const char *folder = fl_test_folder();
  uint8_t x[16];
  const char *path = write_grey(folder, 4, 2, "\x00\x14\x28\x3c\x0a\x1e\x32\x46");
  read_good(&(fl_image_read){.path = path, .channels = 1, .height = 1, .width = 2}, x);
  CU_ASSERT(x[0] == 15 && x[1] == 55); /* means of 0 20 10 30 and of 40 60 50 70 */
  read_good(&(fl_image_read){.path = path, .channels = 1, .height = 2, .width = 3}, x);
  CU_ASSERT(x[0] == 5 && x[1] == 30 && x[2] == 55); /* (3*0 + 20)/4, (20 + 40)/2, (40 + 3*60)/4 */
  path = write_grey(folder, 2, 1, "\x00\x64");
  read_good(&(fl_image_read){.path = path, .channels = 1, .height = 1, .width = 4}, x);
  CU_ASSERT(x[0] == 0 && x[1] == 25 && x[2] == 75 && x[3] == 100);
  path = write_grey(folder, 3, 3, "\x01\x02\x03\x04\x05\x06\x07\x08\x09");
  fl_image_read part = {
      .path = path, .channels = 1, .height = 2, .width = 2, .top = 1, .left = 1, .mirror = true};
  read_good(&part, x);
  CU_ASSERT(x[0] == 6 && x[1] == 5 && x[2] == 9 && x[3] == 8);
  part.bottom = 2;
  CU_ASSERT_EQUAL(fl_image_read_file(&part, x), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "leaves nothing"));
}

/* The weights of a result add up to one however many pixels it covers. */
static void scales_far(void) {
  enum { SIDE = 3000 };
  const char *folder = fl_test_folder();
  static unsigned char text[16 + SIDE * 40];
  int n = snprintf((char *)text, 16, "P5 %d 40 255\n", SIDE);
  memset(text + n, 201, SIDE * 40);
  write_file(folder, "wide.pgm", text, (size_t)n + SIDE * 40);
  char *path = fl_path_join(folder, "wide.pgm");
  for (int width = 1; width < 8; width++) {
    uint8_t x[3 * 8];
    read_good(&(fl_image_read){.path = path, .channels = 1, .height = 3, .width = width}, x);
    for (int i = 0; i < 3 * width; i++) CU_ASSERT_EQUAL(x[i], 201);
  }
  free(path);
}

static void reads_deep_samples(void) {
  static const char wide[] = "P5 2 1 1000\n\x03\xe8\x01\xf4", over[] = "P5 1 1 9\n\x0a";
  const char *folder = fl_test_folder();
  char *path = fl_path_join(folder, "deep.pgm");
  uint8_t x[2];
  write_file(folder, "deep.pgm", wide, sizeof wide - 1);
  fl_image_read want = {.path = path, .channels = 1, .height = 1, .width = 2};
  read_good(&want, x);
  CU_ASSERT(x[0] == 255 && x[1] == 128);
  write_file(folder, "deep.pgm", over, sizeof over - 1);
  CU_ASSERT_EQUAL(fl_image_read_file(&want, x), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "sample of 10"));
  free(path);
}

static bool refused(const char *folder, const sample *s, const char *word) {
  uint8_t x[3 * 64];
  fl_image_read want = {.path = write_sample(folder, s), .channels = 3, .height = 8, .width = 8};
  fl_status status = fl_image_read_file(&want, x);
  bool good =
      status == FEDLANE_DATA && strstr(fedlane_error(), want.path) && strstr(fedlane_error(), word);
  if (!good)
    printf("\n    %s of %zu bytes, '%s': %d %s\n", s->name, s->size, word, status, fedlane_error());
  return good;
}

/* Whatever is missing at the end of a file is missed. */
static void refuses_every_truncation(void) {
  const char *folder = fl_test_folder();
  for (int s = 0; s < SAMPLES; s++)
    for (size_t n = 0; n < samples[s].size; n++) {
      sample cut = samples[s];
      cut.size = n;
      CU_ASSERT_FATAL(refused(folder, &cut, ""));
    }
}

static void refuses_what_is_no_image(void) {
  static const unsigned char huge[] = "P6 100000 100000 255\n", none[] = "P5 0 3 255\n",
                             text[] = "P3 1 1 255\n1 2 3\n", most[] = "P5 1 1 70000\n";
  const char *folder = fl_test_folder();
  unsigned char bytes[sizeof pil_jpeg];
  memcpy(bytes, pil_jpeg, sizeof bytes);
  for (size_t i = 0; i + 8 < sizeof bytes; i++) /* sizes behind the frame's marker */
    if (bytes[i] == 0xff && bytes[i + 1] == 0xc0) memset(bytes + i + 5, 0x7f, 4);
  CU_ASSERT(refused(folder, &(sample)SAMPLE("huge.ppm", huge), "100000 x 100000"));
  CU_ASSERT(refused(folder, &(sample)SAMPLE("none.pgm", none), "0 x 3"));
  CU_ASSERT(refused(folder, &(sample)SAMPLE("text.ppm", text), "no PPM"));
  CU_ASSERT(refused(folder, &(sample)SAMPLE("most.pgm", most), "header"));
  CU_ASSERT(refused(folder, &(sample)SAMPLE("huge.jpg", bytes), "32639 x 32639"));
  CU_ASSERT(refused(folder, &(sample)SAMPLE("print.jpg", pil_jpeg_cmyk), "CMYK"));
  CU_ASSERT(refused(folder, &(sample){"empty.png", bytes, 0}, "empty"));
  unsigned char png[sizeof pil_png];
  memcpy(png, pil_png, sizeof png);
  png[19] ^= 1; /* the width, which the checksum covers */
  CU_ASSERT(refused(folder, &(sample)SAMPLE("sum.png", png), "CRC"));
}

/* A scan of the progressive file once more and more, each a pass over the whole image. */
static void refuses_endless_scans(void) {
  enum { ROOM = 1 << 16, TIMES = 201 };
  const unsigned char *from = pil_jpeg_progressive;
  size_t n = sizeof pil_jpeg_progressive, first = 0, end, size = n - 2; /* without the end */
  unsigned char *bytes = malloc(ROOM);
  while (from[first] != 0xff || from[first + 1] != 0xda) first++;
  for (end = first + 2; from[end] != 0xff || from[end + 1] == 0;) end++;
  CU_ASSERT_FATAL(bytes && size + TIMES * (end - first) + 2 < ROOM);
  memcpy(bytes, from, size);
  for (int k = 0; k < TIMES; k++, size += end - first) {
    memcpy(bytes + size, from + first, end - first);
    bytes[size + 1 + ((size_t)from[first + 2] << 8 | from[first + 3])] = 0; /* all bits at once */
  }
  memcpy(bytes + size, from + n - 2, 2);
  sample bad = {"scans.jpg", bytes, size + 2};
  CU_ASSERT(refused(fl_test_folder(), &bad, "more than 200 scans"));
  free(bytes);
}

/* A byte that has changed is refused or read; the sanitizers see what goes astray. */
static void survives_any_byte(void) {
  const char *folder = fl_test_folder();
  int read = 0, refusals = 0;
  for (int s = 0; s < SAMPLES; s++)
    for (size_t i = 0; i < samples[s].size; i++) {
      unsigned char bytes[1024];
      memcpy(bytes, samples[s].bytes, samples[s].size);
      bytes[i] ^= (unsigned char)(1 << i % 8);
      sample bad = {"bad", bytes, samples[s].size};
      uint8_t x[3 * 4];
      fl_image_read want = {
          .path = write_sample(folder, &bad), .channels = 3, .height = 2, .width = 2};
      fl_status status = fl_image_read_file(&want, x);
      CU_ASSERT_FATAL(status == FEDLANE_OK || strstr(fedlane_error(), want.path));
      ++*(status == FEDLANE_OK ? &read : &refusals);
    }
  CU_ASSERT(read > 0 && refusals > 0);
}

/* root/sub/name with a sample's bytes. */
static void put(const char *root, const char *sub, const char *name, const sample *s) {
  char folder[512];
  snprintf(folder, sizeof folder, "%s/%s", root, sub);
  CU_ASSERT_EQUAL_FATAL(fl_make_folder(folder), FEDLANE_OK);
  write_file(folder, name, s->bytes, s->size);
}

static void folder_reads_classes(void) {
  const char *root = fl_test_folder();
  put(root, "dog", "2.png", &samples[RGB_PNG]);
  put(root, "dog", "1.PPM", &samples[PPM]);
  put(root, "cat", "z.pgm", &samples[PGM]);
  put(root, "cat", "notes.txt", &samples[PGM]);
  put(root, "cat", ".hidden.png", &samples[JPEG]);
  fl_dataset d = load_good("image_folder", root, NULL);
  CU_ASSERT(d.n_train == 3 && d.n_test == 0 && d.classes == 2 && d.bytes && !d.client);
  CU_ASSERT(d.image.channels == 3 && d.image.height == 5 && d.image.width == 7);
  CU_ASSERT(d.label[0] == 0 && d.label[1] == 1 && d.label[2] == 1 && d.skipped == 0);
  CU_ASSERT_EQUAL(memcmp((uint8_t *)d.x + 105, (uint8_t *)d.x + 210, 105), 0);
  CU_ASSERT_EQUAL(((uint8_t *)d.x)[0], pil_grey_pixels[0]);
  fl_dataset_close(&d);
  put(root, "dog", "3.jpg", &samples[JPEG]);
  refuse("image_folder", root, NULL, FEDLANE_DATA, "dog/3.jpg: is 16 x 16", "cat/z.pgm is 7 x 5");
  fl_args args = fl_args_of(&find("image_folder")->record);
  fl_args_set(&args, "height", 6);
  refuse("image_folder", root, &args, FEDLANE_USAGE, "height", "width");
  fl_args_set(&args, "width", 6);
  fl_args_set(&args, "channels", 0);
  d = load_good("image_folder", root, &args);
  CU_ASSERT(d.n_train == 4 && d.image.channels == 1 && d.image.height == 6);
  fl_dataset_close(&d);
}

static void folder_reads_clients(void) {
  const char *root = fl_test_folder();
  put(root, "train/ann/cat", "1.png", &samples[RGB_PNG]);
  put(root, "train/bob/dog", "1.png", &samples[RGB_PNG]);
  put(root, "train/bob/cat", "1.png", &samples[GREY_PNG]);
  put(root, "test/eve/dog", "1.png", &samples[PPM]);
  fl_args args = fl_args_of(&find("image_folder")->record);
  fl_args_set(&args, "clients", 1);
  fl_dataset d = load_good("image_folder", root, &args);
  CU_ASSERT(d.n_train == 3 && d.n_test == 1 && d.n_client == 2 && d.classes == 2);
  CU_ASSERT(d.client[0] == 0 && d.client[1] == 1 && d.client[2] == 1 && d.label[3] == 1);
  fl_dataset_close(&d);
  put(root, "test/eve/fox", "1.png", &samples[PPM]);
  refuse("image_folder", root, &args, FEDLANE_DATA, "eve/fox", "no training image");
  remove_file(root, "test/eve/fox/1.png");
  remove_file(root, "test/eve/dog/1.png");
  refuse("image_folder", root, &args, FEDLANE_DATA, "eve/dog", "has no .ppm");
  char folder[512];
  snprintf(folder, sizeof folder, "%s/train/amy", root);
  CU_ASSERT_EQUAL(fl_make_folder(folder), FEDLANE_OK);
  refuse("image_folder", root, &args, FEDLANE_DATA, "train/amy", "empty client");
}

/* Of several bad files the first in the order of names is told of, whichever thread met one first;
 * or all of them are left out, counted and named. */
static void bad_files_are_named(void) {
  const char *root = fl_test_folder();
  char name[32];
  for (int i = 0; i < 40; i++) {
    sample cut = samples[i % 2 ? RGB_PNG : PPM];
    if (i == 13 || i == 31 || i == 39) cut.size -= 20;
    snprintf(name, sizeof name, "%02d.png", i);
    put(root, i < 38 ? "a" : "b", name, &cut);
  }
  const fl_format *format = find("image_folder");
  fl_args args = fl_args_of(&format->record);
  fl_dataset d;
  for (int threads = 1; threads <= 4; threads++) {
    fl_load how = {.path = root, .threads = threads};
    CU_ASSERT_EQUAL(format->load(&how, args.at, &d), FEDLANE_DATA);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "a/13.png"));
    how.skip_bad = true;
    CU_ASSERT_EQUAL_FATAL(format->load(&how, args.at, &d), FEDLANE_OK);
    CU_ASSERT(d.n_train == 37 && d.skipped == 3 && d.label[36] == 1 && d.label[35] == 0);
    const char *notice = d.notice ? d.notice : "";
    CU_ASSERT(strstr(notice, "a/13.png") && strstr(notice, "a/31.png"));
    CU_ASSERT_PTR_NOT_NULL(strstr(notice, "b/39.png"));
    int wrong = 0;
    for (int e = 1; e < 37; e++) wrong += memcmp(d.x, (uint8_t *)d.x + 105 * e, 105) != 0;
    CU_ASSERT_EQUAL(wrong, 0);
    fl_dataset_close(&d);
  }
}

/* A class of which every training image is bad. */
static void a_class_may_vanish(void) {
  const char *root = fl_test_folder();
  sample cut = samples[PPM];
  cut.size -= 20;
  put(root, "train/a", "1.ppm", &samples[PPM]);
  put(root, "train/b", "1.ppm", &cut);
  put(root, "test/b", "1.ppm", &samples[PPM]);
  const fl_format *format = find("image_folder");
  fl_args args = fl_args_of(&format->record);
  fl_dataset d;
  fl_load how = {.path = root, .threads = 1, .skip_bad = true};
  CU_ASSERT_EQUAL_FATAL(format->load(&how, args.at, &d), FEDLANE_OK);
  CU_ASSERT(d.n_train == 1 && d.n_test == 0 && d.skipped == 2 && d.classes == 2);
  CU_ASSERT_PTR_NOT_NULL(strstr(d.notice, "no training example"));
  fl_dataset_close(&d);
}

static const fl_test tests[] = {
    {"reads without loss", reads_without_loss},
    {"reads brightness", reads_brightness},
    {"reads JPEG", reads_jpeg},
    {"cuts JPEG", cuts_jpeg},
    {"scales", scales},
    {"scales far", scales_far},
    {"reads deep samples", reads_deep_samples},
    {"refuses every truncation", refuses_every_truncation},
    {"refuses what is no image", refuses_what_is_no_image},
    {"refuses endless scans", refuses_endless_scans},
    {"survives any byte", survives_any_byte},
    {"folder reads classes", folder_reads_classes},
    {"folder reads clients", folder_reads_clients},
    {"bad files are named", bad_files_are_named},
    {"a class may vanish", a_class_may_vanish},
};

FL_SUITE_MAIN("images", tests)
