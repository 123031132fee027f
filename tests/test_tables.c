/* The reader of rows and fields, and the formats over it: csv, cmapss, series and ved. */
#include <math.h>
#include <string.h>

#include "format_files.h"
#include "formats/csv_file.h"

static const char *write_text(const char *folder, const char *name, const char *text) {
  static char path[512];
  write_file(folder, name, text, strlen(text));
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static fl_args args_of(const char *name) { return fl_args_of(&find(name)->record); }

/* Loads with bad rows left out. */
static fl_dataset load_rest(const char *name, const char *path, const fl_args *args) {
  fl_dataset d;
  fl_load how = {.path = path, .seed = 1, .threads = 1, .skip_bad = true};
  CU_ASSERT_EQUAL_FATAL(find(name)->load(&how, args->at, &d), FEDLANE_OK);
  return d;
}

static bool same_float(float a, float b) { return a == b || (isnan(a) && isnan(b)); }

/* x of example e. */
static void expect_x(const fl_dataset *d, int64_t e, const float *x) {
  int64_t n = fl_image_size(d->image);
  for (int64_t i = 0; i < n; i++) {
    float got = ((float *)d->x)[e * n + i];
    if (!same_float(got, x[i])) printf("\n    value %d of %d is %g\n", (int)i, (int)e, (double)got);
    CU_ASSERT(same_float(got, x[i]));
  }
}

/* The reader of rows. */

static void expect_row(fl_csv *c, int64_t row, int n, const char *const *field) {
  bool more;
  CU_ASSERT_EQUAL_FATAL(fl_csv_next(c, &more), FEDLANE_OK);
  CU_ASSERT(more && c->row == row && c->n == n);
  for (int i = 0; i < n && i < c->n; i++) CU_ASSERT_STRING_EQUAL(c->field[i], field[i]);
}

static void rows_are_split(void) {
  fl_csv c;
  bool more;
  const char *path = write_text(fl_test_folder(), "a.csv",
                                "\xef\xbb\xbf"
                                "a, b ,c\r\n"
                                "\n"
                                "\"x,y\",\"he said \"\"no\"\"\",\" \"\n"
                                "1,\"two\nlines\" ,\r\n"
                                "   \n"
                                ",,\n"
                                "last");
  CU_ASSERT_EQUAL_FATAL(fl_csv_open(path, ',', &c), FEDLANE_OK);
  expect_row(&c, 1, 3, (const char *[]){"a", "b", "c"});
  expect_row(&c, 3, 3, (const char *[]){"x,y", "he said \"no\"", " "});
  expect_row(&c, 4, 3, (const char *[]){"1", "two\nlines", ""});
  expect_row(&c, 7, 3, (const char *[]){"", "", ""});
  expect_row(&c, 8, 1, (const char *[]){"last"});
  for (int i = 0; i < 2; i++) {
    CU_ASSERT_EQUAL(fl_csv_next(&c, &more), FEDLANE_OK);
    CU_ASSERT(!more);
  }
  fl_csv_close(&c);
}

/* Blanks, tabs and gzip; one row longer than the pieces in which a file is read. */
static void rows_of_other_kinds(void) {
  enum { WIDE = 70000 };
  fl_csv c;
  bool more;
  const char *folder = fl_test_folder();
  const char *path = write_text(folder, "a.txt.gz", "  1 2\t 3  \n\n \t\n4\n");
  CU_ASSERT_EQUAL_FATAL(fl_csv_open(path, ' ', &c), FEDLANE_OK);
  expect_row(&c, 1, 3, (const char *[]){"1", "2", "3"});
  expect_row(&c, 4, 1, (const char *[]){"4"});
  fl_csv_close(&c);
  path = write_text(folder, "b.tsv", "a b\t\t c \n");
  CU_ASSERT_EQUAL_FATAL(fl_csv_open(path, '\t', &c), FEDLANE_OK);
  expect_row(&c, 1, 3, (const char *[]){"a b", "", "c"});
  fl_csv_close(&c);
  char *wide = malloc(2 * WIDE);
  for (int i = 0; i < WIDE; i++) memcpy(wide + 2 * i, "7,", 2);
  wide[2 * WIDE - 1] = '\n';
  write_file(folder, "wide.csv", wide, 2 * WIDE);
  free(wide);
  char name[512];
  snprintf(name, sizeof name, "%s/wide.csv", folder);
  CU_ASSERT_EQUAL_FATAL(fl_csv_open(name, ',', &c), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_csv_next(&c, &more), FEDLANE_OK);
  CU_ASSERT(more && c.n == WIDE && strcmp(c.field[WIDE - 1], "7") == 0);
  fl_csv_close(&c);
}

/* A bad row is told with its place, and the next one is read as if nothing had been. */
static void rows_are_refused(void) {
  const struct {
    const char *row, *message;
  } cases[] = {
      {"a,b\"c,d", "bad.csv:2:2: there is a quote inside"},
      {"a,\"b\" c,d", "bad.csv:2:2: there is text after the closing quote"},
      {"\"a\"\"b\"c,\"d\ne\"", "bad.csv:2:1: there is text after"},
  };
  fl_csv c;
  bool more;
  const char *folder = fl_test_folder();
  for (int i = 0; i < 3; i++) {
    char text[128];
    snprintf(text, sizeof text, "x\n%s\ny\n", cases[i].row);
    CU_ASSERT_EQUAL_FATAL(fl_csv_open(write_text(folder, "bad.csv", text), ',', &c), FEDLANE_OK);
    CU_ASSERT_EQUAL(fl_csv_next(&c, &more), FEDLANE_OK);
    CU_ASSERT_EQUAL(fl_csv_next(&c, &more), FEDLANE_DATA);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), cases[i].message));
    expect_row(&c, i < 2 ? 3 : 4, 1, (const char *[]){"y"});
    fl_csv_close(&c);
  }
  write_file(folder, "bad.csv", "a\0b\n\"c", 6);
  CU_ASSERT_EQUAL_FATAL(fl_csv_open(write_text(folder, "end.csv", "\"c"), ',', &c), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_csv_next(&c, &more), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "end.csv:1:1: the quotes do not end"));
  CU_ASSERT(fl_csv_next(&c, &more) == FEDLANE_OK && !more);
  fl_csv_close(&c);
  char path[512];
  snprintf(path, sizeof path, "%s/bad.csv", folder);
  CU_ASSERT_EQUAL_FATAL(fl_csv_open(path, ',', &c), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_csv_next(&c, &more), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "bad.csv:1:1: a zero byte"));
  fl_csv_close(&c);
  CU_ASSERT_EQUAL(fl_csv_open("/nowhere.csv", ',', &c), FEDLANE_IO);
  CU_ASSERT_EQUAL_FATAL(fl_csv_open(folder, ',', &c), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_csv_next(&c, &more), FEDLANE_IO);
  fl_csv_close(&c);
}

/* gzip data that end too early are an error, and then the end. */
static void rows_of_damaged_gzip(void) {
  enum { ROWS = 20000 };
  const char *folder = fl_test_folder();
  char *text = malloc(ROWS * 8 + 1), path[512];
  for (int i = 0; i < ROWS; i++) snprintf(text + 8 * i, 9, "%07d\n", i * 7919 % 10000000);
  write_file(folder, "all.csv.gz", text, ROWS * 8);
  snprintf(path, sizeof path, "%s/all.csv.gz", folder);
  FILE *file = fopen(path, "rb");
  size_t size = fread(text, 1, ROWS * 8, file);
  fclose(file);
  file = fopen(path, "wb");
  CU_ASSERT_EQUAL(fwrite(text, 1, size / 2, file), size / 2);
  fclose(file);
  free(text);
  fl_csv c;
  bool more = true;
  fl_status status = FEDLANE_OK;
  CU_ASSERT_EQUAL_FATAL(fl_csv_open(path, ',', &c), FEDLANE_OK);
  for (int i = 0; status == FEDLANE_OK && more && i < ROWS; i++) status = fl_csv_next(&c, &more);
  CU_ASSERT_EQUAL(status, FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "damaged gzip"));
  CU_ASSERT(fl_csv_next(&c, &more) == FEDLANE_OK && !more);
  fl_csv_close(&c);
}

static void numbers_are_strict(void) {
  fl_csv c;
  bool more;
  double v;
  const char *path =
      write_text(fl_test_folder(), "n.csv", ".7,-1e3,+4.,0x10,nan,inf,1e39,,1 2,--1");
  CU_ASSERT_EQUAL_FATAL(fl_csv_open(path, ',', &c), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_csv_next(&c, &more), FEDLANE_OK);
  CU_ASSERT(fl_csv_number(&c, 0, &v) == FEDLANE_OK && v == 0.7);
  CU_ASSERT(fl_csv_number(&c, 1, &v) == FEDLANE_OK && v == -1000);
  CU_ASSERT(fl_csv_number(&c, 2, &v) == FEDLANE_OK && v == 4);
  for (int i = 3; i < 10; i++) CU_ASSERT_EQUAL(fl_csv_number(&c, i, &v), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "n.csv:1:10: '--1' is not a number"));
  fl_csv_close(&c);
}

static void columns_are_named(void) {
  fl_names names = {0};
  const char *word[] = {"age", "7", "sex"};
  int n, *column;
  int32_t number;
  for (int i = 0; i < 3; i++) CU_ASSERT_EQUAL(fl_names_add(&names, word[i], &number), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_csv_columns(&names, 3, " sex , 1", "columns", &n, &column), FEDLANE_OK);
  CU_ASSERT(n == 2 && column[0] == 2 && column[1] == 0);
  free(column);
  CU_ASSERT_EQUAL_FATAL(fl_csv_columns(&names, 3, "7", "columns", &n, &column), FEDLANE_OK);
  CU_ASSERT(n == 1 && column[0] == 1);
  free(column);
  CU_ASSERT_EQUAL_FATAL(fl_csv_columns(NULL, 9, "2-4,9", "columns", &n, &column), FEDLANE_OK);
  CU_ASSERT(n == 4 && column[2] == 3 && column[3] == 8);
  free(column);
  const char *bad[] = {"seks", "0", "4", "1-4", "3-2", "1,age", "1-", "-1"};
  for (int i = 0; i < 8; i++) {
    CU_ASSERT_EQUAL(fl_csv_columns(&names, 3, bad[i], "columns", &n, &column), FEDLANE_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "columns names"));
  }
  fl_names_free(&names);
}

/* csv */

static const char table[] =
    "bank,amount,kind,hour,fraud\n"
    "north,1.5,card,10,no\n"
    "south,?,cash,11,yes\n"
    "north,2.5,card,,no\n"
    "10,4,\"bank, wire\",12,yes\n";

static fl_args table_args(void) {
  fl_args args = args_of("csv");
  fl_args_text(&args, "client", "bank");
  fl_args_text(&args, "categories", "kind");
  fl_args_text(&args, "missing", "?");
  return args;
}

static void csv_reads_a_table(void) {
  const char *path = write_text(fl_test_folder(), "t.csv", table);
  fl_args args = table_args();
  fl_dataset d = load_good("csv", path, &args);
  CU_ASSERT(d.n_train == 4 && d.n_test == 0 && d.classes == 2 && d.raw && !d.bytes && !d.unit);
  CU_ASSERT(d.image.channels == 5 && fl_image_size(d.image) == 5);
  /* amount; bank wire, card, cash; hour */
  expect_x(&d, 0, (const float[]){1.5f, 0, 1, 0, 10});
  expect_x(&d, 1, (const float[]){NAN, 0, 0, 1, 11});
  expect_x(&d, 2, (const float[]){2.5f, 0, 1, 0, NAN});
  expect_x(&d, 3, (const float[]){4, 1, 0, 0, 12});
  const int32_t label[] = {0, 1, 0, 1}, client[] = {1, 2, 1, 0}; /* numbers before names */
  CU_ASSERT(memcmp(d.label, label, sizeof label) == 0 && d.n_client == 3);
  CU_ASSERT_EQUAL(memcmp(d.client, client, sizeof client), 0);
  CU_ASSERT_EQUAL(fl_dataset_normalise(&d, FL_NORMALISE_AUTO), FEDLANE_OK);
  CU_ASSERT_DOUBLE_EQUAL(d.shift[0], 8.0 / 3, 1e-6);
  CU_ASSERT_EQUAL(((float *)d.x)[5], d.shift[0]);
  fl_dataset_close(&d);
  fl_args_set(&args, "indicators", 1);
  d = load_good("csv", path, &args);
  CU_ASSERT_EQUAL(d.image.channels, 7);
  expect_x(&d, 1, (const float[]){NAN, 0, 0, 1, 11, 1, 0});
  expect_x(&d, 2, (const float[]){2.5f, 0, 1, 0, NAN, 0, 1});
  fl_dataset_close(&d);
}

static void csv_reads_targets(void) {
  const char *path = write_text(fl_test_folder(), "t.csv", "4;1;0.5\n9;2;1\n-1;3;0\n");
  fl_args args = args_of("csv");
  fl_args_set(&args, "header", 0);
  fl_args_text(&args, "separator", ";");
  fl_args_text(&args, "target", "1");
  fl_args_set(&args, "task", 1);
  fl_args_set(&args, "scale", 2);
  fl_dataset d = load_good("csv", path, &args);
  CU_ASSERT(d.n_target == 1 && d.classes == 0 && !d.label && d.unit && d.unit[0] == 2);
  CU_ASSERT(d.image.channels == 2 && d.target[0] == 2 && d.target[2] == -0.5f && !d.client);
  expect_x(&d, 1, (const float[]){2, 1});
  fl_dataset_close(&d);
  fl_args_set(&args, "task", 2);
  refuse("csv", path, &args, FEDLANE_DATA, "t.csv:1:1: '4'", "0 .. 1");
  fl_args_text(&args, "threshold", "4");
  d = load_good("csv", path, &args);
  CU_ASSERT(d.target[0] == 0 && d.target[1] == 1 && d.target[2] == 0 && !d.unit);
  fl_dataset_close(&d);
  fl_args_text(&args, "threshold", "");
  fl_args_text(&args, "target", "3");
  fl_args_text(&args, "columns", "2");
  d = load_good("csv", path, &args);
  CU_ASSERT(d.target[0] == 0.5f && d.image.channels == 1);
  fl_dataset_close(&d);
  fl_args_set(&args, "task", 0);
  fl_args_text(&args, "target", "1");
  d = load_good("csv", path, &args);
  const int32_t label[] = {1, 2, 0};
  CU_ASSERT(d.classes == 3 && memcmp(d.label, label, sizeof label) == 0);
  fl_dataset_close(&d);
}

static const char test_rows[] =
    "bank,amount,kind,hour,fraud\n"
    "west,9,cash,1,yes\n"
    "west,8,cheque,1,no\n"
    "west,7,card,1,maybe\n";

/* What training has not seen is refused in the test, or left out and counted. */
static void csv_tests_with_another_file(void) {
  const char *folder = fl_test_folder();
  write_text(folder, "t.csv", table);
  write_text(folder, "later.csv", test_rows);
  fl_args args = table_args();
  fl_args_text(&args, "test", "later.csv");
  refuse("csv", folder, &args, FEDLANE_DATA, "later.csv:3:3: 'cheque'", "training");
  fl_dataset d = load_rest("csv", folder, &args);
  CU_ASSERT(d.n_train == 4 && d.n_test == 1 && d.skipped == 2 && d.n_client == 3 && d.classes == 2);
  expect_x(&d, 4, (const float[]){9, 0, 0, 1, 1});
  CU_ASSERT_EQUAL(d.label[4], 1);
  fl_dataset_close(&d);
}

static void csv_refuses(void) {
  const char *folder = fl_test_folder();
  const struct {
    const char *text, *word, *other;
  } cases[] = {
      {"a,b\n1,0\nx,1\n", "t.csv:3:1: 'x'", "not a number"},
      {"a,b\n1,0\n1\n", "t.csv:3", "1 field; there must be 2"},
      {"a,b\n1,0\n1,\n", "t.csv:3:2", "missing, but it is the target"},
      {"a,b\n1,0\nnan,1\n", "t.csv:3:1: 'nan'", "not a number"},
      {"a,a\n1,0\n", "t.csv:1:2: 'a'", "two columns"},
      {"", "t.csv", "empty"},
      {"a,b\n", "t.csv", "no good row"},
  };
  for (int i = 0; i < 7; i++)
    refuse("csv", write_text(folder, "t.csv", cases[i].text), NULL, FEDLANE_DATA, cases[i].word,
           cases[i].other);
  const struct {
    const char *name, *value, *word, *other;
  } wrong[] = {{"target", "c", "target names 'c'", "none of the 2 columns"},
               {"columns", "b", "target names column 2", "another use"},
               {"skip_columns", "1", "no column is left", "feature"},
               {"separator", "ab", "separator is 'ab'", "one byte"},
               {"threshold", "much", "threshold is 'much'", "number"}};
  const char *path = write_text(folder, "t.csv", "a,b\n1,0\n");
  for (int i = 0; i < 5; i++) {
    fl_args args = args_of("csv");
    fl_args_text(&args, wrong[i].name, wrong[i].value);
    refuse("csv", path, &args, FEDLANE_USAGE, wrong[i].word, wrong[i].other);
  }
  remove_file(folder, "t.csv");
  refuse("csv", folder, NULL, FEDLANE_DATA, folder, "*.csv");
  fl_args args = args_of("csv");
  fl_dataset d = load_rest("csv", write_text(folder, "t.csv", "a,b\n1,0\nx,1\n1\n2,1\n"), &args);
  CU_ASSERT(d.n_train == 2 && d.skipped == 2 && d.label[1] == 1);
  fl_dataset_close(&d);
}

/* Files that are bad as a whole; a client without rows is none. */
static void csv_leaves_out_files(void) {
  const char *folder = fl_test_folder(), *bad[] = {"", "b,a\n0,1\n", "a,b\n", "a,b\nx,0\n"};
  const char *word[] = {"empty", "another place", "no good row", "'x' is not a number"};
  fl_args args = args_of("csv");
  write_text(folder, "1.csv", "a,b\n1,0\n");
  write_text(folder, "3.csv", "a,b\n3,1\n");
  for (int i = 0; i < 4; i++) {
    write_text(folder, "2.csv", bad[i]);
    refuse("csv", folder, &args, FEDLANE_DATA, "2.csv", word[i]);
    fl_dataset d = load_rest("csv", folder, &args);
    CU_ASSERT(d.n_train == 2 && d.n_client == 2 && d.client[1] == 1);
    CU_ASSERT_EQUAL(d.skipped, i < 3 ? 1 : 2);
    fl_dataset_close(&d);
  }
  write_text(folder, "1.csv", "a,a\n1,0\n");
  fl_dataset d = load_rest("csv", folder, &args);
  CU_ASSERT(d.n_train == 1 && !d.client && d.skipped == 3);
  fl_dataset_close(&d);
}

/* Rows, label counts and missing values of each hospital are those of its SOURCE.md. */
static void csv_reads_hospitals(void) {
  const char *folder = fl_test_data("heart-disease");
  if (!folder) return;
  fl_args args = args_of("csv");
  fl_args_text(&args, "files", "processed.*.data");
  fl_args_set(&args, "header", 0);
  fl_args_text(&args, "missing", "?");
  fl_args_text(&args, "threshold", "0");
  fl_dataset d = load_good("csv", folder, &args);
  const int rows[] = {303, 294, 123, 200}, missing[] = {6, 782, 273, 698},
            sick[] = {139, 106, 115, 149};
  int n[4] = {0}, holes[4] = {0}, ones[4] = {0};
  CU_ASSERT(d.n_client == 4 && d.image.channels == 13 && d.classes == 2);
  for (int64_t e = 0; e < d.n_train; e++) {
    n[d.client[e]]++;
    ones[d.client[e]] += d.label[e];
    for (int i = 0; i < 13; i++) holes[d.client[e]] += isnan(((float *)d.x)[e * 13 + i]) != 0;
  }
  for (int i = 0; i < 4; i++)
    CU_ASSERT(n[i] == rows[i] && holes[i] == missing[i] && ones[i] == sick[i]);
  fl_dataset_close(&d);
  /* One hospital writes 4.0 where another writes 4: chest pain is of four kinds all the same. */
  fl_args_text(&args, "categories", "3");
  fl_args_text(&args, "columns", "1,3");
  d = load_good("csv", folder, &args);
  CU_ASSERT_EQUAL(d.image.channels, 5);
  fl_dataset_close(&d);
}

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
  write_ved(folder, "1.0,8,3\n");
  refuse("ved", folder, &args, FEDLANE_DATA, "week.csv:11", "3 fields; there must be 22");
  write_text(folder, "VED_171101_week.csv", "DayNum,VehId,Trip\n");
  refuse("ved", folder, &args, FEDLANE_DATA, "week.csv:1", "Timestamp(ms)");
  write_ved(folder, "");
  fl_args_set(&args, "shortest", 5);
  refuse("ved", folder, &args, FEDLANE_DATA, folder, "none of its 3 trips");
}

static const fl_test tests[] = {
    {"rows are split", rows_are_split},
    {"rows of other kinds", rows_of_other_kinds},
    {"rows are refused", rows_are_refused},
    {"rows of damaged gzip", rows_of_damaged_gzip},
    {"numbers are strict", numbers_are_strict},
    {"columns are named", columns_are_named},
    {"csv reads a table", csv_reads_a_table},
    {"csv reads targets", csv_reads_targets},
    {"csv tests with another file", csv_tests_with_another_file},
    {"csv refuses", csv_refuses},
    {"csv leaves out files", csv_leaves_out_files},
    {"csv reads hospitals", csv_reads_hospitals},
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

FL_SUITE_MAIN("tables", tests)
