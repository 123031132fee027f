#define XXH_INLINE_ALL
#include "digest.h"

#include <xxhash.h>

uint64_t fl_digest(const void *at, size_t n) { return XXH3_64bits(at, n); }

uint64_t fl_digest_on(uint64_t before, const void *at, size_t n) {
  return XXH3_64bits_withSeed(at, n, before);
}
