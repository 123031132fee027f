#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "digest.h"
#include "run.h"

static int64_t physical_memory(void) {
  return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

/* A nameless file in `folder` that grows as pages are touched; -1 when there can be none. */
static int scratch_file(const char *folder, int64_t bytes) {
  int fd = folder && *folder ? open(folder, O_TMPFILE | O_RDWR, 0600) : -1;
  if (fd >= 0 && ftruncate(fd, bytes) != 0) {
    close(fd);
    fd = -1;
  }
  return fd;
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
  int fd = s->bytes > physical_memory() / 2 ? scratch_file(folder, s->bytes) : -1;
  int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void *at = mmap(NULL, (size_t)s->bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (fd >= 0) close(fd);
  if (at == MAP_FAILED)
    return fl_fail(FEDLANE_MEMORY, "cannot reserve %.1f GB for the vectors of %d clients: %s",
                   1e-9 * (double)s->bytes, n, strerror(errno));
  s->at = at;
  return FEDLANE_OK;
}

void fl_store_close(fl_store *s) {
  if (s->at) munmap(s->at, (size_t)s->bytes);
  free(s->side);
  free(s->fresh);
  free(s->sum);
  free(s->touched);
  free(s->dirty);
  memset(s, 0, sizeof *s);
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
    float *to = s->at + client * s->floats + i * l->P;
    FL_TRY(l->ops->download(l->dev, to, lane_of(l->slot[i], lane).at, 4 * l->P));
    s->touched[client] = s->dirty[client] = true;
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
    s->touched[i] = side[i] != 0;
    if (!s->touched[i]) continue;
    if (sum) memcpy(&said, (const char *)sum + (size_t)i * sizeof said, sizeof said);
    status = load_one(s, fd, path, i, sum ? &said : NULL);
  }
  close(fd);
  return status;
}
