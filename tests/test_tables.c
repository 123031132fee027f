/* The reader of rows and fields, and the format csv over it. */
#include "formats/csv_file.h"
#include "text_files.h"

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
  for (int i = 0; i < ROWS; i++) sprintf(text + 8 * i, "%07u\n", i * 7919u % 10000000);
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

/* Numbers of ten digits and more, and those that a double cannot hold, are clients of their own. */
static void csv_tells_long_numbers_apart(void) {
  const char *path = write_text(fl_test_folder(), "t.csv",
                                "card,a,y\n4929123412341231,1,0\n4929123412341232,2,1\n"
                                "49291234123412341,3,0\n49291234123412342,4,1\n"
                                "1234567890,5,0\n1234567891,6,1\n+1234567890.0,7,0\n");
  fl_args args = args_of("csv");
  fl_args_text(&args, "client", "card");
  fl_dataset d = load_good("csv", path, &args);
  const int32_t client[] = {2, 3, 4, 5, 0, 1, 0};
  CU_ASSERT(d.n_client == 6 && memcmp(d.client, client, sizeof client) == 0);
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

static const fl_test tests[] = {
    {"rows are split", rows_are_split},
    {"rows of other kinds", rows_of_other_kinds},
    {"rows are refused", rows_are_refused},
    {"rows of damaged gzip", rows_of_damaged_gzip},
    {"numbers are strict", numbers_are_strict},
    {"columns are named", columns_are_named},
    {"csv reads a table", csv_reads_a_table},
    {"csv tells long numbers apart", csv_tells_long_numbers_apart},
    {"csv reads targets", csv_reads_targets},
    {"csv tests with another file", csv_tests_with_another_file},
    {"csv refuses", csv_refuses},
    {"csv leaves out files", csv_leaves_out_files},
    {"csv reads hospitals", csv_reads_hospitals},
};

FL_SUITE_MAIN("tables", tests)
