/* Digests of bytes: XXH3, 64 bits, against accidents. */
#ifndef FL_DIGEST_H
#define FL_DIGEST_H

#include <stddef.h>
#include <stdint.h>

uint64_t fl_digest(const void *at, size_t n);
/* Of one run of bytes after another: `before` is the digest so far, 0 at first. */
uint64_t fl_digest_on(uint64_t before, const void *at, size_t n);

#endif
