#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "digest.h"
#include "run.h"

static int64_t physical_memory(void) {
  return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

/* A nameless file in `folder` that grows as room is made in it; -1 when there can be none. btrfs
 * writes a page anew elsewhere, which takes room again, unless an empty file is told not to. */
static int scratch_file(const char *folder, int64_t bytes) {
  int in_place = FS_NOCOW_FL;
  int fd = *folder ? open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
  if (fd < 0) return -1;
  ioctl(fd, FS_IOC_SETFLAGS, &in_place); /* others do not know it, and need it not */
  if (ftruncate(fd, bytes) == 0 && fallocate(fd, 0, 0, 1) == 0) return fd;
  close(fd);
  return -1;
}

fl_status fl_store_open(fl_store *s, int32_t n, int64_t floats, const char *folder) {
  memset(s, 0, sizeof *s);
  if (floats == 0) return FEDLANE_OK;
  s->n = n;
  s->floats = floats;
  s->bytes = 4 * (int64_t)n * floats;
  s->side = calloc((size_t)n, 1);
  s->fresh = calloc((size_t)n, 1);
  s->sum = calloc((size_t)n, sizeof *s->sum);
  s->touched = calloc((size_t)n, sizeof *s->touched);
  s->dirty = calloc((size_t)n, sizeof *s->dirty);
  if (!s->side || !s->fresh || !s->sum || !s->touched || !s->dirty)
    return fl_fail(FEDLANE_MEMORY, "no memory for the state of %d clients", n);
  s->folder = folder;
  s->file = s->bytes > physical_memory() / 2 ? scratch_file(folder, s->bytes) : -1;
  int flags = s->file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void *at = mmap(NULL, (size_t)s->bytes, PROT_READ | PROT_WRITE, flags, s->file, 0);
  int why = errno;
  if (at == MAP_FAILED && s->file >= 0) close(s->file);
  if (at == MAP_FAILED)
    return fl_fail(FEDLANE_MEMORY, "cannot reserve %.1f GB for the vectors of %d clients: %s",
                   1e-9 * (double)s->bytes, n, strerror(why));
  s->at = at;
  return FEDLANE_OK;
}

void fl_store_close(fl_store *s) {
  if (s->at) munmap(s->at, (size_t)s->bytes);
  if (s->at && s->file >= 0) close(s->file);
  free(s->side);
  free(s->fresh);
  free(s->sum);
  free(s->touched);
  free(s->dirty);
  memset(s, 0, sizeof *s);
}

/* Room is made in whole pages, since a page is what is written to first: where places share one,
 * the neighbour's values stay. */
fl_status fl_store_touch(fl_store *s, uint32_t client) {
  if (s->touched[client]) return FEDLANE_OK;
  int64_t page = sysconf(_SC_PAGESIZE), bytes = 4 * s->floats, at = client * bytes;
  int64_t first = at / page * page, end = (at + bytes + page - 1) / page * page;
  while (s->file >= 0 && fallocate(s->file, 0, first, end - first) != 0)
    if (errno != EINTR)
      return fl_fail(FEDLANE_IO,
                     "%s: there is no room for the vectors of client %u, %.1f MB: %s; make room "
                     "and go on from the last checkpoint",
                     s->folder, client, 1e-6 * (double)bytes, strerror(errno));
  s->touched[client] = true;
  return FEDLANE_OK;
}

static fl_span lane_of(fl_span slot, int lane) {
  slot.at += lane * slot.stride;
  return slot;
}

fl_status fl_store_seat(const fl_store *s, fl_lanes *l, int lane, int n_slot) {
  for (int i = 0; i < n_slot; i++) {
    uint32_t client = l->client[lane];
    fl_span to = lane_of(l->slot[i], lane);
    const float *from = s->at + client * s->floats + i * l->P;
    if (s->touched[client])
      FL_TRY(l->ops->upload(l->dev, to.at, from, 4 * l->P));
    else
      FL_TRY(l->ops->fill(l->dev, 1, l->P, 0, to));
  }
  return FEDLANE_OK;
}

fl_status fl_store_unseat(fl_store *s, fl_lanes *l, int lane, int n_slot) {
  for (int i = 0; i < n_slot; i++) {
    uint32_t client = l->client[lane];
    FL_TRY(fl_store_touch(s, client));
    float *to = s->at + client * s->floats + i * l->P;
    FL_TRY(l->ops->download(l->dev, to, lane_of(l->slot[i], lane).at, 4 * l->P));
    s->dirty[client] = true;
  }
  return FEDLANE_OK;
}

/* Where half `side` (1 or 2) of a client's place in the file begins. */
static off_t place_of(const fl_store *s, int32_t client, int side) {
  return (off_t)(4 * s->floats * (2 * (int64_t)client + side - 1));
}

static uint64_t sum_of(const fl_store *s, int32_t client) {
  return fl_digest(s->at + client * s->floats, (size_t)(4 * s->floats));
}

/* Reads or writes all of a client's vectors. */
static bool transfer(int fd, bool write, float *at, int64_t bytes, off_t place) {
  char *p = (char *)at;
  while (bytes > 0) {
    ssize_t n = write ? pwrite(fd, p, (size_t)bytes, place) : pread(fd, p, (size_t)bytes, place);
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = EIO;
    if (n <= 0) return false;
    p += n;
    bytes -= n;
    place += n;
  }
  return true;
}

fl_status fl_store_save(fl_store *s, const char *path) {
  if (s->n == 0) return FEDLANE_OK;
  int fd = open(path, O_RDWR | O_CREAT, 0644);
  bool good = fd >= 0;
  memcpy(s->fresh, s->side, (size_t)s->n);
  for (int32_t i = 0; good && i < s->n; i++) {
    if (!s->dirty[i]) continue;
    s->fresh[i] = s->side[i] == 1 ? 2 : 1;
    s->sum[i] = sum_of(s, i);
    good = transfer(fd, true, s->at + i * s->floats, 4 * s->floats, place_of(s, i, s->fresh[i]));
  }
  if (good) good = fdatasync(fd) == 0;
  int why = errno;
  if (fd >= 0) close(fd);
  if (good) return FEDLANE_OK;
  return fl_fail(FEDLANE_IO, "%s: cannot write the clients' vectors: %s", path, strerror(why));
}

void fl_store_saved(fl_store *s) {
  if (s->n == 0) return;
  memcpy(s->side, s->fresh, (size_t)s->n);
  memset(s->dirty, 0, (size_t)s->n * sizeof *s->dirty);
}

/* Reads what half s->side of a client's place holds, and its sum; `said`: what that should be. */
static fl_status load_one(fl_store *s, int fd, const char *path, int32_t i, const uint64_t *said) {
  if (s->side[i] > 2)
    return fl_fail(FEDLANE_DATA, "%s: client %d has half %d; it must be 0, 1 or 2", path, i,
                   s->side[i]);
  FL_TRY(fl_store_touch(s, (uint32_t)i));
  if (!transfer(fd, false, s->at + i * s->floats, 4 * s->floats, place_of(s, i, s->side[i])))
    return fl_fail(FEDLANE_DATA, "%s: the vectors of client %d cannot be read: %s", path, i,
                   strerror(errno));
  s->sum[i] = sum_of(s, i);
  if (!said || s->sum[i] == *said) return FEDLANE_OK;
  return fl_fail(FEDLANE_DATA,
                 "%s: the vectors of client %d are damaged: their sum is %016" PRIx64
                 ", and it should be %016" PRIx64
                 "; put back a good copy of the checkpoint, or begin the run anew",
                 path, i, s->sum[i], *said);
}

fl_status fl_store_load(fl_store *s, const char *path, const uint8_t *side, const void *sum) {
  if (s->n == 0) return FEDLANE_OK;
  int fd = open(path, O_RDONLY);
  fl_status status = FEDLANE_OK;
  if (fd < 0) return fl_fail(FEDLANE_IO, "cannot read %s: %s", path, strerror(errno));
  for (int32_t i = 0; status == FEDLANE_OK && i < s->n; i++) {
    uint64_t said = 0;
    s->side[i] = side[i];
    if (side[i] == 0) continue;
    if (sum) memcpy(&said, (const char *)sum + (size_t)i * sizeof said, sizeof said);
    status = load_one(s, fd, path, i, sum ? &said : NULL);
  }
  close(fd);
  return status;
}
