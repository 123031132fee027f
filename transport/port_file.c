/* The socket files of ipc: private from the start, and never in place of one that is in use. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "port_parts.h"

enum { WAITING = 4096 };

static int open_socket(void) {
  return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* Whether the file is a socket that a dead process has left behind. */
static bool is_left_behind(const struct sockaddr_un *at) {
  struct stat info;
  if (lstat(at->sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  int fd = open_socket();
  if (fd < 0) return false;
  bool dead = connect(fd, (const struct sockaddr *)at, sizeof *at) != 0 && errno == ECONNREFUSED;
  close(fd);
  return dead;
}

static bool bind_socket(int fd, const struct sockaddr_un *at) {
  if (bind(fd, (const struct sockaddr *)at, sizeof *at) == 0) return true;
  if (errno != EADDRINUSE) return false;
  if (is_left_behind(at) && unlink(at->sun_path) == 0)
    return bind(fd, (const struct sockaddr *)at, sizeof *at) == 0;
  errno = EADDRINUSE;
  return false;
}

fl_status fl_file_listen(const char *path, int *out) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
  int fd = open_socket();
  /* The file gets the mode of the socket. */
  bool good = fd >= 0 && fchmod(fd, S_IRUSR | S_IWUSR) == 0;
  good = good && bind_socket(fd, &at);
  if (good && listen(fd, WAITING) == 0) {
    *out = fd;
    return FEDLANE_OK;
  }
  int error = errno;
  if (fd >= 0) close(fd);
  if (error == EADDRINUSE)
    return fl_fail(FEDLANE_IO, "ipc://%s: something listens there already, or it is a file", path);
  return fl_fail(FEDLANE_IO, "ipc://%s cannot be listened at: %s", path, strerror(error));
}
