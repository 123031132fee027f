#include "files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const char *reason(int error) { return error ? strerror(error) : "an earlier write failed"; }

fl_status fl_make_folder(const char *path) {
  char *copy = strdup(path);
  if (!copy) return fl_fail(FEDLANE_MEMORY, "no memory for the path %s", path);
  int failed = 0;
  for (char *at = copy; *at && !failed; at++) {
    if (*at != '/' || at == copy) continue;
    *at = '\0';
    failed = mkdir(copy, 0777) != 0 && errno != EEXIST;
    *at = '/';
  }
  if (!failed && *path) failed = mkdir(copy, 0777) != 0 && errno != EEXIST;
  int error = errno;
  free(copy);
  if (failed) return fl_fail(FEDLANE_IO, "cannot make the folder %s: %s", path, strerror(error));
  struct stat info;
  if (stat(path, &info) != 0)
    return fl_fail(FEDLANE_IO, "cannot make the folder %s: %s", path, strerror(errno));
  if (!S_ISDIR(info.st_mode))
    return fl_fail(FEDLANE_IO, "cannot make the folder %s: a file of that name is there", path);
  return FEDLANE_OK;
}

bool fl_file_exists(const char *path) { return access(path, F_OK) == 0; }

char *fl_path_join(const char *folder, const char *name) {
  size_t n = strlen(folder);
  const char *slash = n && folder[n - 1] != '/' ? "/" : "";
  size_t size = n + strlen(name) + 2;
  char *path = malloc(size);
  if (path) snprintf(path, size, "%s%s%s", folder, slash, name);
  return path;
}

static void forget(fl_aside *aside) {
  free(aside->path);
  free(aside->part);
  memset(aside, 0, sizeof *aside);
}

fl_status fl_aside_open(const char *path, fl_aside *out) {
  memset(out, 0, sizeof *out);
  size_t size = strlen(path) + sizeof ".part";
  out->path = strdup(path);
  out->part = malloc(size);
  if (!out->path || !out->part) {
    forget(out);
    return fl_fail(FEDLANE_MEMORY, "no memory for the path %s", path);
  }
  snprintf(out->part, size, "%s.part", path);
  out->file = fopen(out->part, "wb");
  if (!out->file) {
    int error = errno;
    forget(out);
    return fl_fail(FEDLANE_IO, "cannot write %s: %s", path, strerror(error));
  }
  return FEDLANE_OK;
}

void fl_aside_abandon(fl_aside *aside) {
  if (aside->file) fclose(aside->file);
  if (aside->part) unlink(aside->part);
  forget(aside);
}

/* A rename is durable once its folder is synced; a file system that cannot do so is let be. */
static void sync_folder_of(const char *path) {
  char *folder = strdup(path);
  if (!folder) return;
  char *slash = strrchr(folder, '/');
  if (slash) slash[slash == folder] = '\0';
  FILE *handle = fopen(slash ? folder : ".", "r");
  if (handle) {
    fsync(fileno(handle));
    fclose(handle);
  }
  free(folder);
}

fl_status fl_aside_commit(fl_aside *aside) {
  errno = 0;
  bool failed = fflush(aside->file) != 0 || ferror(aside->file) || fsync(fileno(aside->file)) != 0;
  int error = errno;
  if (fclose(aside->file) != 0 && !failed) failed = true, error = errno;
  aside->file = NULL;
  if (!failed && rename(aside->part, aside->path) != 0) failed = true, error = errno;
  if (failed) {
    fl_status status = fl_fail(FEDLANE_IO, "cannot write %s: %s", aside->path, reason(error));
    fl_aside_abandon(aside);
    return status;
  }
  sync_folder_of(aside->path);
  forget(aside);
  return FEDLANE_OK;
}

typedef struct buffer {
  unsigned char *at;
  size_t size, room;
} buffer;

static bool grow(buffer *b, size_t room) {
  unsigned char *at = realloc(b->at, room);
  if (!at) return false;
  b->at = at;
  b->room = room;
  return true;
}

/* room: how much to expect; one byte more finds the end without growing. */
static fl_status read_stream(const char *path, FILE *file, size_t room, buffer *out) {
  do {
    if (out->size == out->room && !grow(out, out->room ? 2 * out->room : room))
      return fl_fail(FEDLANE_MEMORY, "no memory to read %s", path);
    out->size += fread(out->at + out->size, 1, out->room - out->size, file);
  } while (out->size == out->room);
  if (ferror(file)) return fl_fail(FEDLANE_IO, "cannot read %s: %s", path, strerror(errno));
  return FEDLANE_OK;
}

/* The length of the last member, modulo 2^32, ends a gzip file: a hint, never trusted beyond the
 * best ratio that deflate can reach. */
static size_t length_hint(const buffer *packed) {
  const unsigned char *end = packed->at + packed->size;
  size_t hint =
      (size_t)end[-4] | (size_t)end[-3] << 8 | (size_t)end[-2] << 16 | (size_t)end[-1] << 24;
  size_t most = 1032 * packed->size;
  return (hint < most ? hint : most) + 1;
}

static uInt piece(size_t size) { return (uInt)(size < 1u << 30 ? size : 1u << 30); }

/* Inflates every member of a gzip file, one after another, as gzip does. */
static fl_status inflate_members(const char *path, z_stream *z, const buffer *packed, buffer *out) {
  size_t used = 0;
  int code = Z_OK;
  while (used < packed->size || code != Z_STREAM_END) {
    if (code == Z_STREAM_END && inflateReset(z) != Z_OK)
      return fl_fail(FEDLANE_INTERNAL, "zlib cannot start again on %s", path);
    if (out->size == out->room && !grow(out, 2 * out->room))
      return fl_fail(FEDLANE_MEMORY, "no memory to unpack %s", path);
    uInt in = piece(packed->size - used), room = piece(out->room - out->size);
    z->next_in = packed->at + used;
    z->avail_in = in;
    z->next_out = out->at + out->size;
    z->avail_out = room;
    code = inflate(z, Z_NO_FLUSH);
    used += in - z->avail_in;
    out->size += room - z->avail_out;
    if (code == Z_MEM_ERROR) return fl_fail(FEDLANE_MEMORY, "no memory to unpack %s", path);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
      return fl_fail(FEDLANE_DATA, "%s: damaged gzip data near byte %zu of %zu (%s)", path, used,
                     packed->size, z->msg ? z->msg : "unknown reason");
    if (code != Z_STREAM_END && used == packed->size && z->avail_out != 0)
      return fl_fail(FEDLANE_DATA, "%s: the gzip data end too early, after %zu bytes", path,
                     packed->size);
  }
  return FEDLANE_OK;
}

static fl_status unpack(const char *path, const buffer *packed, buffer *out) {
  if (packed->size < 18)
    return fl_fail(FEDLANE_DATA, "%s: the gzip data end too early, after %zu bytes", path,
                   packed->size);
  z_stream z = {0};
  if (!grow(out, length_hint(packed)) || inflateInit2(&z, 15 + 16) != Z_OK)
    return fl_fail(FEDLANE_MEMORY, "no memory to unpack %s", path);
  fl_status status = inflate_members(path, &z, packed, out);
  inflateEnd(&z);
  return status;
}

fl_status fl_read_all(const char *path, unsigned char **data, int64_t *size) {
  fl_status status = FEDLANE_OK;
  buffer raw = {0}, plain = {0};
  struct stat info;
  FILE *file = fopen(path, "rb");
  if (!file || fstat(fileno(file), &info) != 0) {
    status = fl_fail(FEDLANE_IO, "cannot read %s: %s", path, strerror(errno));
    goto done;
  }
  FL_GO(read_stream(path, file, S_ISREG(info.st_mode) ? (size_t)info.st_size + 1 : 65536, &raw));
  bool gzip = raw.size >= 2 && raw.at[0] == 0x1f && raw.at[1] == 0x8b;
  if (gzip) FL_GO(unpack(path, &raw, &plain));
  buffer *result = gzip ? &plain : &raw;
  *data = result->at;
  *size = (int64_t)result->size;
  result->at = NULL;
done:
  if (file) fclose(file);
  free(raw.at);
  free(plain.at);
  return status;
}
