/* Memory of the pretend devices: ordinary memory that holds poison at first, counted, and known by
 * its addresses, so that a copy which takes a host's pointer for a device's is refused. */
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "host_device.h"
#include "settings.h"

using namespace fl_host;

enum class kind { device, pinned };

struct piece {
  size_t bytes;
  int device;
  kind is;
};

static std::mutex pieces_lock;
static std::map<const char *, piece> pieces;

/* The piece that holds all of at[0 .. bytes-1]; nothing: none does. */
static std::optional<piece> find(const void *at, size_t bytes) {
  const char *from = static_cast<const char *>(at);
  std::lock_guard<std::mutex> hold(pieces_lock);
  auto next = pieces.upper_bound(from);
  if (next == pieces.begin()) return std::nullopt;
  const auto &[start, found] = *std::prev(next);
  uintptr_t before = reinterpret_cast<uintptr_t>(from) - reinterpret_cast<uintptr_t>(start);
  if (before > found.bytes || bytes > found.bytes - before) return std::nullopt;
  return found;
}

static bool on_device(const void *at, size_t bytes) {
  std::optional<piece> p = find(at, bytes);
  return p && p->is == kind::device;
}

static bool is_pinned(const void *at, size_t bytes) {
  std::optional<piece> p = find(at, bytes);
  return p && p->is == kind::pinned;
}

bool fl_host::is_memory_of(int device, const void *at, size_t bytes) {
  std::optional<piece> p = find(at, bytes);
  return p && p->is == kind::device && p->device == device;
}

/* A device's memory, but not that of the stream's. */
static bool is_elsewhere(const void *at, size_t bytes, cudaStream_t stream) {
  return on_device(at, bytes) &&
         !is_memory_of(stream ? stream->device : current_device(), at, bytes);
}

bool fl_host::names_elsewhere(const void *at, size_t bytes, cudaStream_t stream) {
  const char *from = static_cast<const char *>(at);
  for (size_t i = 0; i + sizeof(void *) <= bytes; i += sizeof(void *)) {
    const void *word;
    memcpy(&word, from + i, sizeof word);
    if (word && is_elsewhere(word, 1, stream)) return true;
  }
  return false;
}

static cudaError_t take(void **at, size_t bytes, kind is) {
  int index = current_device();
  cudaError_t error = check_device(index);
  if (error != cudaSuccess) return error;
  if (capturing()) return forbid();
  *at = nullptr;
  if (bytes == 0) return cudaSuccess;
  device &d = device_at(index);
  std::lock_guard<std::recursive_mutex> hold(d.lock);
  size_t room = static_cast<size_t>(fl_host_set()->memory);
  if (is == kind::device && (bytes > room || d.used > room - bytes))
    return note(cudaErrorMemoryAllocation);
  if (posix_memalign(at, 256, bytes) != 0) return note(cudaErrorMemoryAllocation);
  poison(*at, bytes);
  if (is == kind::device) d.used += bytes;
  std::lock_guard<std::mutex> hold_pieces(pieces_lock);
  pieces[static_cast<const char *>(*at)] = {bytes, index, is};
  return cudaSuccess;
}

static cudaError_t give_back(void *at, kind is) {
  if (!at) return cudaSuccess;
  if (capturing()) return forbid();
  std::optional<piece> p = find(at, 0);
  if (!p || p->is != is) return note(cudaErrorInvalidValue);
  int index = p->device;
  cudaError_t error = drain(index);
  device &d = device_at(index);
  std::lock_guard<std::recursive_mutex> hold(d.lock);
  std::lock_guard<std::mutex> hold_pieces(pieces_lock);
  auto found = pieces.find(static_cast<const char *>(at));
  if (found == pieces.end()) return note(cudaErrorInvalidValue);
  if (is == kind::device) d.used -= found->second.bytes;
  pieces.erase(found);
  free(at);
  return error;
}

cudaError_t cudaMalloc(void **at, size_t bytes) { return take(at, bytes, kind::device); }
cudaError_t cudaFree(void *at) { return give_back(at, kind::device); }
cudaError_t cudaMallocHost(void **at, size_t bytes) { return take(at, bytes, kind::pinned); }
cudaError_t cudaFreeHost(void *at) { return give_back(at, kind::pinned); }

cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
  cudaError_t error = check_device(current_device());
  if (error != cudaSuccess) return error;
  *total = static_cast<size_t>(fl_host_set()->memory);
  *left = *total - device_at(current_device()).used;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  bool to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault && (on_device(dst, bytes) != to || on_device(src, bytes) != from))
    return note(cudaErrorInvalidValue);
  if (is_elsewhere(dst, bytes, stream) || is_elsewhere(src, bytes, stream))
    return note(cudaErrorInvalidValue);
  bool out = !on_device(dst, bytes), in = !on_device(src, bytes);
  bool pageable = (in && !is_pinned(src, bytes)) || (out && !is_pinned(dst, bytes));
  if (stream && stream->capture && pageable) return forbid();
  if (in && !is_pinned(src, bytes)) { /* the driver keeps a copy of pageable memory */
    std::shared_ptr<char> kept(static_cast<char *>(malloc(bytes)), free);
    if (!kept) return note(cudaErrorMemoryAllocation);
    memcpy(kept.get(), src, bytes);
    return submit(
        stream, [=](char *, size_t) { return memcpy(dst, kept.get(), bytes) == dst; }, &pieces);
  }
  cudaError_t error = submit(
      stream, [=](char *, size_t) { return memmove(dst, src, bytes) == dst; }, &pieces);
  if (error != cudaSuccess || !out || is_pinned(dst, bytes)) return error;
  return cudaStreamSynchronize(stream);
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind) {
  cudaError_t error = cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
  return error == cudaSuccess ? drain(current_device()) : error;
}

cudaError_t cudaMemcpyPeerAsync(void *dst, int dst_device, const void *src, int src_device,
                                size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!is_memory_of(dst_device, dst, bytes) || !is_memory_of(src_device, src, bytes))
    return note(cudaErrorInvalidValue);
  return submit(
      stream, [=](char *, size_t) { return memmove(dst, src, bytes) == dst; }, &pieces);
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!on_device(at, bytes) || is_elsewhere(at, bytes, stream)) return note(cudaErrorInvalidValue);
  return submit(
      stream, [=](char *, size_t) { return memset(at, value, bytes) == at; }, &pieces);
}

cudaError_t cudaMemset(void *at, int value, size_t bytes) {
  return cudaMemsetAsync(at, value, bytes, nullptr);
}
