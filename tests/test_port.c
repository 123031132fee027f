/* Ports: both ways over every link, what is refused, and what strangers can do to an open one. */
#include "port.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "raw_peer.h"
#include "suite.h"

enum { LINKS = 3, LONG = 20 }; /* LONG: seconds that are never waited for in full */

static const fl_port_options plain = {.patience = 30};

/* A fresh address of each link. */
static const char *fresh(int link) {
  static char text[256];
  static int count;
  count++;
  if (link == 0) snprintf(text, sizeof text, "loopback://test-%d", count);
  if (link == 1) snprintf(text, sizeof text, "ipc://%s/socket-%d", fl_test_folder(), count);
  if (link == 2) snprintf(text, sizeof text, "tcp://127.0.0.1:0");
  return text;
}

static void open_pair(int link, const fl_port_options *options, fl_port **server, fl_port **peer) {
  CU_ASSERT_EQUAL_FATAL(fl_port_bind(fresh(link), options, server), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_port_connect(fl_port_address(*server), options, peer), FEDLANE_OK);
}

static fl_blob *blob_of(const void *bytes, size_t n) {
  fl_blob *blob = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_blob_open(n, &blob), FEDLANE_OK);
  if (n) memcpy(fl_blob_at(blob), bytes, n);
  return blob;
}

static bool blob_is(const fl_blob *blob, const void *bytes, size_t n) {
  return blob && fl_blob_size(blob) == n && memcmp(fl_blob_at(blob), bytes, n) == 0;
}

static fl_sent say(fl_port *port, const fl_route *route, const char *head) {
  return fl_port_send(port, route, false, 1, head, strlen(head), NULL);
}

static void expect_letter(fl_port *port, const char *head, fl_letter *out) {
  bool any = false;
  CU_ASSERT_EQUAL_FATAL(fl_port_receive(port, LONG, out, &any), FEDLANE_OK);
  CU_ASSERT_FATAL(any);
  CU_ASSERT(blob_is(out->head, head, strlen(head)));
}

static void expect_silence(fl_port *port, double seconds) {
  fl_letter letter;
  bool any = true;
  CU_ASSERT_EQUAL(fl_port_receive(port, seconds, &letter, &any), FEDLANE_OK);
  CU_ASSERT(!any && !letter.head && !letter.body);
}

/* The peer says hello; its route. */
static fl_route meet(fl_port *server, fl_port *peer) {
  fl_letter letter;
  CU_ASSERT_EQUAL(say(peer, NULL, "hello"), FL_SENT);
  expect_letter(server, "hello", &letter);
  CU_ASSERT(letter.route.n > 0 && !letter.key[0] && !letter.body);
  fl_route route = letter.route;
  fl_letter_close(&letter);
  return route;
}

static void letters_go_both_ways(void) {
  static char bytes[FL_CHUNK_BYTES];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 31 + i / 977);
  for (int link = 0; link < LINKS; link++) {
    fl_port *server = NULL, *peer = NULL;
    fl_letter letter;
    open_pair(link, &plain, &server, &peer);
    fl_route route = meet(server, peer);
    CU_ASSERT_EQUAL(say(server, &route, "welcome"), FL_SENT);
    expect_letter(peer, "welcome", &letter);
    CU_ASSERT(letter.route.n == 0 && !letter.body);
    fl_letter_close(&letter);
    for (size_t n = 0; n <= sizeof bytes; n = n == 0 ? 1 : n * 1024) {
      CU_ASSERT_EQUAL(fl_port_send(server, &route, false, 1, "down", 4, blob_of(bytes, n)),
                      FL_SENT);
      expect_letter(peer, "down", &letter);
      CU_ASSERT(blob_is(letter.body, bytes, n));
      /* What has arrived can be sent on as it is. */
      fl_blob *body = letter.body;
      letter.body = NULL;
      fl_letter_close(&letter);
      CU_ASSERT_EQUAL(fl_port_send(peer, NULL, false, 1, "up", 2, body), FL_SENT);
      expect_letter(server, "up", &letter);
      CU_ASSERT(blob_is(letter.body, bytes, n));
      CU_ASSERT(memcmp(&letter.route, &route, sizeof route) == 0);
      fl_letter_close(&letter);
    }
    CU_ASSERT_EQUAL(fl_port_dropped(server), 0);
    fl_port_close(&peer, 0);
    fl_port_close(&server, 0);
  }
}

static void the_pipeline_is_a_second_way(void) {
  for (int link = 0; link < LINKS; link++) {
    fl_port *server = NULL, *peer = NULL;
    fl_letter letter;
    open_pair(link, &plain, &server, &peer);
    CU_ASSERT_EQUAL(fl_port_send(peer, NULL, true, 0, "x", 1, NULL), FL_SENT_GONE);
    CU_ASSERT_EQUAL_FATAL(fl_port_join_pipeline(peer, fl_port_pipeline(server)), FEDLANE_OK);
    CU_ASSERT_EQUAL(fl_port_send(peer, NULL, true, 1, "update", 6, blob_of("abc", 3)), FL_SENT);
    expect_letter(server, "update", &letter);
    CU_ASSERT(letter.route.n == 0 && blob_is(letter.body, "abc", 3));
    fl_letter_close(&letter);
    fl_port_close(&peer, 0);
    fl_port_close(&server, 0);
  }
}

/* Neither way is shut out by the other when both are always full. */
static void control_comes_first_but_not_for_ever(void) {
  enum { EACH = 120 }; /* a pipeline holds 128 */
  fl_port *server = NULL, *peer = NULL;
  open_pair(0, &plain, &server, &peer);
  CU_ASSERT_EQUAL_FATAL(fl_port_join_pipeline(peer, fl_port_pipeline(server)), FEDLANE_OK);
  for (int i = 0; i < EACH; i++) {
    CU_ASSERT_EQUAL(fl_port_send(peer, NULL, false, 1, "c", 1, NULL), FL_SENT);
    CU_ASSERT_EQUAL(fl_port_send(peer, NULL, true, 1, "p", 1, NULL), FL_SENT);
  }
  int first = -1, control = 0;
  for (int i = 0; i < 2 * EACH; i++) {
    fl_letter letter;
    bool any = false;
    CU_ASSERT_EQUAL_FATAL(fl_port_receive(server, LONG, &letter, &any), FEDLANE_OK);
    CU_ASSERT_FATAL(any);
    control += letter.route.n > 0;
    if (letter.route.n == 0 && first < 0) first = i;
    fl_letter_close(&letter);
  }
  CU_ASSERT_EQUAL(first, 64);
  CU_ASSERT_EQUAL(control, EACH);
  fl_port_close(&peer, 0);
  fl_port_close(&server, 0);
}

static void blobs_are_shared(void) {
  for (int link = 0; link < LINKS; link++) {
    fl_port *server = NULL, *peer[3] = {NULL};
    fl_route route[3];
    fl_letter letter;
    open_pair(link, &plain, &server, &peer[0]);
    for (int i = 0; i < 3; i++) {
      if (i) fl_port_connect(fl_port_address(server), &plain, &peer[i]);
      route[i] = meet(server, peer[i]);
    }
    fl_blob *model = blob_of("the model of a round, encoded once", 35);
    for (int i = 0; i < 3; i++) {
      fl_blob *holder = NULL;
      CU_ASSERT_EQUAL(fl_blob_share(model, &holder), FEDLANE_OK);
      CU_ASSERT_PTR_EQUAL(fl_blob_at(holder), fl_blob_at(model));
      CU_ASSERT_EQUAL(fl_port_send(server, &route[i], false, 1, "chunk", 5, holder), FL_SENT);
    }
    fl_blob_close(&model);
    CU_ASSERT_PTR_NULL(model);
    for (int i = 0; i < 3; i++) {
      expect_letter(peer[i], "chunk", &letter);
      CU_ASSERT(blob_is(letter.body, "the model of a round, encoded once", 35));
      fl_letter_close(&letter);
      fl_port_close(&peer[i], 0);
    }
    fl_port_close(&server, 0);
  }
}

/* Told at the latest when the connection's end has been noticed. */
static void a_peer_that_left_cannot_be_reached(void) {
  for (int link = 0; link < LINKS; link++) {
    fl_port *server = NULL, *peer = NULL;
    fl_route nobody = {.n = 3, .at = {'a', 'b', 'c'}};
    open_pair(link, &plain, &server, &peer);
    fl_route route = meet(server, peer);
    CU_ASSERT_EQUAL(say(server, &nobody, "are you there"), FL_SENT_GONE);
    fl_port_close(&peer, 0);
    fl_sent sent = FL_SENT;
    for (int i = 0; i < 2000 && sent != FL_SENT_GONE; i++) {
      sent = say(server, &route, "are you there");
      if (sent != FL_SENT_GONE) usleep(10000);
    }
    CU_ASSERT_EQUAL(sent, FL_SENT_GONE);
    CU_ASSERT_EQUAL(fl_port_send(server, &route, false, 1, "x", 1, blob_of("body", 4)),
                    FL_SENT_GONE);
    CU_ASSERT_EQUAL(fl_port_send(server, NULL, false, 1, "x", 1, blob_of("body", 4)), FL_SENT_GONE);
    fl_port_close(&server, 0);
  }
}

static void a_full_queue_is_told(void) {
  const fl_port_options small = {.queue = 2};
  for (int link = 0; link < LINKS; link++) {
    fl_port *server = NULL, *peer = NULL, *away = NULL;
    open_pair(link, &small, &server, &peer);
    fl_route route = meet(server, peer);
    static char bytes[FL_CHUNK_BYTES];
    fl_blob *body = blob_of(bytes, sizeof bytes);
    fl_sent sent = FL_SENT;
    int taken = -1;
    for (; sent == FL_SENT && taken < 1000; taken++) {
      fl_blob *holder = NULL;
      fl_blob_share(body, &holder);
      sent = fl_port_send(server, &route, false, 0.2, "chunk", 5, holder);
    }
    CU_ASSERT_EQUAL(sent, FL_SENT_FULL);
    CU_ASSERT(taken > 0);
    CU_ASSERT_EQUAL(fl_port_send(server, &route, false, 0, "chunk", 5, NULL), FL_SENT_FULL);
    for (int i = 0; i < taken; i++) {
      fl_letter letter;
      expect_letter(peer, "chunk", &letter);
      CU_ASSERT_EQUAL(fl_blob_size(letter.body), sizeof bytes);
      fl_letter_close(&letter);
    }
    CU_ASSERT_EQUAL(fl_port_send(server, &route, false, LONG, "again", 5, NULL), FL_SENT);
    fl_blob_close(&body);
    fl_port_close(&peer, 0);
    fl_port_close(&server, 0);
    /* A coordinator that is not there yet takes as much as the queue holds. */
    CU_ASSERT_EQUAL_FATAL(
        fl_port_connect(link == 2 ? "tcp://127.0.0.1:1" : fresh(link), &small, &away), FEDLANE_OK);
    for (sent = FL_SENT, taken = 0; sent == FL_SENT && taken < 100; taken++)
      sent = fl_port_send(away, NULL, false, 0, "hello", 5, NULL);
    CU_ASSERT_EQUAL(sent, FL_SENT_FULL);
    fl_port_close(&away, 0);
  }
}

/* The connection that carries one is closed, and made anew. */
static void long_frames_are_cut_off(void) {
  for (int link = 1; link < LINKS; link++) {
    fl_port *server = NULL, *peer = NULL;
    fl_blob *body = NULL;
    open_pair(link, &plain, &server, &peer);
    fl_route route = meet(server, peer);
    CU_ASSERT_EQUAL_FATAL(fl_blob_open(FL_FRAME_BYTES + 1, &body), FEDLANE_OK);
    memset(fl_blob_at(body), 1, fl_blob_size(body));
    CU_ASSERT_EQUAL(fl_port_send(peer, NULL, false, 1, "long", 4, body), FL_SENT);
    fl_sent sent = FL_SENT;
    for (int i = 0; i < 2000 && sent != FL_SENT_GONE; i++) {
      expect_silence(server, 0.01);
      sent = say(server, &route, "?");
    }
    CU_ASSERT_EQUAL(sent, FL_SENT_GONE);
    fl_route again = meet(server, peer);
    CU_ASSERT(memcmp(&again, &route, sizeof route) != 0);
    fl_port_close(&peer, 0);
    fl_port_close(&server, 0);
  }
}

static void on_alarm(int signal) { (void)signal; }

static void a_signal_ends_the_waiting(void) {
  const struct sigaction act = {.sa_handler = on_alarm};
  struct sigaction before;
  fl_port *server = NULL;
  struct timespec start, end;
  sigaction(SIGALRM, &act, &before);
  CU_ASSERT_EQUAL_FATAL(fl_port_bind(fresh(0), &plain, &server), FEDLANE_OK);
  clock_gettime(CLOCK_MONOTONIC, &start);
  ualarm(50000, 0);
  expect_silence(server, 600);
  clock_gettime(CLOCK_MONOTONIC, &end);
  CU_ASSERT(end.tv_sec - start.tv_sec < 300);
  fl_port_close(&server, 0);
  sigaction(SIGALRM, &before, NULL);
}

static void expect_refusal(const char *address, bool bind, fl_status status, const char *words) {
  fl_port *port = NULL;
  fl_status got =
      bind ? fl_port_bind(address, &plain, &port) : fl_port_connect(address, &plain, &port);
  if (got != status || !strstr(fedlane_error(), words))
    printf("\n%s: %d, %s\n", address, got, fedlane_error());
  CU_ASSERT_EQUAL(got, status);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), words));
  CU_ASSERT_PTR_NULL(port);
}

static void wrong_addresses_are_explained(void) {
  const struct {
    const char *address, *words;
  } both[] = {
      {"127.0.0.1:7700", "an address is LINK://WHERE"},
      {"tpc://127.0.0.1:7700", "there is no link 'tpc'; an address begins with one of loopback://"},
      {"carrier://pigeon", "begins with one of loopback://, ipc://, tcp://"},
      {"://x", "there is no link ''"},
      {"loopback://", "a name has 1 to 64 letters"},
      {"loopback://a b", "a name has 1 to 64 letters"},
      {"loopback://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
       "a name has 1 to 64 letters"},
      {"ipc://", "a path of a file"},
      {"ipc://@hidden", "a path of a file"},
      {"ipc:///tmp/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
       "characters, of at most 99"},
      {"tcp://127.0.0.1", "a host and a port"},
      {"tcp://:7700", "a host and a port"},
      {"tcp://127.0.0.1:", "the port is ''"},
      {"tcp://127.0.0.1:http", "the port is 'http'"},
      {"tcp://127.0.0.1:70000", "it must lie in"},
      {"tcp://127.0.0.1:-1", "the port is '-1'"},
      {"tcp://::1:7700", "a host is a name, a number"},
      {"tcp://[::g]:7700", "a host is a name, a number"},
      {"tcp://a b:7700", "a host is a name, a number"},
      {"tcp://a;b:7700", "a host is a name, a number"},
      {"tcp://10.0.0.7:7700", "--insecure"},
      {"tcp://example.org:7700", "fedlane keygen"},
      {"tcp://[fe80::1]:7700", "there are no keys"},
  };
  for (int i = 0; i < (int)(sizeof both / sizeof *both); i++) {
    expect_refusal(both[i].address, true, FEDLANE_USAGE, both[i].words);
    expect_refusal(both[i].address, false, FEDLANE_USAGE, both[i].words);
  }
  expect_refusal("tcp://*:0", true, FEDLANE_USAGE, "other machines can reach it");
  expect_refusal("tcp://*:7700", false, FEDLANE_USAGE, "'*' is for listening");
  expect_refusal("tcp://127.0.0.1:0", false, FEDLANE_USAGE, "it must lie in 1 to 65535");
  expect_refusal("tcp://127.0.0.1:65535", true, FEDLANE_USAGE, "take a lower one");
}

static void addresses_name_the_port_that_was_found(void) {
  static const char *const hosts[] = {"127.0.0.1", "localhost", "[::1]", "*"};
  for (int i = 0; i < 4; i++) {
    const fl_port_options open = {.security.insecure = true};
    fl_port *server = NULL, *peer = NULL;
    char address[64];
    int control = 0, updates = 0;
    snprintf(address, sizeof address, "tcp://%s:0", hosts[i]);
    fl_status status = fl_port_bind(address, &open, &server);
    if (i == 2 && status == FEDLANE_IO) continue; /* a machine without IPv6 */
    CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
    snprintf(address, sizeof address, "tcp://%s:%%d", i == 1 ? "127.0.0.1" : hosts[i]);
    control = (int)strtol(strrchr(fl_port_address(server), ':') + 1, NULL, 10);
    CU_ASSERT_EQUAL(sscanf(fl_port_pipeline(server), "tcp://*:%d", &updates), 1);
    CU_ASSERT(control > 0 && updates > 0 && control != updates);
    snprintf(address, sizeof address, "tcp://%s:%d", i == 3 || i == 1 ? "localhost" : hosts[i],
             control);
    CU_ASSERT_EQUAL_FATAL(fl_port_connect(address, &plain, &peer), FEDLANE_OK);
    meet(server, peer);
    fl_port_close(&peer, 0);
    fl_port_close(&server, 0);
  }
}

static void what_is_in_use_is_refused(void) {
  for (int link = 0; link < LINKS; link++) {
    fl_port *server = NULL, *other = NULL, *peer = NULL;
    char address[256];
    CU_ASSERT_EQUAL_FATAL(fl_port_bind(fresh(link), &plain, &server), FEDLANE_OK);
    snprintf(address, sizeof address, "%s", fl_port_address(server));
    CU_ASSERT_EQUAL(fl_port_bind(address, &plain, &other), FEDLANE_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), address));
    CU_ASSERT_PTR_NULL(other);
    /* The one that was there first is unharmed, and leaves the place when it goes. */
    CU_ASSERT_EQUAL_FATAL(fl_port_connect(address, &plain, &peer), FEDLANE_OK);
    meet(server, peer);
    fl_port_close(&peer, 0);
    fl_port_close(&server, 0);
    if (link == 2) continue;
    CU_ASSERT_EQUAL(fl_port_bind(address, &plain, &other), FEDLANE_OK);
    fl_port_close(&other, 0);
  }
}

static void socket_files_are_private_and_replaced(void) {
  const char *folder = fl_test_folder();
  char address[160], path[100], beside[120];
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  struct stat info;
  fl_port *server = NULL;
  snprintf(path, sizeof path, "%s/left", folder);
  snprintf(beside, sizeof beside, "%s.updates", path);
  snprintf(address, sizeof address, "ipc://%s", path);
  snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
  /* A socket that is closed without removing its file is what a killed process leaves. */
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  CU_ASSERT_EQUAL_FATAL(bind(fd, (const struct sockaddr *)&at, sizeof at), 0);
  close(fd);
  mode_t mask = umask(0);
  CU_ASSERT_EQUAL_FATAL(fl_port_bind(address, &plain, &server), FEDLANE_OK);
  umask(mask);
  CU_ASSERT(stat(path, &info) == 0 && (info.st_mode & 07777) == 0600);
  CU_ASSERT(stat(beside, &info) == 0 && (info.st_mode & 07777) == 0600);
  fl_port_close(&server, 0);
  CU_ASSERT(stat(path, &info) != 0 && stat(beside, &info) != 0);
  /* A file of another kind is never removed. */
  FILE *file = fopen(path, "w");
  fputs("mine", file);
  fclose(file);
  CU_ASSERT_EQUAL(fl_port_bind(address, &plain, &server), FEDLANE_IO);
  CU_ASSERT(stat(path, &info) == 0 && info.st_size == 4);
  snprintf(address, sizeof address, "ipc://%s/none/socket", folder);
  expect_refusal(address, true, FEDLANE_IO, "No such file");
}

static void shout(const fl_port *server, bool updates, const void *bytes, size_t n) {
  int fd = fl_raw_connect(updates ? fl_port_pipeline(server) : fl_port_address(server));
  CU_ASSERT(send(fd, bytes, n, MSG_NOSIGNAL) > 0);
  shutdown(fd, SHUT_WR);
  char answer[4096];
  const struct timeval patience = {.tv_sec = 0, .tv_usec = 200000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  while (recv(fd, answer, sizeof answer, 0) > 0) continue;
  close(fd);
}

static void strangers_do_no_harm(void) {
  static const char http[] = "GET /metrics HTTP/1.1\r\nHost: fleet\r\nAccept: */*\r\n\r\n";
  static const char *const types[] = {"PUB", "REP", "ROUTER", "PULL", "nonsense"};
  unsigned char bytes[4096];
  uint32_t x = 12345;
  fl_port *server = NULL, *peer = NULL;
  open_pair(2, &plain, &server, &peer);
  fl_route route = meet(server, peer);
  for (int updates = 0; updates < 2; updates++) {
    shout(server, updates, http, sizeof http - 1);
    for (int i = 0; i < 20; i++) {
      for (size_t k = 0; k < sizeof bytes; k++)
        bytes[k] = (unsigned char)((x = x * 69069 + 1) >> 24);
      if (i % 2) bytes[0] = 0xff, bytes[9] = 0x7f, bytes[10] = 3;
      shout(server, updates, bytes, sizeof bytes);
    }
    for (int i = 0; i < 5; i++) shout(server, updates, bytes, fl_raw_greeting(types[i], bytes));
  }
  /* Only what strangers sent as whole letters may come; then the peer is heard as before. */
  CU_ASSERT_EQUAL(say(peer, NULL, "still here"), FL_SENT);
  fl_letter letter;
  bool any, heard = false;
  for (int i = 0; i < 1000 && !heard; i++) {
    CU_ASSERT_EQUAL_FATAL(fl_port_receive(server, LONG, &letter, &any), FEDLANE_OK);
    heard = any && blob_is(letter.head, "still here", 10) &&
            memcmp(&letter.route, &route, sizeof route) == 0;
    if (any) CU_ASSERT(letter.head && fl_blob_size(letter.head) <= FL_FRAME_BYTES);
    fl_letter_close(&letter);
  }
  CU_ASSERT(heard);
  CU_ASSERT_EQUAL(say(server, &route, "good"), FL_SENT);
  expect_letter(peer, "good", &letter);
  fl_letter_close(&letter);
  fl_port_close(&peer, 0);
  fl_port_close(&server, 0);
}

static void a_peer_may_come_before_its_coordinator(void) {
  for (int link = 0; link < LINKS; link++) {
    fl_port *server = NULL, *peer = NULL;
    char address[256];
    snprintf(address, sizeof address, "%s", fresh(link));
    if (link == 2) {
      CU_ASSERT_EQUAL_FATAL(fl_port_bind(address, &plain, &server), FEDLANE_OK);
      snprintf(address, sizeof address, "%s", fl_port_address(server));
      fl_port_close(&server, 0);
    }
    CU_ASSERT_EQUAL_FATAL(fl_port_connect(address, &plain, &peer), FEDLANE_OK);
    usleep(20000);
    CU_ASSERT_EQUAL_FATAL(fl_port_bind(address, &plain, &server), FEDLANE_OK);
    meet(server, peer);
    fl_port_close(&server, 0);
    /* Nor does it mind another in the same place, where connections can be made again. */
    if (link > 0) {
      CU_ASSERT_EQUAL_FATAL(fl_port_bind(address, &plain, &server), FEDLANE_OK);
      meet(server, peer);
      fl_port_close(&server, 0);
    }
    fl_port_close(&peer, 0);
  }
}

static void what_was_sent_may_linger(void) {
  for (int link = 0; link < LINKS; link++) {
    fl_port *server = NULL, *peer = NULL;
    fl_letter letter;
    open_pair(link, &plain, &server, &peer);
    meet(server, peer);
    for (int i = 0; i < 10; i++) CU_ASSERT_EQUAL(say(peer, NULL, "last words"), FL_SENT);
    fl_port_close(&peer, LONG);
    for (int i = 0; i < 10; i++) {
      expect_letter(server, "last words", &letter);
      fl_letter_close(&letter);
    }
    fl_port_close(&server, 0);
  }
}

static void pipelines_that_do_not_fit(void) {
  fl_port *server = NULL, *peer = NULL;
  open_pair(2, &plain, &server, &peer);
  CU_ASSERT_EQUAL(fl_port_join_pipeline(peer, "ipc:///tmp/x"), FEDLANE_USAGE);
  CU_ASSERT_EQUAL(fl_port_join_pipeline(peer, "tcp://*:0"), FEDLANE_USAGE);
  CU_ASSERT_EQUAL(fl_port_join_pipeline(peer, "nonsense"), FEDLANE_USAGE);
  CU_ASSERT_EQUAL(fl_port_send(peer, NULL, true, 0, "x", 1, NULL), FL_SENT_GONE);
  fl_port_close(&peer, 0);
  fl_port_close(&server, 0);
  fl_port_close(&server, 0);
}

/* Each side on a thread of its own; bodies pass by reference over loopback. */
enum { ROUNDS = 200 };

static void *echo(void *arg) {
  fl_port *peer = arg;
  for (int i = 0; i < ROUNDS; i++) {
    fl_letter letter;
    bool any = false;
    if (fl_port_receive(peer, LONG, &letter, &any) != FEDLANE_OK || !any) return NULL;
    long sum = 0;
    for (size_t k = 0; k < fl_blob_size(letter.body); k++)
      sum += ((const unsigned char *)fl_blob_at(letter.body))[k];
    fl_port_send(peer, NULL, false, LONG, &sum, sizeof sum, NULL);
    fl_letter_close(&letter);
  }
  return arg;
}

static void sides_live_on_threads(void) {
  for (int link = 0; link < LINKS; link++) {
    fl_port *server = NULL, *peer = NULL;
    pthread_t thread;
    void *done = NULL;
    open_pair(link, &plain, &server, &peer);
    fl_route route = meet(server, peer);
    pthread_create(&thread, NULL, echo, peer);
    for (int i = 0; i < ROUNDS; i++) {
      unsigned char bytes[1000];
      long sum = 0, got = 0;
      fl_letter letter;
      bool any = false;
      for (int k = 0; k < 1000; k++) sum += bytes[k] = (unsigned char)(i + k);
      fl_port_send(server, &route, false, LONG, "add", 3, blob_of(bytes, sizeof bytes));
      CU_ASSERT_EQUAL_FATAL(fl_port_receive(server, LONG, &letter, &any), FEDLANE_OK);
      CU_ASSERT_FATAL(any && fl_blob_size(letter.head) == sizeof got);
      memcpy(&got, fl_blob_at(letter.head), sizeof got);
      CU_ASSERT_EQUAL(got, sum);
      fl_letter_close(&letter);
    }
    pthread_join(thread, &done);
    CU_ASSERT_PTR_EQUAL(done, peer);
    fl_port_close(&peer, 0);
    fl_port_close(&server, 0);
  }
}

static const fl_test tests[] = {
    {"letters go both ways", letters_go_both_ways},
    {"the pipeline is a second way", the_pipeline_is_a_second_way},
    {"control comes first, but not for ever", control_comes_first_but_not_for_ever},
    {"blobs are shared", blobs_are_shared},
    {"a peer that left cannot be reached", a_peer_that_left_cannot_be_reached},
    {"a full queue is told", a_full_queue_is_told},
    {"long frames are cut off", long_frames_are_cut_off},
    {"a signal ends the waiting", a_signal_ends_the_waiting},
    {"wrong addresses are explained", wrong_addresses_are_explained},
    {"addresses name the port that was found", addresses_name_the_port_that_was_found},
    {"what is in use is refused", what_is_in_use_is_refused},
    {"socket files are private and replaced", socket_files_are_private_and_replaced},
    {"strangers do no harm", strangers_do_no_harm},
    {"a peer may come before its coordinator", a_peer_may_come_before_its_coordinator},
    {"what was sent may linger", what_was_sent_may_linger},
    {"pipelines that do not fit", pipelines_that_do_not_fit},
    {"sides live on threads", sides_live_on_threads},
};

FL_SUITE_MAIN("port", tests)
