/* The shared memory of the block at work: pieces with guards on both sides, poisoned at the start.
 */
#ifndef FL_HOST_SHARED_H
#define FL_HOST_SHARED_H

#include <cstddef>
#include <vector>

namespace fl_host {

class shared_memory {
 public:
  ~shared_memory();
  /* A new block with one piece of `dynamic` bytes. False when there is no memory for it. */
  bool open(size_t dynamic);
  /* The piece of a key, taken and poisoned when it is first asked for; NULL when all pieces
   * together would pass `most` bytes. */
  void *piece(const void *key, size_t bytes, size_t most);
  void *dynamic() const { return pieces.front().at; }
  /* Whether `bytes` bytes at `at` lie in one piece. */
  bool holds(const void *at, size_t bytes) const;
  /* The end of the block. Says what was written around, or NULL. */
  const char *close();

 private:
  struct part {
    const void *key;
    char *at;
    size_t bytes, room; /* room: up to the next guard's end */
  };
  char *memory = nullptr;
  size_t used = 0, taken = 0; /* bytes with and without guards */
  std::vector<part> pieces;
  void *take(const void *key, size_t bytes);
};

}  // namespace fl_host
#endif
