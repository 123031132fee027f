/* Keys: their files, the list of allowed ones, and who gets through a port that has them. */
#include "keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "port.h"
#include "suite.h"

enum { LONG = 20, PATH = 256 };

static void write_text(const char *path, const char *text, mode_t mode) {
  char part[PATH + 24];
  snprintf(part, sizeof part, "%s.part", path);
  FILE *file = fopen(part, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(file);
  fputs(text, file);
  fclose(file);
  chmod(part, mode);
  rename(part, path);
}

static void read_text(const char *path, size_t size, char *text) {
  FILE *file = fopen(path, "r");
  size_t n = file ? fread(text, 1, size - 1, file) : 0;
  text[n] = '\0';
  if (file) fclose(file);
}

static int mode_of(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 ? (int)(info.st_mode & 07777) : -1;
}

static fl_key_pair make(const char *name) {
  fl_key_pair pair;
  CU_ASSERT_EQUAL_FATAL(fl_keys_make(&pair), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_keys_save(&pair, fl_test_folder(), name), FEDLANE_OK);
  return pair;
}

static void pairs_are_saved_and_loaded(void) {
  char folder[PATH], key[PATH + 8], pub[PATH + 8], text[FL_KEY_CHARACTERS + 1];
  fl_key_pair pair, other, loaded;
  snprintf(folder, sizeof folder, "%s/new", fl_test_folder());
  snprintf(key, sizeof key, "%s/one.key", folder);
  snprintf(pub, sizeof pub, "%s/one.pub", folder);
  CU_ASSERT_EQUAL_FATAL(fl_keys_make(&pair), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_keys_make(&other), FEDLANE_OK);
  CU_ASSERT(strlen(pair.open) == 40 && strlen(pair.secret) == 40);
  CU_ASSERT_STRING_NOT_EQUAL(pair.secret, other.secret);
  mode_t mask = umask(0);
  CU_ASSERT_EQUAL_FATAL(fl_keys_save(&pair, folder, "one"), FEDLANE_OK);
  umask(mask);
  CU_ASSERT_EQUAL(mode_of(folder), 0700);
  CU_ASSERT_EQUAL(mode_of(key), 0600);
  CU_ASSERT_EQUAL(mode_of(pub), 0644);
  CU_ASSERT_EQUAL(fl_keys_load(key, &loaded), FEDLANE_OK);
  CU_ASSERT_STRING_EQUAL(loaded.open, pair.open);
  CU_ASSERT_STRING_EQUAL(loaded.secret, pair.secret);
  CU_ASSERT_EQUAL(fl_keys_load(pub, &loaded), FEDLANE_OK);
  CU_ASSERT_STRING_EQUAL(loaded.open, pair.open);
  CU_ASSERT_STRING_EQUAL(loaded.secret, "");
  CU_ASSERT_EQUAL(fl_keys_public(pub, text), FEDLANE_OK);
  CU_ASSERT_STRING_EQUAL(text, pair.open);
  CU_ASSERT_EQUAL(fl_keys_public(other.open, text), FEDLANE_OK);
  CU_ASSERT_STRING_EQUAL(text, other.open);
  CU_ASSERT_EQUAL(fl_keys_save(&other, folder, "one"), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "there already"));
  unlink(pub);
  CU_ASSERT_EQUAL(fl_keys_save(&other, folder, "one"), FEDLANE_USAGE);
  CU_ASSERT(access(pub, F_OK) != 0);
  CU_ASSERT_EQUAL(fl_keys_load(key, &loaded), FEDLANE_OK);
  CU_ASSERT_STRING_EQUAL(loaded.secret, pair.secret);
}

static void names_of_keys_are_checked(void) {
  static const char *const bad[] = {
      "",    "a/b",      "../a",
      ".a",  "-a",       "a b",
      "a\n", "\xc3\xa4", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
  fl_key_pair pair;
  CU_ASSERT_EQUAL_FATAL(fl_keys_make(&pair), FEDLANE_OK);
  for (int i = 0; i < (int)(sizeof bad / sizeof *bad); i++) {
    CU_ASSERT_EQUAL(fl_keys_save(&pair, fl_test_folder(), bad[i]), FEDLANE_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "the name of a key is"));
    CU_ASSERT_PTR_NULL(strstr(fedlane_error(), pair.secret));
  }
  CU_ASSERT_EQUAL(fl_keys_save(&pair, fl_test_folder(), bad[8] + 1), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_keys_save(&pair, "/proc/none/of/it", "a"), FEDLANE_IO);
}

static void expect_bad_file(const char *path, const char *words, const char *secret) {
  fl_key_pair loaded;
  CU_ASSERT_EQUAL(fl_keys_load(path, &loaded), FEDLANE_USAGE);
  bool good = strstr(fedlane_error(), path) && strstr(fedlane_error(), words);
  if (!good) printf("\n%s\n", fedlane_error());
  CU_ASSERT(good);
  CU_ASSERT_PTR_NULL(strstr(fedlane_error(), secret));
  CU_ASSERT_STRING_EQUAL(loaded.secret, "");
}

/* Secrets never get into a sentence, wherever they stand. */
static void damaged_files_are_refused(void) {
  fl_key_pair pair = make("whole"), other = make("other"), loaded;
  char path[PATH], text[5000];
  snprintf(path, sizeof path, "%s/damaged", fl_test_folder());
  snprintf(text, sizeof text, "# a note\n\nfedlane public: %s\r\nfedlane secret: %s\n", pair.open,
           pair.secret);
  write_text(path, text, 0600);
  CU_ASSERT_EQUAL(fl_keys_load(path, &loaded), FEDLANE_OK);
  for (int mode = 0; mode < 6; mode++) {
    chmod(path, 0600 | 1 << mode);
    expect_bad_file(path, "say chmod 600", pair.secret);
  }
  snprintf(text, sizeof text, "fedlane secret: %s\n", pair.secret);
  write_text(path, text, 0600);
  expect_bad_file(path, "no public key", pair.secret);
  snprintf(text, sizeof text, "fedlane public: %s\n%s\n", pair.open, pair.secret);
  write_text(path, text, 0600);
  expect_bad_file(path, ":2: a line is", pair.secret);
  snprintf(text, sizeof text, "fedlane public: %s\nfedlane secret: %sx\n", pair.open, pair.secret);
  write_text(path, text, 0600);
  expect_bad_file(path, ":2: a key has 40", pair.secret);
  snprintf(text, sizeof text, "fedlane public: %.39s\n", pair.open);
  write_text(path, text, 0600);
  expect_bad_file(path, ":1: a key has 40", pair.secret);
  snprintf(text, sizeof text, "fedlane public: %s\nfedlane secret: %s\n", other.open, pair.secret);
  write_text(path, text, 0600);
  expect_bad_file(path, "not of one pair", pair.secret);
  memset(text, 'a', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  write_text(path, text, 0600);
  expect_bad_file(path, "not a file of keys", pair.secret);
  CU_ASSERT_EQUAL(fl_keys_load(fl_test_folder(), &loaded), FEDLANE_IO);
  CU_ASSERT_EQUAL(fl_keys_load("/none/such", &loaded), FEDLANE_IO);
}

static void lists_are_read_and_read_again(void) {
  char path[PATH], text[512], name[65] = "";
  fl_key_pair a = make("la"), b = make("lb"), c = make("lc");
  fl_allow *allow = NULL;
  bool changed = true;
  snprintf(path, sizeof path, "%s/allowed", fl_test_folder());
  snprintf(text, sizeof text, "# who may come\n%s alice, of the lab \n\n  fedlane public: %s bob\n",
           a.open, b.open);
  write_text(path, text, 0644);
  CU_ASSERT_EQUAL_FATAL(fl_allow_open(path, &allow), FEDLANE_OK);
  CU_ASSERT(fl_allow_has(allow, a.open, name));
  CU_ASSERT_STRING_EQUAL(name, "alice, of the lab");
  CU_ASSERT(fl_allow_has(allow, b.open, name));
  CU_ASSERT_STRING_EQUAL(name, "bob");
  CU_ASSERT(!fl_allow_has(allow, c.open, NULL) && !fl_allow_has(allow, "", NULL));
  CU_ASSERT(fl_allow_refresh(allow, &changed) == FEDLANE_OK && !changed);
  /* A # before a key takes it out. */
  snprintf(text, sizeof text, "#%s alice\n%s\n%s bob\n", a.open, c.open, b.open);
  write_text(path, text, 0644);
  CU_ASSERT(fl_allow_refresh(allow, &changed) == FEDLANE_OK && changed);
  CU_ASSERT(!fl_allow_has(allow, a.open, NULL) && fl_allow_has(allow, c.open, name));
  CU_ASSERT_STRING_EQUAL(name, "");
  /* A list that cannot be read changes nothing. */
  write_text(path, "nonsense\n", 0644);
  CU_ASSERT_EQUAL(fl_allow_refresh(allow, &changed), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "allowed:1: a line is a public key"));
  CU_ASSERT(!changed && fl_allow_has(allow, b.open, NULL));
  unlink(path);
  CU_ASSERT_EQUAL(fl_allow_refresh(allow, &changed), FEDLANE_IO);
  CU_ASSERT(!changed && fl_allow_has(allow, b.open, NULL));
  write_text(path, "", 0644);
  CU_ASSERT(fl_allow_refresh(allow, &changed) == FEDLANE_OK && changed);
  CU_ASSERT(!fl_allow_has(allow, b.open, NULL));
  fl_allow_close(&allow);
  fl_allow_close(&allow);
  CU_ASSERT_EQUAL(fl_allow_open("/none/such", &allow), FEDLANE_IO);
  CU_ASSERT_PTR_NULL(allow);
}

static void folders_are_lists(void) {
  char folder[PATH], path[PATH + 16], name[65] = "";
  fl_key_pair a, b;
  fl_allow *allow = NULL;
  bool changed = false;
  snprintf(folder, sizeof folder, "%s/list", fl_test_folder());
  CU_ASSERT_EQUAL_FATAL(fl_keys_make(&a), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_keys_make(&b), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_keys_save(&a, folder, "a"), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_allow_open(folder, &allow), FEDLANE_OK);
  CU_ASSERT(fl_allow_has(allow, a.open, name) && !fl_allow_has(allow, b.open, NULL));
  CU_ASSERT_STRING_EQUAL(name, "a");
  snprintf(path, sizeof path, "%s/b.pub", folder);
  write_text(path, b.open, 0644);
  CU_ASSERT(fl_allow_refresh(allow, &changed) == FEDLANE_OK && changed);
  CU_ASSERT(fl_allow_has(allow, b.open, name));
  CU_ASSERT_STRING_EQUAL(name, "b");
  unlink(path);
  CU_ASSERT(fl_allow_refresh(allow, &changed) == FEDLANE_OK && changed);
  CU_ASSERT(fl_allow_has(allow, a.open, NULL) && !fl_allow_has(allow, b.open, NULL));
  fl_allow_close(&allow);
}

/* A coordinator with keys, its list, and workers. */
typedef struct rig {
  fl_port *server;
  fl_key_pair coordinator, good, bad;
  char allow[PATH], server_key[PATH], server_pub[PATH], good_key[PATH], bad_key[PATH];
} rig;

static void allow_only(const rig *r, const fl_key_pair *pair) {
  char text[128];
  snprintf(text, sizeof text, "# %s\n", pair ? "one" : "nobody");
  if (pair) snprintf(text, sizeof text, "%s worker\n", pair->open);
  write_text(r->allow, text, 0644);
}

static void open_rig(rig *r, const char *address) {
  const char *folder = fl_test_folder();
  fl_key_pair *pairs[] = {&r->coordinator, &r->good, &r->bad};
  static const char *const names[] = {"s", "g", "b"};
  for (int i = 0; i < 3; i++) {
    CU_ASSERT_EQUAL_FATAL(fl_keys_make(pairs[i]), FEDLANE_OK);
    CU_ASSERT_EQUAL_FATAL(fl_keys_save(pairs[i], folder, names[i]), FEDLANE_OK);
  }
  snprintf(r->allow, PATH, "%s/allow", folder);
  snprintf(r->server_key, PATH, "%s/s.key", folder);
  snprintf(r->server_pub, PATH, "%s/s.pub", folder);
  snprintf(r->good_key, PATH, "%s/g.key", folder);
  snprintf(r->bad_key, PATH, "%s/b.key", folder);
  allow_only(r, &r->good);
  const fl_port_options options = {.security = {.own = r->server_key, .allow = r->allow}};
  CU_ASSERT_EQUAL_FATAL(fl_port_bind(address, &options, &r->server), FEDLANE_OK);
}

static fl_port *join(const rig *r, const char *own, const char *server) {
  const fl_port_options options = {.security = {.own = own, .server = server}};
  fl_port *peer = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_port_connect(fl_port_address(r->server), &options, &peer), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_port_join_pipeline(peer, fl_port_pipeline(r->server)), FEDLANE_OK);
  fl_port_send(peer, NULL, false, 0, "hello", 5, NULL);
  fl_port_send(peer, NULL, true, 0, "update", 6, NULL);
  return peer;
}

static bool hear(fl_port *port, double seconds, const char *head, fl_letter *out) {
  bool any = false;
  CU_ASSERT_EQUAL_FATAL(fl_port_receive(port, seconds, out, &any), FEDLANE_OK);
  return any && fl_blob_size(out->head) == strlen(head) &&
         memcmp(fl_blob_at(out->head), head, strlen(head)) == 0;
}

/* Both of a worker's sockets get through, and letters name its key. */
static fl_route meet(rig *r) {
  fl_route route = {0};
  for (int i = 0; i < 2; i++) {
    fl_letter letter;
    bool any = false;
    CU_ASSERT_EQUAL_FATAL(fl_port_receive(r->server, LONG, &letter, &any), FEDLANE_OK);
    CU_ASSERT_FATAL(any);
    CU_ASSERT_STRING_EQUAL(letter.key, r->good.open);
    CU_ASSERT(letter.route.n == 0 || strcmp(letter.route.key, r->good.open) == 0);
    if (letter.route.n) route = letter.route;
    fl_letter_close(&letter);
  }
  CU_ASSERT(route.n > 0);
  return route;
}

static const char *address_of(int link) {
  static char text[PATH];
  if (link == 0) return "tcp://127.0.0.1:0";
  snprintf(text, sizeof text, "ipc://%s/socket", fl_test_folder());
  return text;
}

static void only_allowed_keys_get_in(void) {
  for (int link = 0; link < 2; link++) {
    rig r;
    fl_letter letter;
    open_rig(&r, address_of(link));
    fl_port *unknown = join(&r, r.bad_key, r.server_pub);
    fl_port *misled = join(&r, r.good_key, r.bad.open);
    fl_port *bare = join(&r, NULL, NULL);
    CU_ASSERT(!hear(r.server, 0.3, "", &letter));
    fl_port *peer = join(&r, r.good_key, r.coordinator.open);
    fl_route route = meet(&r);
    CU_ASSERT_EQUAL(fl_port_send(r.server, &route, false, 1, "welcome", 7, NULL), FL_SENT);
    CU_ASSERT(hear(peer, LONG, "welcome", &letter));
    CU_ASSERT(letter.key[0] == '\0');
    fl_letter_close(&letter);
    CU_ASSERT(!hear(r.server, 0.1, "", &letter));
    CU_ASSERT(!hear(unknown, 0, "", &letter) && !hear(misled, 0, "", &letter) &&
              !hear(bare, 0, "", &letter));
    fl_port_close(&unknown, 0);
    fl_port_close(&misled, 0);
    fl_port_close(&bare, 0);
    fl_port_send(peer, NULL, false, 0, "last", 4, NULL);
    fl_port_close(&peer, LONG);
    CU_ASSERT(hear(r.server, LONG, "last", &letter));
    fl_letter_close(&letter);
    fl_port_close(&r.server, 0);
  }
}

/* A key that is taken out is cut off in the midst of its connection, both ways, and one that is put
 * in again gets in again. */
static void revoked_keys_are_cut_off(void) {
  rig r;
  fl_letter letter;
  open_rig(&r, address_of(0));
  fl_port *peer = join(&r, r.good_key, r.server_pub);
  fl_route route = meet(&r);
  allow_only(&r, NULL);
  fl_sent sent = FL_SENT;
  for (int i = 0; i < 2000 && sent == FL_SENT; i++) {
    sent = fl_port_send(r.server, &route, false, 0, "x", 1, NULL);
    usleep(10000);
  }
  CU_ASSERT_EQUAL(sent, FL_SENT_GONE);
  fl_port_send(peer, NULL, false, 0, "hello", 5, NULL);
  fl_port_send(peer, NULL, true, 0, "update", 6, NULL);
  for (int i = 0; i < 2000 && fl_port_dropped(r.server) < 2; i++)
    CU_ASSERT(!hear(r.server, 0.01, "", &letter));
  CU_ASSERT_EQUAL(fl_port_dropped(r.server), 2);
  /* Nor may it come anew. */
  fl_port *again = join(&r, r.good_key, r.server_pub);
  CU_ASSERT(!hear(r.server, 0.3, "", &letter));
  CU_ASSERT_EQUAL(fl_port_dropped(r.server), 2);
  allow_only(&r, &r.good);
  (void)meet(&r);
  fl_port_close(&again, 0);
  fl_port_close(&peer, 0);
  fl_port_close(&r.server, 0);
}

static void expect_refusal(bool bind, const fl_security *security, fl_status status,
                           const char *words, const char *secret) {
  const fl_port_options options = {.security = *security};
  const char *address = bind ? "tcp://127.0.0.1:0" : "tcp://127.0.0.1:7700";
  fl_port *port = NULL;
  CU_ASSERT_EQUAL(
      bind ? fl_port_bind(address, &options, &port) : fl_port_connect(address, &options, &port),
      status);
  bool good = strstr(fedlane_error(), words);
  if (!good) printf("\n%s\n", fedlane_error());
  CU_ASSERT(good);
  CU_ASSERT_PTR_NULL(strstr(fedlane_error(), secret));
  CU_ASSERT_PTR_NULL(port);
}

static void keys_come_in_twos(void) {
  rig r;
  open_rig(&r, address_of(0));
  const char *secret = r.good.secret;
  expect_refusal(true, &(fl_security){.own = r.good_key}, FEDLANE_USAGE, "lets nobody in", secret);
  expect_refusal(true, &(fl_security){.allow = r.allow}, FEDLANE_USAGE, "fedlane keygen", secret);
  expect_refusal(true, &(fl_security){.own = r.server_pub, .allow = r.allow}, FEDLANE_USAGE,
                 "no secret key", secret);
  expect_refusal(true, &(fl_security){.own = r.good_key, .allow = "/none/such"}, FEDLANE_IO,
                 "/none/such", secret);
  expect_refusal(true, &(fl_security){.own = r.good_key, .allow = r.good_key}, FEDLANE_USAGE,
                 ":3: a line is", secret);
  expect_refusal(false, &(fl_security){.own = r.good_key}, FEDLANE_USAGE,
                 "coordinator's public key", secret);
  expect_refusal(false, &(fl_security){.server = r.server_pub}, FEDLANE_USAGE, "a key of one's own",
                 secret);
  expect_refusal(false, &(fl_security){.own = r.good_key, .server = "nonsense"}, FEDLANE_IO,
                 "nonsense", secret);
  chmod(r.good_key, 0644);
  expect_refusal(false, &(fl_security){.own = r.good_key, .server = r.server_pub}, FEDLANE_USAGE,
                 "say chmod 600", secret);
  fl_port_close(&r.server, 0);
}

/* Keys make addresses that others can reach usable; in the process itself there are none. */
static void keys_open_other_addresses(void) {
  rig r, within;
  open_rig(&r, "tcp://*:0");
  CU_ASSERT_EQUAL(strncmp(fl_port_address(r.server), "tcp://*:", 8), 0);
  char address[64];
  const fl_port_options options = {.security = {.own = r.good_key, .server = r.server_pub}};
  fl_port *peer = NULL;
  fl_letter letter;
  snprintf(address, sizeof address, "tcp://localhost:%s", fl_port_address(r.server) + 8);
  CU_ASSERT_EQUAL_FATAL(fl_port_connect(address, &options, &peer), FEDLANE_OK);
  fl_port_send(peer, NULL, false, 0, "hello", 5, NULL);
  CU_ASSERT(hear(r.server, LONG, "hello", &letter));
  fl_letter_close(&letter);
  fl_port_close(&peer, 0);
  fl_port_close(&r.server, 0);
  open_rig(&within, "loopback://keys");
  peer = join(&within, NULL, NULL);
  CU_ASSERT(hear(within.server, LONG, "hello", &letter) && letter.key[0] == '\0');
  fl_letter_close(&letter);
  fl_port_close(&peer, 0);
  fl_port_close(&within.server, 0);
}

static int call(const char *folder, const char *words, char *out, size_t size) {
  char command[1024], path[PATH];
  snprintf(path, sizeof path, "%s/said", folder);
  snprintf(command, sizeof command, "cd %s && %s keygen %s > %s 2>&1", folder, FEDLANE_PROGRAM,
           words, path);
  int status = system(command);
  read_text(path, size, out);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_program_makes_keys(void) {
  const char *folder = fl_test_folder();
  char out[4096], path[PATH];
  fl_key_pair pair;
  CU_ASSERT_EQUAL(call(folder, "worker1", out, sizeof out), 0);
  snprintf(path, sizeof path, "%s/keys/worker1.key", folder);
  CU_ASSERT_EQUAL_FATAL(fl_keys_load(path, &pair), FEDLANE_OK);
  CU_ASSERT_EQUAL(mode_of(path), 0600);
  CU_ASSERT_PTR_NOT_NULL(strstr(out, pair.open));
  CU_ASSERT_PTR_NULL(strstr(out, pair.secret));
  int lines = 0;
  for (const char *c = out; *c; c++) lines += *c == '\n';
  CU_ASSERT_EQUAL(lines, 3);
  CU_ASSERT_EQUAL(call(folder, "worker1", out, sizeof out), 2);
  CU_ASSERT_PTR_NOT_NULL(strstr(out, "there already"));
  CU_ASSERT_EQUAL(call(folder, "--folder other worker1", out, sizeof out), 0);
  snprintf(path, sizeof path, "%s/other/worker1.pub", folder);
  CU_ASSERT_EQUAL(fl_keys_load(path, &pair), FEDLANE_OK);
  CU_ASSERT_EQUAL(call(folder, "", out, sizeof out), 2);
  CU_ASSERT_EQUAL(call(folder, "a b", out, sizeof out), 0);
  snprintf(path, sizeof path, "%s/keys/b.key", folder);
  CU_ASSERT_EQUAL(fl_keys_load(path, &pair), FEDLANE_OK);
  CU_ASSERT_EQUAL(call(folder, "c b d", out, sizeof out), 2);
  CU_ASSERT_EQUAL(call(folder, "a/b", out, sizeof out), 2);
  CU_ASSERT_EQUAL(call(folder, "a --folder", out, sizeof out), 2);
  CU_ASSERT_EQUAL(call(folder, "a --fodler x", out, sizeof out), 2);
  CU_ASSERT_PTR_NOT_NULL(strstr(out, "no option '--fodler'"));
  CU_ASSERT_EQUAL(call(folder, "a --folder /proc/none", out, sizeof out), 1);
}

static const fl_test tests[] = {
    {"pairs are saved and loaded", pairs_are_saved_and_loaded},
    {"names of keys are checked", names_of_keys_are_checked},
    {"damaged files are refused", damaged_files_are_refused},
    {"lists are read, and read again", lists_are_read_and_read_again},
    {"folders are lists", folders_are_lists},
    {"only allowed keys get in", only_allowed_keys_get_in},
    {"revoked keys are cut off", revoked_keys_are_cut_off},
    {"keys come in twos", keys_come_in_twos},
    {"keys open other addresses", keys_open_other_addresses},
    {"the program makes keys", the_program_makes_keys},
};

FL_SUITE_MAIN("keys", tests)
