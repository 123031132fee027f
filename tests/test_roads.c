/* Traffic signs and driving logs: small copies of their layouts, and the real data where they are.
 */
#include "format_files.h"
#include "images.h"

/* root/path with a text. */
static void put(const char *root, const char *path, const void *bytes, size_t n) {
  char folder[512];
  snprintf(folder, sizeof folder, "%s/%s", root, path);
  *strrchr(folder, '/') = '\0';
  CU_ASSERT_EQUAL_FATAL(fl_make_folder(folder), FEDLANE_OK);
  write_file(root, path, bytes, n);
}

static void put_text(const char *root, const char *path, const char *text) {
  put(root, path, text, strlen(text));
}

#define HEADER "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
static const char images[] = "GTSRB/Final_Training/Images";

static void put_sign(const char *root, int label, int track, int frame) {
  char path[128];
  snprintf(path, sizeof path, "%s/%05d/%05d_%05d.ppm", images, label, track, frame);
  put(root, path, pil_ppm, sizeof pil_ppm);
}

static void put_list(const char *root, int label, const char *rows) {
  char path[128], text[1024];
  snprintf(path, sizeof path, "%s/%05d/GT-%05d.csv", images, label, label);
  snprintf(text, sizeof text, "%s%s", HEADER, rows);
  put_text(root, path, text);
}

/* Two classes: tracks 0 (two frames), 1 and 7 of class 0; track 0 of class 1. */
static const char *signs(void) {
  const char *root = fl_test_folder();
  put_sign(root, 0, 1, 3);
  put_sign(root, 0, 0, 2);
  put_sign(root, 0, 0, 11);
  put_sign(root, 0, 7, 0);
  put_sign(root, 1, 0, 5);
  put_list(root, 0,
           "00001_00003.ppm;7;5;1;1;3;4;0\r\n00000_00011.ppm;7;5;0;0;7;5;0\r\n"
           "00000_00002.ppm;7;5;0;0;7;5;0\r\n\r\n00007_00000.ppm;7;5;0;0;7;5;0\r\n");
  put_list(root, 1, "00000_00005.ppm;7;5;0;0;7;5;1\r\n");
  return root;
}

static fl_args sign_args(double size, double share) {
  fl_args args = fl_args_of(&find("gtsrb")->record);
  fl_args_set(&args, "size", size);
  fl_args_set(&args, "test_share", share);
  return args;
}

static void signs_are_clients(void) {
  static const int32_t label[5] = {0, 0, 0, 0, 1}, client[5] = {0, 0, 1, 2, 3};
  const char *root = signs();
  fl_args args = sign_args(2, 0);
  fl_dataset d = load_good("gtsrb", root, &args);
  CU_ASSERT(d.n_train == 5 && d.n_test == 0 && d.classes == 2 && d.n_client == 4);
  CU_ASSERT(memcmp(d.label, label, sizeof label) == 0);
  CU_ASSERT(memcmp(d.client, client, sizeof client) == 0);
  const uint8_t *x = (uint8_t *)d.x + 2 * 12; /* the region 1,1 .. 3,4 of track 1 */
  CU_ASSERT(abs(x[0] - 33) <= 1 && abs(x[1] - 56) <= 1);
  fl_dataset_close(&d);
  fl_args_set(&args, "region", 0);
  d = load_good("gtsrb", root, &args);
  CU_ASSERT_EQUAL(memcmp(d.x, (uint8_t *)d.x + 2 * 12, 12), 0);
  fl_dataset_close(&d);
}

static void signs_are_held_out_whole(void) {
  const char *root = signs();
  fl_args args = sign_args(4, 0.67);
  fl_dataset d = load_good("gtsrb", root, &args);
  CU_ASSERT(d.n_train + d.n_test == 5 && d.n_client == 2 && d.classes == 2); /* a track a class */
  for (int64_t e = 0; e < d.n_test; e++) CU_ASSERT_EQUAL(d.label[d.n_train + e], 0);
  fl_dataset_close(&d);
  put_text(root, "GTSRB/Final_Test/Images/GT-final_test.csv", HEADER "00000.ppm;7;5;0;0;7;5;1\n");
  put(root, "GTSRB/Final_Test/Images/00000.ppm", pil_ppm, sizeof pil_ppm);
  d = load_good("gtsrb", root, &args);
  CU_ASSERT(d.n_train == 5 && d.n_test == 1 && d.label[5] == 1);
  fl_dataset_close(&d);
}

static void signs_are_dealt_to_vehicles(void) {
  const char *root = signs();
  fl_args args = sign_args(4, 0);
  fl_args_set(&args, "clients", 1);
  fl_args_set(&args, "vehicles", 2);
  fl_dataset d = load_good("gtsrb", root, &args);
  int tracks[2] = {0};
  CU_ASSERT(d.n_client == 2 && d.client[0] == d.client[1]);
  for (int e = 1; e < 5; e++) tracks[d.client[e]]++;
  CU_ASSERT(tracks[0] == 2 && tracks[1] == 2);
  fl_dataset_close(&d);
  fl_args_set(&args, "vehicles", 5);
  refuse("gtsrb", root, &args, FEDLANE_USAGE, "vehicles is 5", "4 signs");
}

static void refuses_bad_signs(void) {
  static const struct {
    const char *rows, *word, *other;
  } cases[] = {
      {"00000_00005.ppm;7;5;0;0;7;5\n", "row 2", "7 fields"},
      {"00000_00005.ppm;7;5;0;0;7;5;0\n", "row 2: ClassId is 0", "class 1"},
      {"00000_00005.ppm;7;5;0;0;8;5;1\n", "Roi.X2 is '8'", "0 .. 7"},
      {"00000_00005.ppm;7;5;3;0;3;5;1\n", "row 2", "empty"},
      {"00000_00005.ppm;7;5;0;0;7;nan;1\n", "Roi.Y2", "'nan'"},
      {"00000_00005.ppm;7;6;0;0;7;6;1\n", "is 7 x 5", "says in row 2 7 x 6"},
      {"00000_00005.ppm;7;5;0;0;7;5;1\n00000_00006.ppm;7;5;0;0;7;5;1\n", "row 3",
       "00000_00006.ppm: No such"},
      {"sign.ppm;7;5;0;0;7;5;1\n", "row 2", "track"},
      {"", "GT-00001.csv", "no image"},
  };
  const char *root = signs();
  fl_args args = sign_args(4, 0);
  for (int i = 0; i < FL_COUNT(cases); i++) {
    bool missing = strstr(cases[i].other, "No such");
    put_list(root, 1, cases[i].rows);
    refuse("gtsrb", root, &args, missing ? FEDLANE_IO : FEDLANE_DATA, cases[i].word,
           cases[i].other);
  }
  const fl_format *format = find("gtsrb");
  fl_dataset d;
  put_list(root, 1, "x.ppm;7;5;0;0;7;5;1\n00000_00005.ppm;7;5;0;0;7;5;1\ny;7\n");
  CU_ASSERT_EQUAL_FATAL(
      format->load(&(fl_load){.path = root, .threads = 2, .skip_bad = true}, args.at, &d),
      FEDLANE_OK);
  CU_ASSERT(d.n_train == 5 && d.skipped == 2 && strstr(d.notice, "row 2") &&
            strstr(d.notice, "row 4"));
  fl_dataset_close(&d);
  put_sign(root, 3, 0, 0);
  put_list(root, 3, "00000_00000.ppm;7;5;0;0;7;5;3\n");
  put_list(root, 1, "00000_00005.ppm;7;5;0;0;7;5;1\n");
  refuse("gtsrb", root, &args, FEDLANE_DATA, "class 2", "no training example");
}

/* n rows of a log as the simulator writes it on several systems. */
static const char *drive(int n, const char *head, const char *format) {
  const char *root = fl_test_folder();
  static char text[20000];
  size_t used = (size_t)snprintf(text, sizeof text, "%s", head);
  for (int i = 0; i < n; i++) {
    char name[32];
    snprintf(name, sizeof name, "IMG/c%d.jpg", i);
    put(root, name, pil_jpeg, sizeof pil_jpeg);
    used += (size_t)snprintf(text + used, sizeof text - used, format, i, i, i, 0.01 * i);
  }
  put_text(root, "driving_log.csv", text);
  return root;
}

static const char plain[] =
    "/home/a/IMG/c%d.jpg,/home/a/IMG/l%d.jpg,/home/a/IMG/r%d.jpg,%g,1,0,9\n";

static fl_args drive_args(double segment, double gap, double share) {
  fl_args args = fl_args_of(&find("driving_log")->record);
  fl_args_set(&args, "crop_top", 4);
  fl_args_set(&args, "crop_bottom", 2);
  fl_args_set(&args, "height", 5);
  fl_args_set(&args, "width", 8);
  fl_args_set(&args, "segment", segment);
  fl_args_set(&args, "gap", gap);
  fl_args_set(&args, "test_share", share);
  return args;
}

static void reads_logs_of_every_kind(void) {
  static const struct {
    const char *head, *format;
  } kinds[] = {
      {"", plain},
      {"center,left,right,steering,throttle,brake,speed\n",
       "IMG/c%d.jpg, IMG/l%d.jpg, IMG/r%d.jpg, %g, 1, 0, 9\r\n"},
      {"", "C:\\me\\IMG\\c%d.jpg,C:\\me\\IMG\\l%d.jpg,C:\\me\\IMG\\r%d.jpg,%.6e,1,0,9\n"},
  };
  fl_args args = drive_args(4, 0, 0);
  fl_args_text(&args, "targets", "speed, steering");
  for (int k = 0; k < FL_COUNT(kinds); k++) {
    fl_dataset d = load_good("driving_log", drive(9, kinds[k].head, kinds[k].format), &args);
    CU_ASSERT(d.n_train == 9 && d.n_test == 0 && d.n_target == 2 && d.classes == 0 && !d.label);
    CU_ASSERT(d.image.channels == 3 && d.image.height == 5 && d.image.width == 8 && d.bytes);
    for (int e = 0; e < 9; e++) {
      CU_ASSERT(d.target[2 * e] == 9 && d.target[2 * e + 1] == (float)(0.01 * e));
      CU_ASSERT_EQUAL(d.client[e], e < 4 ? 0 : 1); /* a short end belongs to the last */
    }
    const uint8_t *x = d.x; /* red 16x in pairs; green 16y of two rows each from row 4 on */
    CU_ASSERT(abs(x[7] - 232) <= 6 && abs(x[40] - 72) <= 6 && abs(x[40 + 32] - 200) <= 6);
    fl_dataset_close(&d);
  }
}

/* Segments 0 .. 4 of 4 rows; the middle one is the test, and one row on both sides is left out. */
static void holds_out_segments(void) {
  fl_args args = drive_args(4, 1, 0.2);
  fl_dataset d = load_good("driving_log", drive(20, "", plain), &args);
  CU_ASSERT(d.n_train == 14 && d.n_test == 4 && d.n_client == 4);
  CU_ASSERT(d.target[6] == 0.06f && d.target[7] == 0.13f && d.client[6] == 1 && d.client[7] == 2);
  for (int e = 0; e < 4; e++) CU_ASSERT_EQUAL(d.target[14 + e], (float)(0.01 * (8 + e)));
  fl_dataset_close(&d);
  fl_args_set(&args, "stride", 2);
  d = load_good("driving_log", drive(20, "", plain), &args);
  CU_ASSERT(d.n_train == 7 && d.n_test == 2 && d.target[1] == 0.02f);
  fl_dataset_close(&d);
  fl_args_set(&args, "gap", 2);
  refuse("driving_log", drive(20, "", plain), &args, FEDLANE_USAGE, "gap is 2", "is 4");
}

/* Means of at most three rows, of fewer at the ends of a segment: none looks into the next one. */
static void smooths_within_a_segment(void) {
  static const float due[] = {0.005f, 0.01f, 0.02f, 0.025f, 0.045f, 0.05f, 0.06f, 0.065f};
  fl_args args = drive_args(4, 0, 0);
  fl_args_set(&args, "smooth", 3);
  fl_dataset d = load_good("driving_log", drive(8, "", plain), &args);
  CU_ASSERT_EQUAL_FATAL(d.n_train, 8);
  for (int e = 0; e < 8; e++) CU_ASSERT_DOUBLE_EQUAL(d.target[e], due[e], 1e-7);
  fl_dataset_close(&d);
  fl_args_set(&args, "smooth", 2);
  refuse("driving_log", drive(8, "", plain), &args, FEDLANE_USAGE, "smooth is 2", "odd");
}

/* One grey pixel a frame, 10 i in frame i. */
static const char *dyed_drive(int n) {
  const char *root = drive(n, "", "c%d.ppm,l%d.ppm,r%d.ppm,%g,1,0,9\n");
  for (int i = 0; i < n; i++) {
    char name[32];
    snprintf(name, sizeof name, "IMG/c%d.ppm", i);
    char pixel[] = "P6 1 1 255\n...";
    memset(pixel + 11, 10 * i, 3);
    put(root, name, pixel, 14);
  }
  return root;
}

/* Each example has the images of its row and of the rows around it, all of one segment. */
static void stacks_neighbouring_images(void) {
  const char *root = dyed_drive(8);
  fl_args args = drive_args(4, 0, 0);
  fl_args_set(&args, "crop_top", 0);
  fl_args_set(&args, "crop_bottom", 0);
  fl_args_set(&args, "height", 1);
  fl_args_set(&args, "width", 1);
  fl_args_set(&args, "before", 1);
  fl_args_set(&args, "after", 1);
  fl_args_set(&args, "mirror", 1);
  fl_dataset d = load_good("driving_log", root, &args);
  CU_ASSERT_FATAL(d.n_train == 8 && d.image.channels == 9);
  const uint8_t *x = d.x;
  for (int e = 0; e < 8; e++) {
    int row = e / 4 * 4 + 1 + e / 2 % 2; /* 1, 2, 5 and 6, each mirrored too */
    CU_ASSERT_EQUAL(d.target[e], (float)((e % 2 ? -0.01 : 0.01) * row));
    for (int k = 0; k < 3; k++) CU_ASSERT_EQUAL(x[9 * e + 3 * k], 10 * (row - 1 + k));
  }
  fl_dataset_close(&d);
  remove_file(root, "IMG/c7.ppm");
  refuse("driving_log", root, &args, FEDLANE_IO, "row 7", "c7.ppm");
  fl_args_set(&args, "after", 3);
  refuse("driving_log", root, &args, FEDLANE_USAGE, "4 together", "may be 3");
}

static void takes_side_cameras(void) {
  const char *root = drive(5, "", plain);
  fl_args args = drive_args(5, 0, 0);
  fl_args_set(&args, "cameras", 1);
  fl_dataset d = load_good("driving_log", root, &args);
  CU_ASSERT(d.n_train == 5 && d.notice && strstr(d.notice, "right camera"));
  fl_dataset_close(&d);
  for (int i = 0; i < 5; i++) {
    char name[32];
    snprintf(name, sizeof name, "IMG/l%d.jpg", i);
    put(root, name, pil_jpeg, sizeof pil_jpeg);
  }
  fl_args_set(&args, "mirror", 1);
  d = load_good("driving_log", root, &args);
  const uint8_t *x = d.x;
  CU_ASSERT(d.n_train == 20 && d.target[4] == 0.01f && d.target[5] == -0.01f);
  CU_ASSERT(d.target[6] == 0.21f && d.target[7] == -0.21f);
  for (int i = 0; i < 40; i++) CU_ASSERT_EQUAL(x[i], x[120 + i / 8 * 8 + 7 - i % 8]);
  fl_dataset_close(&d);
  remove_file(root, "IMG/l3.jpg");
  refuse("driving_log", root, &args, FEDLANE_IO, "row 4", "l3.jpg");
}

static void refuses_bad_logs(void) {
  static const struct {
    const char *rows, *word, *other;
  } cases[] = {
      {"c0.jpg,l,r,0,0,0,1\nc0.jpg,l,r,0,0,1\n", "row 2", "6 fields"},
      {"c0.jpg,l,r,nan,0,0,1\n", "row 1: steering", "'nan'"},
      {"c0.jpg,l,r,0x1p-3,0,0,1\n", "row 1: steering", "'0x1p-3'"},
      {"c0.jpg,l,r,0,0,,1\n", "row 1: brake", "''"},
      {"c0.jpg,l,r,1.5,0,0,1\n", "row 1: steering is 1.5", "-1 .. 1"},
      {",l,r,0,0,0,1\n", "row 1", "names no image"},
      {"", "driving_log.csv", "no row"},
  };
  const char *root = drive(1, "", plain);
  fl_args args = drive_args(5, 0, 0);
  for (int i = 0; i < FL_COUNT(cases); i++) {
    put_text(root, "driving_log.csv", cases[i].rows);
    refuse("driving_log", root, &args, FEDLANE_DATA, cases[i].word, cases[i].other);
  }
  fl_args_text(&args, "targets", "steering,wheel");
  refuse("driving_log", root, &args, FEDLANE_USAGE, "wheel", "brake");
  refuse("driving_log", "/nowhere", NULL, FEDLANE_IO, "/nowhere", "No such");
}

/* 1,899 images of 854 signs in 43 classes; a split leaves each sign on one side. */
static void reads_real_signs(void) {
  const char *path = fl_test_data("gtsrb");
  if (!path) return;
  fl_args args = sign_args(8, 0);
  fl_dataset d = load_good("gtsrb", path, &args);
  CU_ASSERT(d.n_train == 1899 && d.n_test == 0 && d.classes == 43 && d.n_client == 854);
  int n[43] = {0};
  for (int e = 0; e < 1899; e++) n[d.label[e]]++;
  for (int k = 0; k < 43; k++) CU_ASSERT(n[k] >= 36 && n[k] <= 47);
  fl_dataset_close(&d);
  fl_args_set(&args, "test_share", 0.2);
  d = load_good("gtsrb", path, &args);
  CU_ASSERT(d.n_train + d.n_test == 1899 && d.n_client > 650 && d.n_client < 720);
  fl_dataset_close(&d);
}

/* Rows 240 and 560, of 80: ten segments, two of them held out with 10 rows on each side. */
static void reads_real_drives(void) {
  const char *path = fl_test_data("udacity-driving");
  if (!path) return;
  fl_args args = fl_args_of(&find("driving_log")->record);
  fl_args_set(&args, "height", 8);
  fl_args_set(&args, "width", 16);
  fl_args_set(&args, "stride", 4);
  fl_args_set(&args, "cameras", 1);
  fl_args_set(&args, "test_share", 0);
  fl_dataset d = load_good("driving_log", path, &args);
  CU_ASSERT(d.n_train == 3 * 60 + 140 && d.n_client == 10); /* drive_2 has one camera */
  CU_ASSERT(d.notice && strstr(d.notice, "drive_2") && !strstr(d.notice, "drive_1"));
  fl_dataset_close(&d);
  fl_args_set(&args, "test_share", 0.2);
  d = load_good("driving_log", path, &args);
  CU_ASSERT(d.n_test == 40 && d.n_client == 8);
  fl_dataset_close(&d);
}

static const fl_test tests[] = {
    {"signs are clients", signs_are_clients},
    {"signs are held out whole", signs_are_held_out_whole},
    {"signs are dealt to vehicles", signs_are_dealt_to_vehicles},
    {"refuses bad signs", refuses_bad_signs},
    {"reads logs of every kind", reads_logs_of_every_kind},
    {"holds out segments", holds_out_segments},
    {"smooths within a segment", smooths_within_a_segment},
    {"stacks neighbouring images", stacks_neighbouring_images},
    {"takes side cameras", takes_side_cameras},
    {"refuses bad logs", refuses_bad_logs},
    {"reads real signs", reads_real_signs},
    {"reads real drives", reads_real_drives},
};

FL_SUITE_MAIN("roads", tests)
