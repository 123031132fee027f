#include "raw_peer.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "suite.h"

enum { GREETING = 64 };

size_t fl_raw_greeting(const char *type, unsigned char *out) {
  static const char mechanism[] = "NULL", name[] = "Socket-Type";
  size_t n = GREETING, size = strlen(type);
  memset(out, 0, FL_RAW_BYTES);
  out[0] = 0xff, out[9] = 0x7f, out[10] = 3, out[11] = 1;
  memcpy(out + 12, mechanism, sizeof mechanism);
  out[n++] = 4;
  out[n++] = (unsigned char)(6 + 1 + 11 + 4 + size);
  n += (size_t)sprintf((char *)out + n, "%cREADY%c%s", 5, 11, name);
  out[n + 3] = (unsigned char)size;
  n += 4;
  memcpy(out + n, type, size);
  return n + size;
}

int fl_raw_connect(const char *address) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  at.sin_port = htons((uint16_t)strtol(strrchr(address, ':') + 1, NULL, 10));
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CU_ASSERT_EQUAL_FATAL(connect(fd, (const struct sockaddr *)&at, sizeof at), 0);
  return fd;
}

int fl_raw_listen(char *address, size_t size) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof at;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CU_ASSERT_EQUAL_FATAL(bind(fd, (const struct sockaddr *)&at, sizeof at), 0);
  CU_ASSERT_EQUAL_FATAL(listen(fd, 8), 0);
  CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&at, &n), 0);
  snprintf(address, size, "tcp://127.0.0.1:%d", ntohs(at.sin_port));
  return fd;
}

void fl_raw_greet(int fd, const char *type) {
  unsigned char bytes[FL_RAW_BYTES];
  ssize_t n = (ssize_t)fl_raw_greeting(type, bytes);
  CU_ASSERT_EQUAL_FATAL(send(fd, bytes, (size_t)n, MSG_NOSIGNAL), n);
  for (size_t heard = 0; heard <= GREETING;) { /* more than that: READY has come as well */
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    CU_ASSERT_FATAL(got > 0);
    heard += (size_t)got;
  }
}
