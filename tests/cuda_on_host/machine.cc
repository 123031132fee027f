#include "machine.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "fiber.h"
#include "settings.h"
#include "shared.h"

namespace fl_host {

__thread uint3 thread_index, block_index, block_size, grid_size;

enum : unsigned { warp_size = 32, most_threads = 1024 };
enum class state { ready, at_barrier, at_warp, gone };

struct copy {
  char *to;
  int size, group;
  unsigned char data[16];
};

struct thread {
  fiber self;
  uint3 index = {0, 0, 0};
  unsigned rank = 0;
  state is = state::gone;
  /* Where it waits, and for what. */
  const char *what = "";
  place where = {"", 0};
  unsigned mask = 0;
  void *mine = nullptr;
  /* Copies under way, oldest first; group: how many were committed before. */
  std::vector<copy> copies;
  int groups = 0;
};

/* One block at work, and the stacks of its threads, which are kept for the next one. */
struct machine {
  const launch *what = nullptr;
  fiber outside;
  std::vector<std::unique_ptr<thread>> threads;
  unsigned n = 0, n_gone = 0, n_barrier = 0, yes = 0, counted = 0;
  unsigned waiting[most_threads / warp_size] = {}; /* lanes of each warp that wait for others */
  std::vector<thread *> queue;                     /* a ring of n */
  unsigned head = 0, n_queue = 0;
  bool deep = false; /* lanes that have met run on first, else last */
  thread *now = nullptr;
  bool failed = false;
  char sentence[600] = "";
  uint64_t dice = 0;
  shared_memory shared;

  ~machine() {
    for (auto &t : threads) fiber_close(&t->self);
  }
};

static machine &here() {
  static thread_local machine m;
  return m;
}

/* SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, doi:10.1145/2660193.2660195). */
static uint64_t roll() {
  uint64_t z = (here().dice += 0x9E3779B97F4A7C15u) ^ fl_host_set()->seed;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

void poison(void *at, size_t bytes) {
  /* Ones in the upper 13 bits: a NaN as float and as double, and no index anybody means. */
  uint32_t word = 0xFFF80000u | static_cast<uint32_t>(roll() & 0x7FFFF), block[64];
  std::fill(std::begin(block), std::end(block), word);
  char *to = static_cast<char *>(at);
  for (size_t done = 0; done < bytes; done += sizeof block)
    memcpy(to + done, block, std::min(sizeof block, bytes - done));
}

/* --- order --------------------------------------------------------------------------------- */
static void push(machine &m, thread *t) {
  if (m.deep) {
    m.head = (m.head + m.n - 1) % m.n;
    m.queue[m.head] = t;
  } else {
    m.queue[(m.head + m.n_queue) % m.n] = t;
  }
  m.n_queue++;
  t->is = state::ready;
}

/* All threads of the block, in a new order. */
static void push_all(machine &m) {
  m.deep = roll() & 1;
  m.head = 0;
  m.n_queue = m.n;
  for (unsigned i = 0; i < m.n; i++) {
    unsigned j = static_cast<unsigned>(roll() % (i + 1));
    m.queue[i] = m.queue[j];
    m.queue[j] = m.threads[i].get();
    m.threads[i]->is = state::ready;
  }
}

static void describe(const thread *t, char *out, size_t size) {
  if (t->is == state::gone)
    snprintf(out, size, "thread (%u, %u, %u) has ended", t->index.x, t->index.y, t->index.z);
  else
    snprintf(out, size, "thread (%u, %u, %u) waits in %s at %s:%d", t->index.x, t->index.y,
             t->index.z, t->what, t->where.file, t->where.line);
}

/* Nobody can run and not everybody has ended: names one that waits and one that does otherwise. */
[[noreturn]] static void stuck(machine &m) {
  const thread *waits = nullptr, *other = nullptr;
  char first[200], second[200] = "";
  for (unsigned i = 0; i < m.n; i++) {
    thread *t = m.threads[i].get();
    if (!waits && t->is != state::gone) waits = t;
  }
  for (unsigned i = 0; i < m.n; i++) {
    thread *t = m.threads[i].get();
    bool same = t->is == waits->is && t->where.line == waits->where.line && t->mask == waits->mask;
    if (!other && !same) other = t;
  }
  describe(waits, first, sizeof first);
  if (other) describe(other, second, sizeof second);
  fault(waits->where, "%s, while %s", first, other ? second : "no thread can run");
}

/* The thread that runs next, with its indices in place; NULL: the block has ended. */
static thread *next(machine &m) {
  if (m.n_queue == 0) {
    if (m.n_gone == m.n) return nullptr;
    stuck(m);
  }
  thread *t = m.queue[m.head];
  m.head = (m.head + 1) % m.n;
  m.n_queue--;
  return t;
}

static void wait(machine &m, thread *me) {
  thread *t = next(m);
  if (t != me) {
    m.now = t;
    fiber_switch(&me->self, &t->self);
  }
  thread_index = me->index;
}

void fault(place where, const char *format, ...) {
  machine &m = here();
  char what[480];
  va_list list;
  va_start(list, format);
  vsnprintf(what, sizeof what, format, list);
  va_end(list);
  snprintf(m.sentence, sizeof m.sentence, "%s, block (%u, %u, %u), %s:%d: %s", m.what->kernel,
           block_index.x, block_index.y, block_index.z, where.file, where.line, what);
  m.failed = true;
  m.now->self.away = true;
  fiber_leave(&m.now->self, &m.outside);
  abort();
}

/* --- meeting ------------------------------------------------------------------------------- */
static bool same_text(const char *a, const char *b) { return a == b || strcmp(a, b) == 0; }

static void same_place(const thread *a, const thread *b) {
  if (a->where.line == b->where.line && same_text(a->where.file, b->where.file) &&
      a->mask == b->mask && same_text(a->what, b->what))
    return;
  char first[200], second[200];
  describe(a, first, sizeof first);
  describe(b, second, sizeof second);
  fault(a->where, "threads meet at different places or masks: %s, %s", first, second);
}

int meet_block(const char *what, bool yes, place where) {
  machine &m = here();
  thread *me = m.now;
  me->is = state::at_barrier;
  me->what = what;
  me->where = where;
  me->mask = 0;
  m.yes += yes;
  if (++m.n_barrier == m.n) {
    for (unsigned i = 1; i < m.n; i++) same_place(m.threads[i].get(), m.threads[0].get());
    m.counted = std::exchange(m.yes, 0);
    m.n_barrier = 0;
    push_all(m);
  }
  wait(m, me);
  return static_cast<int>(m.counted);
}

void meet_warp(const char *what, unsigned mask, void *mine, meeting act, place where) {
  machine &m = here();
  thread *me = m.now;
  unsigned warp = me->rank / warp_size, lane = me->rank % warp_size, first = warp * warp_size;
  unsigned there = m.n - first >= warp_size ? ~0u : (1u << (m.n - first)) - 1;
  if (!(mask >> lane & 1))
    fault(where, "%s: lane %u is not in its own mask %08x", what, lane, mask);
  if (mask & ~there) fault(where, "%s: mask %08x has lanes that the warp lacks", what, mask);
  me->is = state::at_warp;
  me->what = what;
  me->where = where;
  me->mask = mask;
  me->mine = mine;
  m.waiting[warp] |= 1u << lane;
  if ((m.waiting[warp] & mask) == mask) {
    void *theirs[warp_size] = {};
    for (unsigned i = 0; i < warp_size; i++) {
      if (!(mask >> i & 1)) continue;
      same_place(m.threads[first + i].get(), me);
      theirs[i] = m.threads[first + i]->mine;
    }
    act(theirs, mask);
    m.waiting[warp] &= ~mask;
    unsigned turn = static_cast<unsigned>(roll());
    for (unsigned i = 0; i < warp_size; i++) {
      unsigned j = (i + turn) % warp_size;
      if (mask >> j & 1) push(m, m.threads[first + j].get());
    }
  }
  wait(m, me);
}

/* --- shared memory and copies to it -------------------------------------------------------- */
void *shared_static(const void *key, size_t bytes, place where) {
  machine &m = here();
  void *at = m.shared.piece(key, bytes, m.what->most);
  if (!at)
    fault(where, "more shared memory than the %zu bytes that this launch may have", m.what->most);
  return at;
}

void *shared_dynamic() { return here().shared.dynamic(); }

void copy_async(void *dst, const void *src, int size, int bytes, place where) {
  machine &m = here();
  if (bytes < 0 || bytes > size) fault(where, "copy of %d bytes; 0 .. %d are allowed", bytes, size);
  if (reinterpret_cast<uintptr_t>(dst) % static_cast<unsigned>(size) != 0 ||
      (bytes && reinterpret_cast<uintptr_t>(src) % static_cast<unsigned>(size) != 0))
    fault(where, "copy between addresses that are not multiples of %d", size);
  if (!m.shared.holds(dst, static_cast<size_t>(size)))
    fault(where, "copy to a place outside the block's shared memory");
  copy c = {static_cast<char *>(dst), size, m.now->groups, {0}};
  memcpy(c.data, src, static_cast<size_t>(bytes));
  poison(dst, static_cast<size_t>(size));
  m.now->copies.push_back(c);
}

void copy_commit() { here().now->groups++; }

void copy_wait(int n) {
  thread *me = here().now;
  size_t done = 0;
  for (; done < me->copies.size() && me->copies[done].group < me->groups - n; done++)
    memcpy(me->copies[done].to, me->copies[done].data, static_cast<size_t>(me->copies[done].size));
  me->copies.erase(me->copies.begin(), me->copies.begin() + static_cast<std::ptrdiff_t>(done));
}

/* --- blocks -------------------------------------------------------------------------------- */
static void thread_main() {
  fiber_entered();
  machine &m = here();
  thread *me = m.now;
  thread_index = me->index;
  m.what->body();
  me->is = state::gone;
  m.n_gone++;
  thread *t = next(m);
  m.now = t;
  fiber_leave(&me->self, t ? &t->self : &m.outside);
}

static void start_threads(machine &m) {
  uint3 size = block_size;
  m.n = size.x * size.y * size.z;
  m.n_gone = m.n_barrier = m.yes = 0;
  memset(m.waiting, 0, sizeof m.waiting);
  m.queue.resize(most_threads);
  for (unsigned i = 0; i < m.n; i++) {
    if (i == m.threads.size()) {
      m.threads.push_back(std::make_unique<thread>());
      fiber_open(&m.threads[i]->self);
    }
    thread *t = m.threads[i].get();
    t->rank = i;
    t->index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    t->copies.clear();
    t->groups = 0;
    fiber_start(&t->self, thread_main);
  }
  push_all(m);
}

static bool run_block(machine &m, uint3 block) {
  block_index = block;
  if (!m.shared.open(m.what->shared)) {
    snprintf(m.sentence, sizeof m.sentence, "%s: no memory for %zu bytes of shared memory",
             m.what->kernel, m.what->shared);
    return false;
  }
  start_threads(m);
  m.now = next(m);
  fiber_switch(&m.outside, &m.now->self);
  const char *harmed = m.shared.close();
  if (harmed && !m.failed) {
    snprintf(m.sentence, sizeof m.sentence, "%s, block (%u, %u, %u): written outside %s",
             m.what->kernel, block.x, block.y, block.z, harmed);
    m.failed = true;
  }
  return !m.failed;
}

bool run_grid(const launch &what, char *sentence, size_t size) {
  machine &m = here();
  uint64_t n = static_cast<uint64_t>(what.grid.x) * what.grid.y * what.grid.z;
  bool backward = roll() & 1;
  m.what = &what;
  m.failed = false;
  grid_size = {what.grid.x, what.grid.y, what.grid.z};
  block_size = {what.block.x, what.block.y, what.block.z};
  for (uint64_t i = 0; i < n && !m.failed; i++) {
    uint64_t b = backward ? n - 1 - i : i;
    run_block(m, {static_cast<unsigned>(b % what.grid.x),
                  static_cast<unsigned>(b / what.grid.x % what.grid.y),
                  static_cast<unsigned>(b / what.grid.x / what.grid.y)});
  }
  if (m.failed) snprintf(sentence, size, "%s", m.sentence);
  m.what = nullptr;
  return !m.failed;
}

}  // namespace fl_host
