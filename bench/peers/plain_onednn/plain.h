/* Workload a1 written plainly on oneDNN: what its three files share. */
#ifndef PLAIN_H
#define PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { PIXELS = 3 * 32 * 32, FLAT = 64 * 14 * 14, HIDDEN = 128, CLASSES = 10 };
enum { BATCH = 10, TEST_BATCH = 100 };

/* All weights lie in one array, with PyTorch's order and shapes; here is where each one begins. */
enum { W1, B1 = 864, W2 = 896, B2 = 19328, CONVS = 19392 };
enum { W3 = CONVS, B3 = W3 + HIDDEN * FLAT, W4 = B3 + HIDDEN, B4 = W4 + CLASSES * HIDDEN };
enum { WEIGHTS = B4 + CLASSES };

/* Ends the program with a message. */
_Noreturn void die(const char *format, ...);

/* Zeros, which begin at a multiple of 64 bytes. */
void *make(size_t bytes);
float *floats(size_t n);

double now(clockid_t clock);

/* Seconds since the process was started. */
double age(void);

/* What all threads read. x and x_test are normalised pixels; order lists the rows of one visit of
 * a client after another, `share` each. */
typedef struct work {
  float *x, *x_test, *w, lr;
  int32_t *y, *y_test, *order;
  int64_t n_test;
  int rounds, cohort, share, eval_every;
} work;

/* Reads all but the rounds, which are an upper limit, or 0. */
void work_read(work *out, const char *folder);

/* What one thread needs for a batch of images at a time, and what it has found out. */
typedef struct net net;

enum { GATHER, CONV1, CONV2, POOL, DROP, DENSE, LOSS, WEIGHTS2, DATA2, WEIGHTS1, SEAT, MIX, PARTS };
extern const char *const part_name[PARTS];

typedef struct tally {
  double loss, hits, part[PARTS]; /* sums; part: seconds */
  float *sum;                     /* [WEIGHTS]: of weighted updates */
  const char *kernel[PARTS];      /* oneDNN's names, of convolutions */
} tally;

/* dropout multiplies the rates; seed begins its random numbers. Call it, and the three below, in a
 * thread that gave OpenMP one thread: oneDNN asks how many it may use. */
net *net_new(int rows, bool train, float dropout, uint32_t seed);
tally *net_tally(net *t);

/* Trains one client from work->w, and adds its part of the mean update to the tally's sum. */
void net_train(net *t, const work *work, const int32_t *rows);

/* Evaluates work->w on test images from `first` on. */
void net_test(net *t, const work *work, int64_t first);

/* oneDNN's, as "2.6.3". */
const char *net_version(void);

#endif
