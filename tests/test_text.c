/* The formats text and leaf, and the JSON reader under the latter. */
#include "formats/json_file.h"
#include "text_files.h"

/* Sequence e of tokens, and the labels after them. */
static void expect_tokens(const fl_dataset *d, int64_t e, const int *x, const int *label) {
  int T = d->image.steps;
  for (int t = 0; t < T; t++) {
    CU_ASSERT_EQUAL(((uint8_t *)d->x)[e * T + t], x[t]);
    CU_ASSERT_EQUAL(d->label[e * T + t], label[t]);
  }
}

static const char play[] =
    "KING:\nabc\n\n\n"
    "Fool:\r\nca\r\nb\r\n\r\n"
    "KING:\n\n"
    "KING:\nd\n\n"
    "KING:\nb\n";

static fl_args play_args(double sequence, double test) {
  fl_args args = args_of("text");
  fl_args_set(&args, "sequence", sequence);
  fl_args_set(&args, "test", test);
  return args;
}

/* Tokens: 0 fills up, \n 1, a 2, b 3, c 4, (d 5,) then unknown, begin, end. */
static void text_knows_speakers(void) {
  const char *path = write_text(fl_test_folder(), "play.txt", play);
  fl_args args = play_args(6, 0);
  fl_dataset d = load_good("text", path, &args);
  CU_ASSERT(d.n_train == 3 && d.n_test == 0 && d.n_client == 2 && d.tokens == 9 && d.classes == 9);
  CU_ASSERT(d.bytes && d.n_label == 6 && d.image.steps == 6 && d.image.channels == 1);
  expect_tokens(&d, 0, (int[]){7, 2, 3, 4, 8, 7}, (int[]){2, 3, 4, 8, 7, 5});
  expect_tokens(&d, 1, (int[]){8, 7, 3, 8, 0, 0}, (int[]){7, 3, 8, -1, -1, -1});
  expect_tokens(&d, 2, (int[]){7, 4, 2, 1, 3, 8}, (int[]){4, 2, 1, 3, 8, -1});
  CU_ASSERT(d.client[0] == 0 && d.client[1] == 0 && d.client[2] == 1);
  fl_dataset_close(&d);
  fl_args_set(&args, "pack", 0);
  d = load_good("text", path, &args);
  CU_ASSERT_EQUAL(d.n_train, 4);
  expect_tokens(&d, 1, (int[]){7, 5, 8, 0, 0, 0}, (int[]){5, 8, -1, -1, -1, -1});
  fl_dataset_close(&d);
}

/* A third of the king's three speeches, the last, is the test; of the fool's one none is. */
static void text_tests_by_time(void) {
  const char *path = write_text(fl_test_folder(), "play.txt", play);
  fl_args args = play_args(6, 0.4);
  fl_dataset d = load_good("text", path, &args);
  CU_ASSERT(d.n_train == 2 && d.n_test == 1 && d.n_client == 2);
  expect_tokens(&d, 2, (int[]){7, 3, 8, 0, 0, 0}, (int[]){3, 8, -1, -1, -1, -1});
  fl_dataset_close(&d);
  fl_args_set(&args, "test", 0.7);
  d = load_good("text", path, &args); /* d is said in the test only: unknown is 5, begin 6 */
  CU_ASSERT(d.n_test == 1 && d.tokens == 8);
  expect_tokens(&d, d.n_train, (int[]){6, 5, 7, 6, 3, 7}, (int[]){5, 7, 6, 3, 7, -1});
  fl_dataset_close(&d);
  fl_args_set(&args, "least", 2);
  d = load_good("text", path, &args);
  CU_ASSERT_EQUAL(d.n_client, 1);
  fl_dataset_close(&d);
  fl_args_set(&args, "least", 4);
  refuse("text", path, &args, FEDLANE_DATA, "play.txt", "nobody in it speaks 4 times");
}

static void text_takes_a_vocabulary(void) {
  const char *folder = fl_test_folder();
  char list[1024];
  snprintf(list, sizeof list, "%s", write_text(folder, "list", "dcb"));
  const char *path = write_text(folder, "play.txt", play);
  fl_args args = play_args(6, 0);
  fl_args_text(&args, "vocabulary", list);
  fl_dataset d = load_good("text", path, &args);
  CU_ASSERT_EQUAL(d.tokens, 7);
  expect_tokens(&d, 2, (int[]){5, 2, 4, 4, 3, 6}, (int[]){2, 4, 4, 3, 6, -1});
  fl_dataset_close(&d);
}

static void text_counts_words(void) {
  const char *folder = fl_test_folder();
  const char *path =
      write_text(folder, "play.txt", "A:\nto be, or not to be\n\nB:\nit's  not to\n");
  fl_args args = play_args(8, 0);
  fl_args_set(&args, "unit", 1);
  fl_args_set(&args, "words", 3);
  fl_dataset d = load_good("text", path, &args);
  /* to 1 (three times), be 2 and not 3 (twice); the rest unknown 4, begin 5, end 6 */
  CU_ASSERT_EQUAL(d.tokens, 7);
  expect_tokens(&d, 0, (int[]){5, 1, 2, 4, 4, 3, 1, 2}, (int[]){1, 2, 4, 4, 3, 1, 2, 6});
  expect_tokens(&d, 1, (int[]){5, 4, 3, 1, 6, 0, 0, 0}, (int[]){4, 3, 1, 6, -1, -1, -1, -1});
  fl_dataset_close(&d);
  char list[1024];
  snprintf(list, sizeof list, "%s", write_text(folder, "list", "it's 9\nto 8\n"));
  path = write_text(folder, "play.txt", "A:\nto be, or not to be\n\nB:\nit's  not to\n");
  fl_args_text(&args, "vocabulary", list);
  d = load_good("text", path, &args);
  expect_tokens(&d, 1, (int[]){4, 1, 3, 2, 5, 0, 0, 0}, (int[]){1, 3, 2, 5, -1, -1, -1, -1});
  fl_dataset_close(&d);
}

static void text_without_speakers(void) {
  const char *path = write_text(fl_test_folder(), "book.txt", "abcdefghij");
  fl_args args = play_args(4, 0.4);
  fl_args_set(&args, "speakers", 0);
  fl_args_set(&args, "clients", 2);
  fl_dataset d = load_good("text", path, &args);
  /* abc|de and fgh|ij: six letters are known, 7 is not, 8 begins, 9 ends. */
  CU_ASSERT(d.n_train == 2 && d.n_test == 2 && d.n_client == 2 && d.tokens == 10);
  expect_tokens(&d, 1, (int[]){8, 4, 5, 6}, (int[]){4, 5, 6, 9});
  expect_tokens(&d, 3, (int[]){8, 7, 7, 9}, (int[]){7, 7, 9, -1});
  fl_dataset_close(&d);
  char folder[512];
  snprintf(folder, sizeof folder, "%s", fl_test_folder());
  write_file(folder, "zero.txt", "a\0 b\0\0c", 8);
  fl_args words = play_args(4, 0);
  fl_args_set(&words, "speakers", 0);
  fl_args_set(&words, "clients", 1);
  fl_args_set(&words, "unit", 1);
  char zero[600];
  snprintf(zero, sizeof zero, "%s/zero.txt", folder);
  d = load_good("text", zero, &words);
  expect_tokens(&d, 0, (int[]){5, 1, 2, 3}, (int[]){1, 2, 3, 6});
  fl_dataset_close(&d);
  fl_args_set(&args, "clients", 6);
  refuse("text", path, &args, FEDLANE_DATA, "book.txt", "10 bytes are too few for 6 clients");
}

static void text_refuses(void) {
  const char *folder = fl_test_folder();
  fl_args args = play_args(4, 0);
  const char *path = write_text(folder, "play.txt", "A:\nx\n\n\nno name\nx\n\nB:\ny\n");
  refuse("text", path, &args, FEDLANE_DATA, "play.txt:5:", "begins with 'no name'");
  fl_dataset d = load_rest("text", path, &args);
  CU_ASSERT(d.n_client == 2 && d.skipped == 1);
  fl_dataset_close(&d);
  write_file(folder, "play.txt", "A:\nx\0y\n", 7);
  refuse("text", path, &args, FEDLANE_DATA, "play.txt:1:", "zero byte");
  refuse("text", write_text(folder, "play.txt", ""), &args, FEDLANE_DATA, "play.txt", "nobody");
  refuse("text", "/nowhere.txt", &args, FEDLANE_IO, "/nowhere.txt", "No such");
}

/* 309 names stand over speeches, ten of them over none at all. Who takes what lies between two line
 * feeds and two others for a speech counts 301: two plays begin after two blank lines, and their
 * first speakers, MARIANA and SAMPSON, get a line feed before their names there. */
static void text_reads_shakespeare(void) {
  const char *path = fl_test_data("tinyshakespeare/input.txt");
  if (!path) return;
  fl_args args = args_of("text");
  fl_dataset d = load_good("text", path, &args);
  CU_ASSERT(d.n_client == 299 && d.bytes && d.image.steps == 80 && d.n_test > d.n_train / 10);
  CU_ASSERT_EQUAL(d.tokens, 65 + 4);
  fl_dataset_close(&d);
  fl_args_set(&args, "least", 10);
  d = load_good("text", path, &args);
  CU_ASSERT_EQUAL(d.n_client, 145);
  fl_dataset_close(&d);
}

/* JSON */

static void json_is_read(void) {
  fl_json j;
  const char *path = write_text(fl_test_folder(), "a.json",
                                " {\"a\": [1, -2.5e1, true, null, NaN], "
                                "\"\\u00e9\\ud83d\\ude00\\n\" :{}, \"b\":[[\"x\"], 3]} ");
  const fl_json_event events[] = {
      FL_JSON_OBJECT, FL_JSON_KEY,        FL_JSON_ARRAY,  FL_JSON_NUMBER,    FL_JSON_NUMBER,
      FL_JSON_TRUE,   FL_JSON_NULL,       FL_JSON_NUMBER, FL_JSON_ARRAY_END, FL_JSON_KEY,
      FL_JSON_OBJECT, FL_JSON_OBJECT_END, FL_JSON_KEY,    FL_JSON_ARRAY};
  CU_ASSERT_EQUAL_FATAL(fl_json_open(path, &j), FEDLANE_OK);
  for (int i = 0; i < (int)(sizeof events / sizeof *events); i++) {
    CU_ASSERT_EQUAL(fl_json_next(&j), FEDLANE_OK);
    CU_ASSERT_EQUAL(j.event, events[i]);
    if (i == 4) CU_ASSERT_EQUAL(j.number, -25);
    if (i == 7) CU_ASSERT(isnan(j.number));
    if (i == 9) CU_ASSERT_STRING_EQUAL(j.text, "\xc3\xa9\xf0\x9f\x98\x80\n");
  }
  CU_ASSERT(fl_json_pass(&j) == FEDLANE_OK && j.event == FL_JSON_ARRAY_END && j.depth == 1);
  CU_ASSERT(fl_json_next(&j) == FEDLANE_OK && j.event == FL_JSON_OBJECT_END);
  CU_ASSERT(fl_json_next(&j) == FEDLANE_OK && j.event == FL_JSON_END);
  fl_json_close(&j);
}

static void json_is_refused(void) {
  const char *bad[] = {"",         "{",     "[1,]",      "{\"a\":1,}",    "{\"a\" 1}",
                       "{1:2}",    "[1 2]", "[\"\\x\"]", "[\"\\ud800\"]", "[1]]",
                       "[1] 2",    "[+1]",  "[0x1]",     "[\"a\nb\"]",    "[tru]",
                       "{\"a\":}", "[}",    "\"a",       "{\"a\"}",       "[-]"};
  const char *folder = fl_test_folder();
  for (int i = 0; i < (int)(sizeof bad / sizeof *bad); i++) {
    fl_json j;
    fl_status status = FEDLANE_OK;
    CU_ASSERT_EQUAL_FATAL(fl_json_open(write_text(folder, "a.json", bad[i]), &j), FEDLANE_OK);
    for (int k = 0; k < 10 && status == FEDLANE_OK; k++) {
      status = fl_json_next(&j);
      if (status == FEDLANE_OK && j.event == FL_JSON_END) break;
    }
    if (status != FEDLANE_DATA) printf("\n    taken: %s\n", bad[i]);
    CU_ASSERT_EQUAL(status, FEDLANE_DATA);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "a.json: byte "));
    fl_json_close(&j);
  }
  fl_json j;
  char path[1024];
  write_file(folder, "a.json", "[1\0005]", 5);
  snprintf(path, sizeof path, "%s/a.json", folder);
  CU_ASSERT_EQUAL_FATAL(fl_json_open(path, &j), FEDLANE_OK);
  CU_ASSERT(fl_json_next(&j) == FEDLANE_OK && fl_json_next(&j) == FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_json_next(&j), FEDLANE_DATA); /* the zero byte is part of no number */
  fl_json_close(&j);
}

/* leaf */

static const char two_users[] =
    "{\"users\": [\"u2\", \"u1\"], \"num_samples\": [2, 1], \"hierarchies\": [[\"a\"]],"
    " \"user_data\": {\"u2\": {\"x\": [[0.5, 1], [2, 3]], \"y\": [1, 4]},"
    " \"u1\": {\"y\": [0], \"x\": [[7, 8]]}}}";

static fl_args vectors_args(void) {
  fl_args args = args_of("leaf");
  fl_args_set(&args, "kind", 2);
  return args;
}

static void leaf_reads_folders(void) {
  char folder[512], train[600], test[600];
  snprintf(folder, sizeof folder, "%s", fl_test_folder());
  snprintf(train, sizeof train, "%s/train", folder);
  snprintf(test, sizeof test, "%s/test", folder);
  CU_ASSERT(fl_make_folder(train) == FEDLANE_OK && fl_make_folder(test) == FEDLANE_OK);
  write_text(train, "0.json", two_users);
  write_text(
      train, "1.json",
      "{\"users\":[\"u3\"],\"num_samples\":[1],\"user_data\":{\"u3\":{\"x\":[[5,6]],\"y\":[2]}}}");
  write_text(
      test, "0.json",
      "{\"users\":[\"u1\"],\"num_samples\":[1],\"user_data\":{\"u1\":{\"x\":[[9,9]],\"y\":[3]}}}");
  fl_args args = vectors_args();
  fl_dataset d = load_good("leaf", folder, &args);
  const float x[] = {0.5f, 1, 2, 3, 7, 8, 5, 6, 9, 9};
  const int32_t label[] = {1, 4, 0, 2, 3}, client[] = {0, 0, 1, 2};
  CU_ASSERT(d.n_train == 4 && d.n_test == 1 && d.n_client == 3 && d.classes == 5 && !d.bytes);
  CU_ASSERT(d.image.channels == 2 && memcmp(d.x, x, sizeof x) == 0);
  CU_ASSERT(memcmp(d.label, label, sizeof label) == 0);
  CU_ASSERT_EQUAL(memcmp(d.client, client, sizeof client), 0);
  fl_dataset_close(&d);
}

/* FEMNIST and Shakespeare as LEAF's scripts write them. */
static void leaf_reads_its_sets(void) {
  const char *folder = fl_test_folder();
  char *text = malloc(1 << 16);
  int at = sprintf(text,
                   "{\"users\": [\"f0_1\"], \"num_samples\": [1], \"user_data\": {\"f0_1\": "
                   "{\"x\": [[0.25");
  for (int i = 1; i < 784; i++) at += sprintf(text + at, ", 1.0");
  sprintf(text + at, "]], \"y\": [61]}}}");
  fl_args args = args_of("leaf");
  fl_dataset d = load_good("leaf", write_text(folder, "f.json", text), &args);
  CU_ASSERT(d.image.height == 28 && d.image.width == 28 && d.classes == 62 && d.label[0] == 61);
  CU_ASSERT(((float *)d.x)[0] == 0.25f && ((float *)d.x)[783] == 1);
  fl_dataset_close(&d);
  at = sprintf(text,
               "{\"users\": [\"ROMEO\"], \"num_samples\": [1], \"user_data\": {\"ROMEO\": "
               "{\"x\": [\"\\n ~");
  for (int i = 3; i < 80; i++) text[at++] = 'z';
  sprintf(text + at, "\"], \"y\": [\"}\"], \"raw\": {\"a\": [1]}}}}");
  fl_args_set(&args, "kind", 1);
  d = load_good("leaf", write_text(folder, "s.json", text), &args);
  const uint8_t *x = d.x;
  CU_ASSERT(d.bytes && d.tokens == 81 && d.classes == 80 && d.n_label == 1 && d.image.steps == 80);
  CU_ASSERT(x[0] == 0 && x[1] == 1 && x[2] == 80 && x[3] == 78 && x[79] == 78 && d.label[0] == 79);
  fl_dataset_close(&d);
  free(text);
}

static void leaf_refuses(void) {
  const char *folder = fl_test_folder();
  const struct {
    const char *data, *word, *other;
  } cases[] = {
      {"\"x\":[[1,2],[3]],\"y\":[0,1]", "user 'u', x of example 1", "more or fewer"},
      {"\"x\":[[1,1e39],[3,4]],\"y\":[0,1]", "user 'u', x of example 0", "not finite"},
      {"\"x\":[[1,2],[3,NaN]],\"y\":[0,1]", "user 'u', x of example 1", "not finite"},
      {"\"x\":[[1,2],[3,4]],\"y\":[0,-1]", "user 'u', y of example 1", "no label"},
      {"\"x\":[[1,2],[3,4]],\"y\":[0,0.5]", "user 'u', y of example 1", "no label"},
      {"\"x\":[[1,2],[3,4]],\"y\":[0]", "user 'u'", "2 examples in x and 1 in y"},
      {"\"x\":[[1,2]],\"y\":[0]", "user 'u' has 1 examples", "num_samples says 2"},
      {"\"x\":[\"a.jpg\"],\"y\":[0]", "a.json: byte", "CelebA"},
      {"\"x\":[[\"7\",\"text\"]],\"y\":[0]", "a.json: byte", "Sent140"},
      {"\"x\":[[1,2],[3,4]],\"y\":[0,1]}, \"v\":{", "a.json: byte", "not in 'users'"},
  };
  fl_args args = vectors_args();
  char text[512];
  for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i++) {
    snprintf(text, sizeof text,
             "{\"users\":[\"u\"],\"num_samples\":[2],\"user_data\":{\"u\":{%s}}}", cases[i].data);
    refuse("leaf", write_text(folder, "a.json", text), &args, FEDLANE_DATA, cases[i].word,
           cases[i].other);
  }
  snprintf(text, sizeof text, "{\"users\":[\"u\"],\"num_samples\":[2],\"user_data\":{\"u\":{%s}}}",
           "\"x\":[[1,2],[3]],\"y\":[0,1]");
  fl_dataset d = load_rest("leaf", write_text(folder, "a.json", text), &args);
  CU_ASSERT(d.n_train == 1 && d.skipped == 1 && d.classes == 1);
  fl_dataset_close(&d);
  snprintf(text, sizeof text, "{\"users\":[\"u\"],\"num_samples\":[2],\"user_data\":{\"u\":{%s}}}",
           "\"x\":[[NaN,2],[3,4]],\"y\":[0,1]");
  d = load_rest("leaf", write_text(folder, "a.json", text), &args);
  CU_ASSERT(d.n_train == 1 && d.skipped == 1 && d.label[0] == 1);
  fl_dataset_close(&d);
  memcpy(text, two_users, sizeof two_users);
  for (size_t n = 1; n + 1 < sizeof two_users; n++) {
    text[n] = '\0';
    refuse("leaf", write_text(folder, "a.json", text), &args, FEDLANE_DATA, "a.json", "");
    text[n] = two_users[n];
  }
}

static const fl_test tests[] = {
    {"text knows speakers", text_knows_speakers},
    {"text tests by time", text_tests_by_time},
    {"text takes a vocabulary", text_takes_a_vocabulary},
    {"text counts words", text_counts_words},
    {"text without speakers", text_without_speakers},
    {"text refuses", text_refuses},
    {"text reads Shakespeare", text_reads_shakespeare},
    {"JSON is read", json_is_read},
    {"JSON is refused", json_is_refused},
    {"leaf reads folders", leaf_reads_folders},
    {"leaf reads its sets", leaf_reads_its_sets},
    {"leaf refuses", leaf_refuses},
};

FL_SUITE_MAIN("text", tests)
