#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "asan.h"

namespace fl_host {

constexpr size_t stack_bytes = 256 * 1024;

/* The fiber that the running one was switched from, which alone can learn its own stack from the
 * sanitizer. */
static __thread fiber *left;

#if defined(__x86_64__)
/* Pushes what the calling convention keeps, stores the stack pointer, takes the other and pops. */
extern "C" void fl_host_swap(void **save, void *load);
asm(R"(
.text
.globl fl_host_swap
.hidden fl_host_swap
.type fl_host_swap, @function
fl_host_swap:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fl_host_swap, .-fl_host_swap
)");

static void swap(fiber *from, fiber *to) { fl_host_swap(&from->at, to->at); }

static void prepare(fiber *f, void (*entry)()) {
  uintptr_t *top = reinterpret_cast<uintptr_t *>(f->stack + f->size) - 2;
  top[1] = 0; /* where backtraces end */
  top[0] = reinterpret_cast<uintptr_t>(entry);
  for (int i = 1; i <= 6; i++) top[-i] = 0;
  f->at = top - 6;
}

static void release(fiber *) {}

#else
}
#include <ucontext.h>
namespace fl_host {

static ucontext_t *context(fiber *f) {
  if (!f->at) f->at = calloc(1, sizeof(ucontext_t));
  if (!f->at) abort();
  return static_cast<ucontext_t *>(f->at);
}

static void swap(fiber *from, fiber *to) { swapcontext(context(from), context(to)); }

static void prepare(fiber *f, void (*entry)()) {
  ucontext_t *c = context(f);
  getcontext(c);
  c->uc_stack.ss_sp = f->stack;
  c->uc_stack.ss_size = f->size;
  c->uc_link = nullptr;
  makecontext(c, entry, 0);
}

static void release(fiber *f) { free(f->at); }
#endif

void fiber_open(fiber *f) {
  size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void *at = mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED || mprotect(at, page, PROT_NONE) != 0) abort();
  f->stack = static_cast<char *>(at) + page;
  f->size = stack_bytes;
}

void fiber_close(fiber *f) {
  size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  release(f);
  munmap(f->stack - page, page + f->size);
}

void fiber_start(fiber *f, void (*entry)()) {
  if (f->away) ASAN_UNPOISON_MEMORY_REGION(f->stack, f->size);
  f->fake = nullptr;
  f->away = false;
  prepare(f, entry);
}

void fiber_entered() {
#ifdef FL_HOST_ASAN
  const void *bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  left->stack = static_cast<char *>(const_cast<void *>(bottom));
  left->size = size;
#endif
}

void fiber_switch(fiber *from, fiber *to) {
  left = from;
  from->away = true;
#ifdef FL_HOST_ASAN
  __sanitizer_start_switch_fiber(&from->fake, to->stack, to->size);
  swap(from, to);
  const void *bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(from->fake, &bottom, &size);
  left->stack = static_cast<char *>(const_cast<void *>(bottom));
  left->size = size;
#else
  swap(from, to);
#endif
  from->away = false;
}

void fiber_leave(fiber *from, fiber *to) {
  left = from;
#ifdef FL_HOST_ASAN
  __sanitizer_start_switch_fiber(nullptr, to->stack, to->size);
#endif
  swap(from, to);
  abort();
}

}  // namespace fl_host
