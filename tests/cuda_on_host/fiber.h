/* Fibers: stacks that one host thread switches between by hand. */
#ifndef FL_HOST_FIBER_H
#define FL_HOST_FIBER_H

#include <cstddef>

namespace fl_host {

struct fiber {
  void *at = nullptr;    /* the saved stack pointer (a ucontext_t where there is no assembler) */
  char *stack = nullptr; /* lowest address; NULL until it is first left, for a thread's own stack */
  size_t size = 0;
  void *fake = nullptr; /* AddressSanitizer's */
  bool away = false;    /* it was switched from, and nobody has switched back */
};

/* Gives the fiber a stack, once, with a page below it that may not be touched. */
void fiber_open(fiber *f);
/* Makes the next switch to the fiber call entry(), which must never return. Whatever the fiber was
 * doing before is forgotten. */
void fiber_start(fiber *f, void (*entry)());
/* Leaves `from`, the running fiber, for `to`; returns when somebody switches back. */
void fiber_switch(fiber *from, fiber *to);
/* As fiber_switch, for a fiber that will not be switched back to. It never returns, which the
 * compiler is not told: it would clear the sanitizer's record of the stack each time. */
void fiber_leave(fiber *from, fiber *to);
/* To be called first by every entry. */
void fiber_entered();
void fiber_close(fiber *f);

}  // namespace fl_host
#endif
