/* How connections end: with a full queue, with a cable that is cut, with a side that takes nothing.
 * Each case lives in a process of its own: an assertion of libzmq would end the whole suite, and a
 * network of one's own cannot be left again. */
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "port.h"
#include "raw_peer.h"
#include "suite.h"

static const fl_port_options hasty = {.patience = 0.3};
enum { WAIT_US = 1500000, PERIOD_US = 30000 };

typedef enum side { ROUTER, PULL, DEALER, PUSH } side;

typedef enum manner { RESET, CLOSED, SILENT } manner;

typedef struct flood {
  side side;     /* the socket whose queue is filled */
  manner manner; /* of the end */
  const char *name;
} flood;

/* Sends messages of three bytes until nothing is taken any more. */
static void fill(int fd) {
  static const char frame[] = "\0\3abc";
  char bytes[1000 * 5];
  for (int i = 0; i < 1000; i++) memcpy(bytes + 5 * i, frame, 5);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  size_t at = 0;
  for (int idle = 0; idle < 5;) {
    ssize_t n = send(fd, bytes + at, sizeof bytes - at, MSG_NOSIGNAL);
    if (n > 0) at = (at + (size_t)n) % sizeof bytes;
    idle = n > 0 ? 0 : idle + 1;
    if (n <= 0) usleep(2000);
  }
}

static void hang_up(int fd, manner manner) {
  const struct linger none = {.l_onoff = 1, .l_linger = 0};
  if (manner == SILENT) return;
  if (manner == RESET) setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  if (manner == CLOSED) shutdown(fd, SHUT_WR);
  if (manner == CLOSED) usleep(PERIOD_US);
  close(fd);
}

/* A bound port, whose ROUTER or PULL is flooded. */
static fl_port *flood_bound(const flood *f) {
  fl_port *port = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_port_bind("tcp://127.0.0.1:0", &hasty, &port), FEDLANE_OK);
  int fd = fl_raw_connect(f->side == PULL ? fl_port_pipeline(port) : fl_port_address(port));
  fl_raw_greet(fd, f->side == PULL ? "PUSH" : "DEALER");
  fill(fd);
  hang_up(fd, f->manner);
  return port;
}

/* A connected one, whose DEALER or PUSH is. */
static fl_port *flood_connected(const flood *f) {
  char address[64], pipeline[64];
  int control = fl_raw_listen(address, sizeof address);
  int updates = fl_raw_listen(pipeline, sizeof pipeline);
  fl_port *port = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_port_connect(address, &hasty, &port), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_port_join_pipeline(port, pipeline), FEDLANE_OK);
  int fd = accept(f->side == PUSH ? updates : control, NULL, NULL);
  fl_raw_greet(fd, f->side == PUSH ? "PULL" : "ROUTER");
  fill(fd);
  hang_up(fd, f->manner);
  return port;
}

/* What was in the queue comes, and a new peer is heard. */
static bool is_well(fl_port *port) {
  fl_letter letter;
  bool any = true, heard = false;
  while (any && fl_port_receive(port, 0.1, &letter, &any) == FEDLANE_OK) fl_letter_close(&letter);
  fl_port *peer = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_port_connect(fl_port_address(port), &hasty, &peer), FEDLANE_OK);
  fl_port_send(peer, NULL, false, 1, "hello", 5, NULL);
  if (fl_port_receive(port, 20, &letter, &any) == FEDLANE_OK)
    heard = any && fl_blob_size(letter.head) == 5;
  fl_letter_close(&letter);
  fl_port_close(&peer, 0);
  return heard;
}

/* Has `run` do the cases 0 to n - 1 side by side, each in a process; 77 skips one. */
static void run_apart(int n, int (*run)(int i), const char *(*name)(int i)) {
  enum { MOST = 16, SKIPPED = 77 };
  pid_t child[MOST];
  fflush(stdout);
  for (int i = 0; i < n; i++) {
    child[i] = fork();
    if (child[i] == 0) _exit(run(i));
  }
  for (int i = 0; i < n; i++) {
    int status = -1;
    CU_ASSERT_EQUAL(waitpid(child[i], &status, 0), child[i]);
    bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;
    if (skipped) printf("skipped: %s: networks of one's own may not be made here\n", name(i));
    if (!skipped && status != 0) printf("\n%s: status %x\n", name(i), (unsigned)status);
    CU_ASSERT(status == 0 || skipped);
  }
}

static const flood floods[] = {
    {ROUTER, RESET, "ROUTER, reset"},   {ROUTER, CLOSED, "ROUTER, closed"},
    {ROUTER, SILENT, "ROUTER, silent"}, {PULL, RESET, "PULL, reset"},
    {PULL, CLOSED, "PULL, closed"},     {PULL, SILENT, "PULL, silent"},
    {DEALER, RESET, "DEALER, reset"},   {DEALER, CLOSED, "DEALER, closed"},
    {DEALER, SILENT, "DEALER, silent"}, {PUSH, RESET, "PUSH, reset"},
    {PUSH, CLOSED, "PUSH, closed"},     {PUSH, SILENT, "PUSH, silent"},
};

static const char *flood_name(int i) { return floods[i].name; }

static int live_through(int i) {
  const flood *f = &floods[i];
  bool bound = f->side == ROUTER || f->side == PULL;
  fl_port *port = bound ? flood_bound(f) : flood_connected(f);
  usleep(WAIT_US);
  bool well = !bound || is_well(port);
  fl_port_close(&port, 0);
  return well ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void who_fills_a_queue_and_goes_does_no_harm(void) {
  run_apart(sizeof floods / sizeof *floods, live_through, flood_name);
}

/* Whether the loopback device of this network works from now on. */
static bool set_cable(bool up) {
  struct ifreq lo = {.ifr_name = "lo"};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  bool good = ioctl(fd, SIOCGIFFLAGS, &lo) == 0;
  lo.ifr_flags = (short)(up ? lo.ifr_flags | IFF_UP : lo.ifr_flags & ~IFF_UP);
  good = good && ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
  close(fd);
  return good;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { LONG = 20 };

/* Seconds until a peer cannot be reached any more, asked from `asked` on; LONG: that took longer.
 */
static double lost_after(fl_port *port, const fl_route *route, double asked) {
  double begun = now();
  fl_letter letter;
  bool any;
  while (now() - begun < LONG) {
    fl_port_receive(port, 0.05, &letter, &any);
    fl_letter_close(&letter);
    if (now() - begun > asked && fl_port_send(port, route, false, 0, "?", 1, NULL) == FL_SENT_GONE)
      return now() - begun;
  }
  return LONG;
}

enum { IDLE, TALKING, ENDS };

static const char *end_name(int i) { return i == IDLE ? "cut while idle" : "cut while talking"; }

static int lose_the_cable(int i) {
  const fl_port_options options = {.patience = 3};
  fl_port *server = NULL, *peer = NULL;
  fl_letter letter;
  bool any = false;
  if ((unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) ||
      !set_cable(true))
    return 77;
  CU_ASSERT_EQUAL_FATAL(fl_port_bind("tcp://127.0.0.1:0", &options, &server), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_port_connect(fl_port_address(server), &options, &peer), FEDLANE_OK);
  fl_port_send(peer, NULL, false, LONG, "hello", 5, NULL);
  fl_port_receive(server, LONG, &letter, &any);
  fl_route route = letter.route;
  fl_letter_close(&letter);
  if (!any || !set_cable(false)) return EXIT_FAILURE;
  double quiet = i == IDLE ? 1.5 * options.patience : 0;
  return lost_after(server, &route, quiet) < 2 * options.patience ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void a_cable_that_is_cut_is_noticed(void) { run_apart(ENDS, lose_the_cable, end_name); }

static const fl_test tests[] = {
    {"who fills a queue and goes does no harm", who_fills_a_queue_and_goes_does_no_harm},
    {"a cable that is cut is noticed", a_cable_that_is_cut_is_noticed},
};

FL_SUITE_MAIN("port_ends", tests)
