#include "shared.h"

#include <cstdlib>
#include <cstring>

#include "asan.h"
#include "machine.h"
#include "settings.h"

namespace fl_host {

constexpr size_t align = 128, guard = 512, room_bytes = 1 << 20;
constexpr int untouched = 0xFF; /* what guards are filled with: NaN to whoever reads it */

shared_memory::~shared_memory() { free(memory); }

void *shared_memory::take(const void *key, size_t bytes) {
  size_t room = (bytes + align - 1) / align * align + guard;
  if (room > room_bytes || used + room > room_bytes) return nullptr;
  part p = {key, memory + used, bytes, room};
  memset(p.at + bytes, untouched, room - bytes);
  poison(p.at, bytes);
  if (fl_host_set()->asan_guards) ASAN_POISON_MEMORY_REGION(p.at + bytes, room - bytes);
  pieces.push_back(p);
  used += room;
  taken += bytes;
  return p.at;
}

bool shared_memory::open(size_t dynamic_bytes) {
  if (!memory) memory = static_cast<char *>(aligned_alloc(align, room_bytes));
  if (!memory) return false;
  pieces.clear();
  taken = 0;
  used = guard;
  memset(memory, untouched, guard);
  if (fl_host_set()->asan_guards) ASAN_POISON_MEMORY_REGION(memory, guard);
  return take(nullptr, dynamic_bytes) != nullptr;
}

void *shared_memory::piece(const void *key, size_t bytes, size_t most) {
  for (const part &p : pieces)
    if (p.key == key) return p.at;
  return taken + bytes > most ? nullptr : take(key, bytes);
}

bool shared_memory::holds(const void *at, size_t bytes) const {
  const char *from = static_cast<const char *>(at);
  for (const part &p : pieces)
    if (from >= p.at && from + bytes <= p.at + p.bytes) return true;
  return false;
}

static bool whole(const char *at, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (static_cast<unsigned char>(at[i]) != untouched) return false;
  return true;
}

const char *shared_memory::close() {
  ASAN_UNPOISON_MEMORY_REGION(memory, used);
  const char *harmed = whole(memory, guard) ? nullptr : "the start of dynamic shared memory";
  for (const part &p : pieces)
    if (!harmed && !whole(p.at + p.bytes, p.room - p.bytes))
      harmed = p.key ? "static shared memory" : "the end of dynamic shared memory";
  return harmed;
}

}  // namespace fl_host
