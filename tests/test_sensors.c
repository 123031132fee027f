/* The formats of sensors over rows and fields: cmapss, series and ved. */
#include "text_files.h"

/* cmapss */

/* Engine u's sensor s in cycle t is 1000*u + 10*t + s. */
static void write_engines(const char *folder, const char *name, int n, const int *rows) {
  char *path = fl_path_join(folder, name);
  FILE *file = fopen(path, "w");
  for (int u = 1; u <= n; u++)
    for (int t = 1; t <= rows[u - 1]; t++) {
      fprintf(file, "%d %d 0.1 0.2 100.0", u, t);
      for (int s = 1; s <= 21; s++) fprintf(file, " %d.0", 1000 * u + 10 * t + s);
      fprintf(file, "  \n");
    }
  fclose(file);
  free(path);
}

static const char *engines(void) {
  const char *folder = fl_test_folder();
  write_engines(folder, "train_FD001.txt", 3, (const int[]){7, 3, 5});
  write_engines(folder, "test_FD001.txt", 2, (const int[]){4, 6});
  write_text(folder, "RUL_FD001.txt", "112 \n3 \n");
  return folder;
}

static fl_args engine_args(void) {
  fl_args args = args_of("cmapss");
  fl_args_set(&args, "window", 4);
  fl_args_set(&args, "cap", 2);
  fl_args_text(&args, "sensors", "3,21");
  return args;
}

static void cmapss_makes_windows(void) {
  const char *folder = engines();
  fl_args args = engine_args();
  fl_dataset d = load_good("cmapss", folder, &args);
  CU_ASSERT(d.n_train == 4 + 1 + 2 && d.n_test == 2 && d.n_client == 3 && d.n_target == 1 && d.raw);
  CU_ASSERT(d.image.channels == 2 && d.image.steps == 4 && d.unit[0] == 2);
  const int32_t client[] = {0, 0, 0, 0, 1, 2, 2};
  const float target[] = {1, 1, 0.5f, 0, 0, 0.5f, 0, 1, 1};
  CU_ASSERT_EQUAL(memcmp(d.client, client, sizeof client), 0);
  CU_ASSERT_EQUAL(memcmp(d.target, target, sizeof target), 0);
  expect_x(&d, 0, (const float[]){1013, 1031, 1023, 1041, 1033, 1051, 1043, 1061});
  expect_x(&d, 3, (const float[]){1043, 1061, 1053, 1071, 1063, 1081, 1073, 1091});
  expect_x(&d, 4, (const float[]){2013, 2031, 2013, 2031, 2023, 2041, 2033, 2051}); /* padded */
  expect_x(&d, 8, (const float[]){2033, 2051, 2043, 2061, 2053, 2071, 2063, 2081});
  fl_dataset_close(&d);
}

static void cmapss_has_options(void) {
  const char *folder = engines();
  fl_args args = engine_args();
  fl_args_set(&args, "cap_test", 0);
  fl_args_set(&args, "short", 1);
  fl_args_set(&args, "stride", 2);
  fl_args_set(&args, "settings", 1);
  fl_args_text(&args, "sensors", "all");
  fl_dataset d = load_good("cmapss", folder, &args);
  CU_ASSERT(d.n_train == 2 + 1 && d.n_test == 2 && d.n_client == 2 && d.image.channels == 24);
  CU_ASSERT(d.target[0] == 1 && d.target[1] == 0 && d.target[3] == 56 && d.target[4] == 1.5f);
  fl_dataset_close(&d);
  fl_args_set(&args, "cap", 0);
  d = load_good("cmapss", folder, &args);
  CU_ASSERT(d.target[0] == 2 && d.target[3] == 112 && d.unit[0] == 1);
  fl_dataset_close(&d);
}

static void cmapss_refuses(void) {
  const char *folder = engines();
  fl_args args = engine_args();
  write_text(folder, "RUL_FD001.txt", "112\n");
  refuse("cmapss", folder, &args, FEDLANE_DATA, "RUL_FD001.txt", "1 rows");
  write_text(folder, "RUL_FD001.txt", "112\n-3\n");
  refuse("cmapss", folder, &args, FEDLANE_DATA, "RUL_FD001.txt:2:1: '-3'", "less than 0");
  write_text(folder, "RUL_FD001.txt", "112\n3\n");
  write_text(folder, "test_FD001.txt", "1 1 2\n");
  refuse("cmapss", folder, &args, FEDLANE_DATA, "test_FD001.txt:1", "3 fields; there must be 26");
  remove_file(folder, "test_FD001.txt");
  refuse("cmapss", folder, &args, FEDLANE_IO, "test_FD001.txt", "No such");
  const char *start = " 0 0 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 ";
  char text[512];
  snprintf(text, sizeof text, "1 1%s21\n1 1%s21\n1 2%snan\n1 3%s21\n", start, start, start, start);
  write_text(folder, "test_FD001.txt", text);
  write_text(folder, "RUL_FD001.txt", "1\n");
  refuse("cmapss", folder, &args, FEDLANE_DATA, "test_FD001.txt:2:2: '1'", "not after");
  fl_dataset d = load_rest("cmapss", folder, &args);
  CU_ASSERT(d.skipped == 2 && d.n_test == 1 && d.target[7] == 0.5f);
  fl_dataset_close(&d);
}

static void cmapss_reads_fd001(void) {
  const char *folder = fl_test_data("cmapss/CMAPSSData");
  if (!folder) return;
  fl_args args = args_of("cmapss");
  fl_dataset d = load_good("cmapss", folder, &args);
  CU_ASSERT(d.n_client == 100 && d.n_train == 20631 - 100 * 29 && d.n_test == 100);
  CU_ASSERT(d.image.channels == 14 && d.image.steps == 30);
  CU_ASSERT_EQUAL(((float *)d.x)[0], 641.82f); /* sensor 2 of the first row */
  CU_ASSERT_EQUAL(d.target[191 - 29], 0);      /* engine 1 runs for 192 cycles */
  CU_ASSERT_EQUAL(d.target[191 - 30], 1.0f / 125);
  CU_ASSERT_EQUAL(d.target[d.n_train], 112.0f / 125);
  CU_ASSERT_EQUAL(d.target[d.n_train + 1], 98.0f / 125);
  fl_dataset_close(&d);
}

/* series */

/* Sensor k at time t is 100*k + t. */
static const char *write_series(int times, const char *bad) {
  char text[4096];
  int at = snprintf(text, sizeof text, "time,one,two\n");
  for (int t = 0; t < times; t++)
    at += t == 5 && bad
              ? snprintf(text + at, sizeof text - (size_t)at, "%s\n", bad)
              : snprintf(text + at, sizeof text - (size_t)at, "%d:00,%d,%d\n", t, 100 + t, 200 + t);
  return write_text(fl_test_folder(), "s.csv", text);
}

static fl_args series_args(void) {
  fl_args args = args_of("series");
  fl_args_text(&args, "skip_columns", "time");
  fl_args_text(&args, "steps", "2,1");
  fl_args_set(&args, "window", 3);
  return args;
}

static void series_makes_windows(void) {
  fl_args args = series_args();
  fl_dataset d = load_good("series", write_series(20, NULL), &args);
  /* 14 rows train: 10 windows of 3 + 2 a sensor; 6 rows test: 2. None crosses over. */
  CU_ASSERT(d.n_train == 20 && d.n_test == 4 && d.n_client == 2 && d.n_target == 2 && d.raw);
  CU_ASSERT(d.image.channels == 1 && d.image.steps == 3);
  expect_x(&d, 0, (const float[]){100, 101, 102});
  expect_x(&d, 19, (const float[]){209, 210, 211});
  expect_x(&d, 20, (const float[]){114, 115, 116});
  expect_x(&d, 23, (const float[]){215, 216, 217});
  CU_ASSERT(d.client[9] == 0 && d.client[10] == 1);
  double sum = 0, square = 0;
  for (int i = 0; i < 40; i++) sum += d.target[i], square += (double)d.target[i] * d.target[i];
  CU_ASSERT_DOUBLE_EQUAL(sum / 40, 0, 1e-6);
  CU_ASSERT_DOUBLE_EQUAL(square / 40, 1, 1e-5);
  CU_ASSERT_DOUBLE_EQUAL((d.target[1] - d.target[0]) * d.unit[0], 1, 1e-4);
  CU_ASSERT_DOUBLE_EQUAL((d.target[46] - d.target[0]) * d.unit[0], 218 - 103, 1e-3);
  fl_dataset_close(&d);
  fl_args_set(&args, "target", 1);
  fl_args_set(&args, "gap", 1);
  d = load_good("series", write_series(20, NULL), &args);
  CU_ASSERT(d.n_train == 20 && d.n_test == 2); /* changes of 1 and 2: their mean 1.5 */
  CU_ASSERT_DOUBLE_EQUAL(d.unit[1], 0.5, 1e-6);
  CU_ASSERT_DOUBLE_EQUAL(d.target[0], -1, 1e-6);
  CU_ASSERT_DOUBLE_EQUAL(d.target[1], 1, 1e-6);
  fl_dataset_close(&d);
}

static void series_leaves_out(void) {
  fl_args args = series_args();
  refuse("series", write_series(20, "5:00,x,205"), &args, FEDLANE_DATA, "s.csv:7:2: 'x'", "number");
  refuse("series", write_series(4, NULL), &args, FEDLANE_DATA, "s.csv", "no window");
  fl_dataset d = load_rest("series", write_series(20, "5:00,x,205"), &args);
  /* Windows at 1 and 2 would predict row 5. */
  CU_ASSERT(d.skipped == 1 && d.n_train == 20 - 2 * 2);
  expect_x(&d, 1, (const float[]){103, 104, NAN});
  fl_dataset_close(&d);
  fl_args_text(&args, "missing", "0");
  d = load_good("series", write_series(20, "5:00,0,205"), &args);
  CU_ASSERT(d.skipped == 0 && d.n_train == 18);
  fl_dataset_close(&d);
}

/* What predicting the last value is off by on average, over the test windows: 15 and 30 minutes
 * ahead. */
static void series_reads_los_loop(void) {
  const char *path = fl_test_data("traffic-los-loop/los_speed.csv");
  if (!path) return;
  fl_args args = args_of("series");
  fl_args_text(&args, "steps", "3,6");
  fl_args_set(&args, "target", 1);
  fl_dataset d = load_good("series", path, &args);
  CU_ASSERT(d.n_client == 207 && d.n_train == 207 * (1411 - 17) && d.n_test == 207 * (605 - 17));
  double sum = 0, off[2] = {0};
  for (int64_t i = 0; i < d.n_train * 2; i++) sum += d.target[i];
  CU_ASSERT_DOUBLE_EQUAL(sum / (double)d.n_train / 2, 0, 1e-4);
  fl_dataset_close(&d);
  fl_args_set(&args, "target", 0);
  d = load_good("series", path, &args);
  /* A target is the last value of a later window of the same sensor; a difference of targets is one
   * of values in the unit. */
  const float *x = d.x;
  const int step[2] = {3, 6};
  int wrong = 0;
  CU_ASSERT_EQUAL(x[0], 64.375f);
  for (int s = 0; s < 2; s++) {
    double base = x[step[s] * 12 + 11] - (double)d.target[s] * d.unit[s];
    for (int64_t k = 0; k < 207; k++)
      for (int64_t e = d.n_train + k * 588; e < d.n_train + (k + 1) * 588 - step[s]; e++) {
        double value = x[(e + step[s]) * 12 + 11];
        wrong += fabs(base + (double)d.target[2 * e + s] * d.unit[s] - value) > 1e-3;
        off[s] += fabs(value - x[e * 12 + 11]) / (207.0 * (588 - step[s]));
      }
  }
  CU_ASSERT_EQUAL(wrong, 0);
  printf("the last value is off by %.3f mph after 15 minutes, by %.3f after 30\n", off[0], off[1]);
  CU_ASSERT(off[0] > 1 && off[0] < off[1] && off[1] < 10);
  fl_dataset_close(&d);
}

/* ved */

static const char ved_header[] =
    "DayNum,VehId,Trip,Timestamp(ms),Latitude[deg],Longitude[deg],Vehicle Speed[km/h],MAF[g/sec],"
    "Engine RPM[RPM],Absolute Load[%],OAT[DegC],Fuel Rate[L/hr],Air Conditioning Power[kW],"
    "Air Conditioning Power[Watts],Heater Power[Watts],HV Battery Current[A],HV Battery SOC[%],"
    "HV Battery Voltage[V],Short Term Fuel Trim Bank 1[%],Short Term Fuel Trim Bank 2[%],"
    "Long Term Fuel Trim Bank 1[%],Long Term Fuel Trim Bank 2[%]\n";

/* An electric car at 36 and 72 km/h, ten seconds each, then standing; one with an engine. */
static const char ved_rows[] =
    "1.0,455,7,0,42.2,-83.7,36,NaN,NaN,NaN,20,NaN,NaN,400,100,-36,90,400,NaN,NaN,NaN,NaN\n"
    "1.0,455,7,10000,42.2,-83.7,72,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,-72,90,NaN,NaN,NaN,NaN,NaN\n"
    "1.0,8,3,0,42.2,-83.7,90,14.7,1500,50,5,NaN,NaN,NaN,NaN,NaN,NaN,NaN,10,NaN,-10,NaN\n"
    "1.0,455,7,20000,42.2,-83.7,0,NaN,NaN,NaN,10,NaN,NaN,NaN,300,36,90,NaN,NaN,NaN,NaN,NaN\n"
    "1.0,455,7,30000,42.2,-83.7,0,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN\n"
    "1.0,8,3,30000,42.2,-83.7,90,14.7,1500,50,NaN,7.2,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN\n"
    "1.0,8,3,50000,42.2,-83.7,90,14.7,1500,50,NaN,7.2,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN\n"
    "1.0,8,3,900000,42.2,-83.7,0,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN\n"
    "1.0,455,9,0,42.2,-83.7,36,NaN,NaN,NaN,20,NaN,NaN,400,100,-36,90,400,NaN,NaN,NaN,NaN\n";

static const char *write_ved(const char *folder, const char *more) {
  static char text[8192];
  snprintf(text, sizeof text, "%s%s%s", ved_header, ved_rows, more);
  return write_text(folder, "VED_171101_week.csv", text);
}

static void expect_near(float got, double wanted) { CU_ASSERT_DOUBLE_EQUAL(got, wanted, 1e-4); }

static void ved_adds_up_trips(void) {
  const char *folder = fl_test_folder();
  write_ved(folder, "");
  fl_args args = args_of("ved");
  fl_args_set(&args, "shortest", 0.2);
  fl_dataset d = load_good("ved", folder, &args);
  CU_ASSERT(d.n_train == 2 && d.n_client == 2 && d.n_target == 1 && d.image.channels == 9 && d.raw);
  CU_ASSERT(d.client[0] == 1 && d.client[1] == 0 && d.unit[0] == 1);
  const float *ev = d.x, *petrol = ev + 9;
  expect_near(ev[0], 0.3);
  expect_near(ev[1], 0.5);
  expect_near(ev[2], 36);
  expect_near(ev[3], 72);
  expect_near(ev[4], 1);
  expect_near(ev[5], (10 + 20) / 30.0);
  expect_near(ev[6], (20 * 20 + 10 * 10) / 30.0);
  expect_near(ev[7], 400);
  expect_near(ev[8], (100 * 20 + 300 * 10) / 30.0);
  expect_near(d.target[0], (36 + 72 - 36) * 400 * 10 / 3.6e6);
  /* 30 s at 14.7 g of air a second, so 1 g of fuel; 20 s at 7.2 l/h; a gap that does not count. */
  expect_near(petrol[0], 1.25);
  CU_ASSERT(isnan(petrol[7]));
  expect_near(d.target[1], (30 / 745.0 + 20 * 7.2 / 3600) * 8.9);
  fl_dataset_close(&d);
  fl_args_set(&args, "energy", 1);
  fl_args_set(&args, "scale", 0.5);
  fl_args_set(&args, "discharge_positive", 1);
  write_text(folder, "static.csv",
             "VehId,EngineType,Generalized_Weight[lb]\n8,ICE,NO DATA\n455,EV,3500\n");
  fl_args_text(&args, "vehicles", "static.csv");
  d = load_good("ved", folder, &args);
  CU_ASSERT(d.n_train == 1 && d.n_client == 1 && d.unit[0] == 0.5f && d.image.channels == 10);
  CU_ASSERT_EQUAL(((float *)d.x)[9], 3500);
  expect_near(d.target[0], -2 * (36 + 72 - 36) * 400 * 10 / 3.6e6);
  fl_dataset_close(&d);
}

static void ved_refuses(void) {
  const char *folder = fl_test_folder();
  fl_args args = args_of("ved");
  fl_args_set(&args, "shortest", 0.2);
  const char *late = "1.0,8,3,5,0,0,1,NaN,1,1,1,1,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN\n";
  write_ved(folder, late);
  refuse("ved", folder, &args, FEDLANE_DATA, "VED_171101_week.csv:11:4: '5'", "before");
  fl_dataset d = load_rest("ved", folder, &args);
  CU_ASSERT(d.skipped == 1 && d.n_train == 2);
  fl_dataset_close(&d);
  write_ved(folder, "1.0,8,3,990000,0,0,-1,NaN,1,1,1,1,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN\n");
  refuse("ved", folder, &args, FEDLANE_DATA, "week.csv:11:7: '-1'", "below 0");
  static const char *const numbers[][2] = {{"1.2,3", "11:2: '1.2'"},
                                           {"8,3.5", "11:3: '3.5'"},
                                           {"9007199254740992,3", "11:2: '9007199254740992'"},
                                           {"-8,3", "11:2: '-8'"},
                                           {"8,", "11:3: ''"}};
  for (int i = 0; i < FL_COUNT(numbers); i++) {
    char row[128];
    snprintf(row, sizeof row,
             "1.0,%s,990000,0,0,1,NaN,1,1,1,1,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN\n",
             numbers[i][0]);
    write_ved(folder, row);
    refuse("ved", folder, &args, FEDLANE_DATA, numbers[i][1], "not a whole number from 0");
    d = load_rest("ved", folder, &args);
    CU_ASSERT(d.skipped == 1 && d.n_train == 2 && d.n_client == 2);
    fl_dataset_close(&d);
  }
  write_ved(folder,
            "8.0,8.0,3.0,900000,0,0,1,NaN,1,1,1,1,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN,NaN\n");
  d = load_good("ved", folder, &args);
  CU_ASSERT(d.skipped == 0 && d.n_train == 2 && d.n_client == 2);
  fl_dataset_close(&d);
  write_ved(folder, "");
  write_text(folder, "static.csv", "VehId,EngineType,Generalized_Weight[lb]\n8.5,ICE,3000\n");
  fl_args_text(&args, "vehicles", "static.csv");
  refuse("ved", folder, &args, FEDLANE_DATA, "static.csv:2:1: '8.5'", "not a whole number from 0");
  fl_args_text(&args, "vehicles", "");
  write_ved(folder, "1.0,8,3\n");
  refuse("ved", folder, &args, FEDLANE_DATA, "week.csv:11", "3 fields; there must be 22");
  write_text(folder, "VED_171101_week.csv", "DayNum,VehId,Trip\n");
  refuse("ved", folder, &args, FEDLANE_DATA, "week.csv:1", "Timestamp(ms)");
  write_ved(folder, "");
  fl_args_set(&args, "shortest", 5);
  refuse("ved", folder, &args, FEDLANE_DATA, folder, "none of its 3 trips");
}

static const fl_test tests[] = {
    {"cmapss makes windows", cmapss_makes_windows},
    {"cmapss has options", cmapss_has_options},
    {"cmapss refuses", cmapss_refuses},
    {"cmapss reads FD001", cmapss_reads_fd001},
    {"series makes windows", series_makes_windows},
    {"series leaves out", series_leaves_out},
    {"series reads Los-loop", series_reads_los_loop},
    {"ved adds up trips", ved_adds_up_trips},
    {"ved refuses", ved_refuses},
};

FL_SUITE_MAIN("sensors", tests)
