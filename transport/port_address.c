/* Addresses: what they say, where the pipeline lies beside them, and whom they can be reached by.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "port_parts.h"

static const char beside[] = ".updates";
enum { PORTS = 65535, NAME_BYTES = 64 };

static fl_status no_link(const char *address, size_t n) {
  enum { SHOWN = 32 };
  char all[128] = "";
  for (int i = 0; i < fl_links.n; i++) {
    size_t used = strlen(all);
    snprintf(all + used, sizeof all - used, "%s%s://", i ? ", " : "", fl_links.entry[i]->name);
  }
  return fl_fail(FEDLANE_USAGE, "there is no link '%.*s'; an address begins with one of %s",
                 (int)(n < SHOWN ? n : SHOWN), address, all);
}

static const fl_link *find_link(const char *address, size_t n) {
  for (int i = 0; i < fl_links.n; i++) {
    const fl_record *record = fl_links.entry[i];
    if (strlen(record->name) == n && strncmp(address, record->name, n) == 0)
      return (const fl_link *)(const void *)record;
  }
  return NULL;
}

static fl_status read_name(const char *address, const char *name, fl_place *out) {
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  size_t n = strlen(name);
  if (n == 0 || n > NAME_BYTES || name[strspn(name, allowed)])
    return fl_fail(FEDLANE_USAGE,
                   "%s: a name has 1 to %d letters, digits, dots, hyphens and underscores", address,
                   NAME_BYTES);
  snprintf(out->host, sizeof out->host, "%s", name);
  out->local = true;
  return FEDLANE_OK;
}

/* Peers may have another working folder, so a path begins at the root. */
static fl_status read_path(const char *address, const char *path, fl_place *out) {
  char folder[FL_HOST_BYTES] = "";
  const char *slash = *path == '/' ? "" : "/";
  if (*path == '\0' || *path == '@' || *path == '*')
    return fl_fail(FEDLANE_USAGE, "%s: a path of a file, such as ipc:///tmp/fleet", address);
  if (*slash && !getcwd(folder, sizeof folder))
    return fl_fail(FEDLANE_USAGE, "%s: the path of this folder is too long", address);
  int n = snprintf(out->host, sizeof out->host, "%s%s%s", folder, slash, path);
  if (n + sizeof beside > FL_FILE_BYTES)
    return fl_fail(FEDLANE_USAGE, "%s: the whole path has %d characters, of at most %d", address, n,
                   (int)(FL_FILE_BYTES - sizeof beside));
  out->local = true;
  return FEDLANE_OK;
}

static bool is_local(const char *host) {
  struct in_addr v4;
  struct in6_addr v6;
  if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static fl_status read_port(const char *address, const char *text, bool bind, int *out) {
  char *end;
  long port = strtol(text, &end, 10);
  if (!isdigit((unsigned char)*text) || *end || end - text > 5 || port > PORTS || port < !bind)
    return fl_fail(FEDLANE_USAGE, "%s: the port is '%s'; it must lie in %d to %d", address, text,
                   !bind, PORTS);
  *out = (int)port;
  return FEDLANE_OK;
}

/* HOST:PORT, where a host with colons stands in brackets. */
static fl_status read_host(const char *address, const char *text, bool bind, fl_place *out) {
  const char *colon = strrchr(text, ':'), *host = text;
  size_t n = colon ? (size_t)(colon - text) : 0;
  struct in6_addr v6;
  if (n == 0)
    return fl_fail(FEDLANE_USAGE, "%s: a host and a port, such as tcp://127.0.0.1:7700", address);
  bool brackets = n > 2 && host[0] == '[' && host[n - 1] == ']';
  if (brackets) host++, n -= 2;
  snprintf(out->host, sizeof out->host, "%.*s", (int)(n < FL_HOST_BYTES ? n : 0), host);
  bool good = *out->host != '\0';
  if (brackets) good = inet_pton(AF_INET6, out->host, &v6) == 1;
  for (const char *c = out->host; *c && !brackets && strcmp(out->host, "*") != 0; c++)
    good = good && (isalnum((unsigned char)*c) || strchr(".-_", *c));
  if (!good)
    return fl_fail(FEDLANE_USAGE,
                   "%s: a host is a name, a number such as 10.0.0.7, or one such as [fe80::1]",
                   address);
  if (!bind && strcmp(out->host, "*") == 0)
    return fl_fail(FEDLANE_USAGE, "%s: to which host? '*' is for listening", address);
  if (strcmp(out->host, "localhost") == 0) snprintf(out->host, sizeof out->host, "127.0.0.1");
  out->local = is_local(out->host);
  return read_port(address, colon + 1, bind, &out->port);
}

fl_status fl_place_read(const char *address, bool bind, fl_place *out) {
  const char *mark = strstr(address, "://");
  *out = (fl_place){0};
  if (!mark)
    return fl_fail(FEDLANE_USAGE, "%s: an address is LINK://WHERE, such as tcp://127.0.0.1:7700",
                   address);
  size_t n = (size_t)(mark - address);
  out->link = find_link(address, n);
  if (!out->link) return no_link(address, n);
  if (out->link->process) return read_name(address, mark + 3, out);
  if (out->link->file) return read_path(address, mark + 3, out);
  return read_host(address, mark + 3, bind, out);
}

fl_status fl_place_pipeline(const fl_place *place, fl_place *out) {
  *out = *place;
  if (!place->link->network) {
    size_t n = strlen(out->host);
    snprintf(out->host + n, sizeof out->host - n, "%s", beside);
  } else if (place->port == PORTS) {
    return fl_fail(FEDLANE_USAGE, "port %d has none after it, which updates need; take a lower one",
                   PORTS);
  } else if (place->port > 0) {
    out->port++;
  }
  return FEDLANE_OK;
}

static void print(const fl_place *place, const char *prefix, const char *any,
                  char out[FL_ENDPOINT_BYTES]) {
  bool brackets = place->link->network && strchr(place->host, ':');
  int n = snprintf(out, FL_ENDPOINT_BYTES, "%s%s%s%s", prefix, brackets ? "[" : "", place->host,
                   brackets ? "]" : "");
  if (!place->link->network) return;
  if (place->port == 0)
    snprintf(out + n, (size_t)(FL_ENDPOINT_BYTES - n), ":%s", any);
  else
    snprintf(out + n, (size_t)(FL_ENDPOINT_BYTES - n), ":%d", place->port);
}

void fl_place_endpoint(const fl_place *place, char out[FL_ENDPOINT_BYTES]) {
  print(place, place->link->prefix, "*", out);
}

void fl_place_address(const fl_place *place, char out[FL_ENDPOINT_BYTES]) {
  char prefix[32];
  snprintf(prefix, sizeof prefix, "%s://", place->link->record.name);
  print(place, prefix, "0", out);
}

static bool given(const char *text) { return text && *text; }

fl_status fl_place_secure(const fl_place *place, bool bind, const fl_security *security) {
  char address[FL_ENDPOINT_BYTES];
  bool own = given(security->own), other = given(bind ? security->allow : security->server);
  fl_place_address(place, address);
  if (own && !other && bind)
    return fl_fail(FEDLANE_USAGE,
                   "%s: a key without a list of allowed keys lets nobody in; say which are allowed",
                   address);
  if (own && !other)
    return fl_fail(FEDLANE_USAGE, "%s: the coordinator's public key is needed beside one's own",
                   address);
  if (other && !own)
    return fl_fail(FEDLANE_USAGE, "%s: a key of one's own is needed; `fedlane keygen` makes one",
                   address);
  if (own || place->local || security->insecure) return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE,
                 "%s: other machines can %s, and there are no keys; make some with `fedlane "
                 "keygen`, or say --insecure where everyone in the network is trusted",
                 address, bind ? "reach it" : "read along");
}
