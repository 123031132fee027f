/* Pairs of keys and their files. Whatever held a secret is wiped. */
#include "keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "curve.h"

enum { NAME_BYTES = 64, FILE_BYTES = 4096, PATH_BYTES = 4096 };

static const char open_word[] = "fedlane public:", secret_word[] = "fedlane secret:";

fl_status fl_keys_make(fl_key_pair *pair) {
  *pair = (fl_key_pair){{0}, {0}};
  if (fl_curve_make(pair)) return FEDLANE_OK;
  return fl_fail(FEDLANE_UNSUPPORTED, "this ZeroMQ was built without CURVE, so it has no keys");
}

static fl_status check_name(const char *name) {
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  size_t n = strlen(name);
  if (n > 0 && n <= NAME_BYTES && !name[strspn(name, allowed)] && !strchr(".-", name[0]))
    return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE,
                 "the name of a key is '%.80s'; it has 1 to %d letters, digits, dots, hyphens and "
                 "underscores, and begins with none of the dots and hyphens",
                 name, NAME_BYTES);
}

static bool write_whole(int fd, const char *text, size_t n) {
  while (n > 0) {
    ssize_t done = write(fd, text, n);
    if (done < 0 && errno != EINTR) return false;
    if (done > 0) text += done, n -= (size_t)done;
  }
  return true;
}

/* Written aside, under a name of its own, and then linked to its place, which fails if there is a
 * file already. */
static fl_status write_new(const char *path, mode_t mode, const char *text, size_t n) {
  char part[PATH_BYTES + 8];
  snprintf(part, sizeof part, "%s.XXXXXX", path);
  int fd = mkostemp(part, O_CLOEXEC);
  if (fd < 0) return fl_fail(FEDLANE_IO, "%s cannot be written: %s", path, strerror(errno));
  bool good = write_whole(fd, text, n) && fchmod(fd, mode) == 0 && fsync(fd) == 0;
  good = close(fd) == 0 && good && link(part, path) == 0;
  int error = errno;
  unlink(part);
  if (good) return FEDLANE_OK;
  if (error == EEXIST)
    return fl_fail(FEDLANE_USAGE, "%s is there already; keys are never written over", path);
  return fl_fail(FEDLANE_IO, "%s cannot be written: %s", path, strerror(error));
}

static fl_status save_pair(const fl_key_pair *pair, const char *name, const char *key,
                           const char *pub) {
  char text[512];
  struct stat info;
  if (lstat(pub, &info) == 0)
    return fl_fail(FEDLANE_USAGE, "%s is there already; keys are never written over", pub);
  int n = snprintf(text, sizeof text,
                   "# The secret key of %s. It stays on this machine; nobody else may read it.\n"
                   "%s %s\n%s %s\n",
                   name, open_word, pair->open, secret_word, pair->secret);
  fl_status status = write_new(key, 0600, text, (size_t)n);
  explicit_bzero(text, sizeof text);
  FL_TRY(status);
  n = snprintf(text, sizeof text, "# The public key of %s.\n%s %s %s\n", name, open_word,
               pair->open, name);
  status = write_new(pub, 0644, text, (size_t)n);
  if (status != FEDLANE_OK) unlink(key);
  return status;
}

fl_status fl_keys_save(const fl_key_pair *pair, const char *folder, const char *name) {
  char key[PATH_BYTES], pub[PATH_BYTES];
  FL_TRY(check_name(name));
  int n = snprintf(key, sizeof key, "%s/%s.key", folder, name);
  snprintf(pub, sizeof pub, "%s/%s.pub", folder, name);
  if (n >= PATH_BYTES)
    return fl_fail(FEDLANE_USAGE, "the path of the folder has %d characters, of at most %d", n,
                   PATH_BYTES - 1);
  if (mkdir(folder, 0700) != 0 && errno != EEXIST)
    return fl_fail(FEDLANE_IO, "the folder %s cannot be made: %s", folder, strerror(errno));
  return save_pair(pair, name, key, pub);
}

/* Takes "WORD KEY ..." of a line that ends at 0. False: the line is another. */
static bool read_line(const char *line, const char *word, char out[FL_KEY_CHARACTERS + 1]) {
  size_t n = strlen(word);
  if (strncmp(line, word, n) != 0) return false;
  line += n + strspn(line + n, " \t");
  n = strcspn(line, " \t\r");
  snprintf(out, FL_KEY_CHARACTERS + 1, "%.*s", n == FL_KEY_CHARACTERS ? (int)n : 0, line);
  if (!fl_curve_is_key(out)) *out = '\0';
  return true;
}

/* A secret must not be told in a sentence, not even a wrong one. */
static fl_status read_lines(const char *path, char *text, fl_key_pair *pair) {
  char *rest = text, *line;
  for (int i = 1; (line = strsep(&rest, "\n")); i++) {
    char *end = line + strlen(line);
    while (end > line && strchr(" \t\r", end[-1])) *--end = '\0';
    if (*line == '#' || *line == '\0') continue;
    bool open = read_line(line, open_word, pair->open);
    bool secret = !open && read_line(line, secret_word, pair->secret);
    if ((open && !*pair->open) || (secret && !*pair->secret))
      return fl_fail(FEDLANE_USAGE, "%s:%d: a key has %d characters of Z85", path, i,
                     FL_KEY_CHARACTERS);
    if (!open && !secret)
      return fl_fail(FEDLANE_USAGE, "%s:%d: a line is '%s KEY', '%s KEY' or begins with #", path, i,
                     open_word, secret_word);
  }
  fl_key_pair own = *pair;
  bool fits = !*own.secret || (fl_curve_public(&own) && strcmp(own.open, pair->open) == 0);
  explicit_bzero(&own, sizeof own);
  if (!*pair->open) return fl_fail(FEDLANE_USAGE, "%s: there is no public key in it", path);
  if (!fits) return fl_fail(FEDLANE_USAGE, "%s: its two keys are not of one pair", path);
  return FEDLANE_OK;
}

/* Reads the file into text, ended by 0; *mode: who may read it. */
static fl_status read_file(const char *path, char text[FILE_BYTES], mode_t *mode) {
  struct stat info;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  bool good = fd >= 0 && fstat(fd, &info) == 0;
  if (good && S_ISDIR(info.st_mode)) errno = EISDIR, good = false;
  size_t n = 0;
  for (ssize_t got = 1; good && got != 0 && n < FILE_BYTES;) {
    got = read(fd, text + n, FILE_BYTES - n);
    good = got >= 0 || errno == EINTR;
    if (got > 0) n += (size_t)got;
  }
  int error = errno;
  if (fd >= 0) close(fd);
  if (!good) return fl_fail(FEDLANE_IO, "%s cannot be read: %s", path, strerror(error));
  if (n == FILE_BYTES || memchr(text, '\0', n))
    return fl_fail(FEDLANE_USAGE, "%s is not a file of keys", path);
  text[n] = '\0';
  *mode = info.st_mode;
  return FEDLANE_OK;
}

fl_status fl_keys_load(const char *path, fl_key_pair *pair) {
  char text[FILE_BYTES];
  mode_t mode = 0;
  *pair = (fl_key_pair){{0}, {0}};
  fl_status status = read_file(path, text, &mode);
  if (status == FEDLANE_OK) status = read_lines(path, text, pair);
  explicit_bzero(text, sizeof text);
  if (status == FEDLANE_OK && *pair->secret && mode & 077)
    status = fl_fail(FEDLANE_USAGE, "others may read the secret key in %s; say chmod 600 %s", path,
                     path);
  if (status != FEDLANE_OK) explicit_bzero(pair, sizeof *pair);
  return status;
}

/* A file comes first: its path may happen to look like a key. */
fl_status fl_keys_public(const char *text, char out[FL_KEY_CHARACTERS + 1]) {
  if (access(text, F_OK) != 0 && fl_curve_is_key(text)) {
    snprintf(out, FL_KEY_CHARACTERS + 1, "%s", text);
    return FEDLANE_OK;
  }
  fl_key_pair pair;
  FL_TRY(fl_keys_load(text, &pair));
  memcpy(out, pair.open, sizeof pair.open);
  explicit_bzero(&pair, sizeof pair);
  return FEDLANE_OK;
}
