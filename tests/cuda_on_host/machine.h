/* The pretend multiprocessor: runs the blocks of a grid one after another on the calling host
 * thread, each thread of a block as a fiber. Kernels reach it through the names of cuda_on_host.h;
 * docs/cuda-on-host.md says what is checked. */
#ifndef FL_HOST_MACHINE_H
#define FL_HOST_MACHINE_H

#include <cstddef>
#include <cstdint>
#include <functional>

#include "types.h"

namespace fl_host {

/* A place in a kernel's source; as a default argument, the caller's. */
struct place {
  const char *file;
  int line;
  static constexpr place here(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

struct launch {
  const char *kernel; /* its name, for sentences */
  dim3 grid, block;
  size_t shared; /* bytes of dynamic shared memory */
  size_t most;   /* bytes of shared memory that a block of this kernel may have in all */
  std::function<void()> body;
};

/* Runs the grid. False after a fault: `sentence` (of `size` bytes) says which, and the rest of the
 * grid has not run. */
bool run_grid(const launch &what, char *sentence, size_t size);

/* --- for the thread that is running -------------------------------------------------------- */
extern __thread uint3 thread_index, block_index, block_size, grid_size;

/* Ends the launch with a sentence. */
[[noreturn]] void fault(place where, const char *format, ...)
    __attribute__((__format__(__printf__, 2, 3)));

/* Waits until all threads of the block have come to the same place. `yes` is counted over them. */
int meet_block(const char *what, bool yes, place where);

/* Waits until the lanes of `mask` have come to the same place with the same mask. The last one
 * calls act with what each lane brought (theirs[lane], others NULL). */
using meeting = void (*)(void *const *theirs, unsigned mask);
void meet_warp(const char *what, unsigned mask, void *mine, meeting act, place where);

/* Shared memory: one piece for each key of a block; and the launch's dynamic piece. */
void *shared_static(const void *key, size_t bytes, place where);
void *shared_dynamic();

/* A copy of `bytes` bytes and size - bytes zeros to shared memory. Until the wait that covers it,
 * the destination holds poison. */
void copy_async(void *dst, const void *src, int size, int bytes, place where);
void copy_commit();
void copy_wait(int n);

/* One m16n8k8 (bf16: m16n8k16) product of the whole warp. */
void multiply(float *d, const uint32_t *a, const uint32_t *b, bool bf16, place where);

/* Fills memory with NaNs whose lower bits follow from the seed and differ from call to call. */
void poison(void *at, size_t bytes);

}  // namespace fl_host
#endif
