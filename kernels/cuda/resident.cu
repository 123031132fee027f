/* Resident lanes: all local steps of a lane by one block in one launch.
 *
 * A tape of one step (tape.h) is run as it stands, call after call with a barrier between, for
 * every piece of the lane; lanes end after their own number of pieces. Weights and activations are
 * where the tape says, in global memory: what one lane of a small net touches in a step is found in
 * the L2 cache or streams by while other images are worked on. The arithmetic is fp32 at every
 * precision: on windows of 6 and 16 channels tensor cores would wait for shared memory, and the
 * sums of a dense layer are a tenth of the work.
 *
 * Counted for lenet, 50 images of 3 x 32 x 32 a piece, its blocks of layers taken at once: the
 * layers ask for 80 million products; with the zeros around conv2's gradient and the ends of rows
 * that are no multiple of four, 100 million are issued, 780,000 cycles of one multiprocessor's 128
 * units, 0.44 ms at 1.755 GHz. In conv1 a warp issues 240 of them to 12 reads of shared memory
 * forward and 120 to 7 for the filters. Through the L2 cache go about 5 MB a step, 0.12 ms at a
 * 132nd of 5.5 TB/s, mostly under the arithmetic; there are 25 calls and about 150 barriers. That
 * makes an estimate of 0.7 to 0.9 ms a step on an H100; nobody has measured it. */
#include <string.h>

#include "resident_conv.h"
#include "resident_dense.h"
#include "resident_rows.h"

enum {
  MOST_FLOP = 256 * 1000 * 1000, /* of a piece of one lane: about 1 ms of a multiprocessor */
  PIPELINE_FLOATS = 36 * 1024,   /* of all stages of a dense layer */
};

static __device__ inline void run_conv(const fl_task &f, const fl_now &now) {
  bool three = f.call.window.kernel == 3, six = f.head == 6;
  if (f.call.op == FL_CALL_CONV_BWD_WEIGHTS)
    three ? resident_conv_sums<3, 8>(f, now)
    : six ? resident_conv_sums<5, 6>(f, now)
          : resident_conv_sums<5, 8>(f, now);
  else
    three ? resident_conv<3, 4>(f, now)
    : six ? resident_conv<5, 6>(f, now)
          : resident_conv<5, 4>(f, now);
}

static __device__ inline void run_dense(const fl_task &f, const fl_now &now, int B) {
  switch (f.call.op) {
    case FL_CALL_DENSE_FWD:
      return resident_narrow(B) ? resident_dense_fwd<2>(f, now) : resident_dense_fwd<4>(f, now);
    case FL_CALL_DENSE_BWD_DATA:
      return resident_narrow(B) ? resident_dense_back<1, 2, 1, false>(f, now)
                                : resident_dense_back<2, 4, 2, false>(f, now);
    default:
      return resident_narrow(f.call.O) ? resident_dense_back<1, 2, 1, true>(f, now)
                                       : resident_dense_back<2, 4, 2, true>(f, now);
  }
}

static __device__ inline void run_call(const fl_resident &r, const fl_task &f, const fl_now &now) {
  switch (f.call.op) {
    case FL_CALL_GATHER:
      return resident_gather(r, f.call, now);
    case FL_CALL_DENSE_FWD:
    case FL_CALL_DENSE_BWD_DATA:
    case FL_CALL_DENSE_BWD_WEIGHTS:
      return run_dense(f, now, r.B);
    case FL_CALL_CONV_FWD:
    case FL_CALL_CONV_BWD_DATA:
    case FL_CALL_CONV_BWD_WEIGHTS:
      return run_conv(f, now);
    case FL_CALL_POOL_FWD:
      return resident_pool(f.call, now);
    case FL_CALL_POOL_BWD:
      return resident_pool_back(f.call, now);
    case FL_CALL_POOL_RELU_BWD:
      return resident_pool_relu_back(f.call, now);
    case FL_CALL_ACT_FWD:
    case FL_CALL_ACT_BWD:
      return resident_act(f.call, now);
    case FL_CALL_DROPOUT:
      return resident_dropout(r, f.call, now);
    case FL_CALL_FLATTEN:
      return resident_flatten(f.call, now);
    case FL_CALL_XENT:
    case FL_CALL_REGRESS:
      return resident_loss(r, f.call, now);
    case FL_CALL_STEP:
      return resident_step(f.call, now);
    case FL_CALL_AXPBY:
      return resident_axpby(f.call, now);
  }
}

/* A block a lane. The tasks come first in shared memory, where the piece that all are at is too. */
static FL_KERNEL_BOUNDS(FL_SEAT_THREADS,
                        1) void train_resident(const __grid_constant__ fl_resident r) {
  FL_SHARED_DYNAMIC(fl_task, tasks);
  FL_SHARED(fl_now, now, [1]);
  for (int i = (int)threadIdx.x; i < r.n_task * (int)(sizeof(fl_task) / 4); i += FL_SEAT_THREADS)
    ((uint32_t *)tasks)[i] = ((const uint32_t *)r.task)[i];
  int n_piece = r.seat[blockIdx.x].n_piece;
  for (int piece = 0; piece < n_piece; piece++) {
    if (threadIdx.x == 0) {
      fl_seat seat = r.seat[blockIdx.x];
      int live = min(r.B, seat.n_row - piece % (seat.n_piece / r.epochs) * r.B);
      fl_now here = {(int)blockIdx.x, piece,    live,   1.0f / (float)live,
                     seat.client,     seat.nth, r.front};
      now[0] = here;
    }
    __syncthreads();
    for (int k = 0; k < r.n_task; k++) {
      run_call(r, tasks[k], now[0]);
      __syncthreads();
    }
  }
}

static fl_planes planes_of(fl_image size, int pad, int kernel) {
  fl_planes p = {size, pad, (size.width + 2 * pad + 3) / 4 * 4, 0};
  if (p.pitch % 8 == 0) p.pitch += 4;
  p.plane = (size.height + 2 * pad) * p.pitch;
  while ((p.plane - kernel * p.pitch) % 32 != 0) p.plane += 4;
  return p;
}

static int64_t fwd_floats(const fl_task *f, int B) {
  return FL_STAGES * (resident_narrow(B) ? resident_fwd_floats<2>(*f) : resident_fwd_floats<4>(*f));
}

/* Shares 16 warps out over a tile of outputs and rows, and what is left of them over the depth. */
static int64_t plan_dense(fl_task *f, int B) {
  const fl_call *c = &f->call;
  if (c->op != FL_CALL_DENSE_FWD) return FL_STAGES * (256 + 64) * FL_DEPTH;
  int wide = resident_narrow(B) ? 16 : 32;
  f->columns = B <= wide ? 1 : 2;
  int bands = (int)fl_ceil_div(c->O, 16), most = FL_SEAT_WARPS / f->columns;
  f->bands = (int)fl_ceil_div(bands, fl_ceil_div(bands, most));
  int depth = (int)fl_ceil_div(c->I, FL_DEPTH);
  for (f->shares = FL_SEAT_WARPS / (f->bands * f->columns); f->shares > 1; f->shares--)
    if (f->shares <= depth && fwd_floats(f, B) <= PIPELINE_FLOATS) break;
  return fwd_floats(f, B);
}

/* Units of work of one image, for one group of channels and altogether. */
static int units_of(fl_image out) { return (out.height + 1) / 2 * ((out.width + 3) / 4); }

/* The most images of a stage, and then the most channels, that leave room for two stages. */
static int64_t plan_conv(fl_task *f, int B, int64_t room) {
  const fl_window *s = &f->call.window;
  bool data = f->call.op == FL_CALL_CONV_BWD_DATA, sums = f->call.op == FL_CALL_CONV_BWD_WEIGHTS;
  fl_image from = data ? s->out : s->in, to = data ? s->in : s->out;
  f->head = sums ? 8 : 4;
  int wasted = (int)fl_ceil_div(to.channels, f->head) * f->head - to.channels;
  if (s->kernel == 5 && fl_ceil_div(to.channels, 6) * 6 - to.channels < wasted) f->head = 6;
  f->heads = (int)fl_ceil_div(to.channels, f->head);
  f->in = planes_of(from, data ? s->kernel - 1 - s->pad : s->pad, s->kernel);
  f->channels = from.channels;
  f->group = B;
  if (sums) {
    int chains = f->heads * (from.channels * s->kernel + 1);
    f->out = planes_of(to, 0, s->kernel);
    if (chains > FL_SEAT_THREADS) return INT64_MAX;
    while (f->group > 1 && FL_SLACK + 2 * (int64_t)resident_sums_floats(*f) > room) f->group--;
    int64_t joined = (int64_t)FL_SEAT_THREADS * f->head * s->kernel;
    int64_t floats = 2 * (int64_t)resident_sums_floats(*f);
    return FL_SLACK + (floats > joined ? floats : joined);
  }
  int units = units_of(to) * f->heads, filters = resident_filter_floats(*f);
  if (units > FL_SEAT_THREADS) return INT64_MAX;
  if (f->group > FL_SEAT_THREADS / units) f->group = FL_SEAT_THREADS / units;
  while (f->channels > 1 && filters + 2 * (int64_t)resident_stage_floats(*f) > room) f->channels--;
  while (f->group > 1 && filters + 2 * (int64_t)resident_stage_floats(*f) > room) f->group--;
  return filters + 2 * (int64_t)resident_stage_floats(*f);
}

static bool takes_window(const fl_call *c) {
  const fl_window *s = &c->window;
  return !s->flat && s->stride == 1 && (s->kernel == 3 || s->kernel == 5);
}

static double flop_of(const fl_call *c) {
  const fl_window *s = &c->window;
  if (c->op >= FL_CALL_DENSE_FWD && c->op <= FL_CALL_DENSE_BWD_WEIGHTS) return 2.0 * c->I * c->O;
  if (c->op >= FL_CALL_CONV_FWD && c->op <= FL_CALL_CONV_BWD_WEIGHTS)
    return 2.0 * (double)fl_image_size(s->out) * s->in.channels * s->kernel * s->kernel;
  return 0;
}

/* Floats that n tasks take in front of shared memory. */
static int front_of(int n) {
  return (int)fl_ceil_div(n * (int64_t)sizeof(fl_task), 128) * 128 / (int)sizeof(float);
}

/* Makes tasks of a tape's calls. *bytes: dynamic shared memory that they need. */
static fl_status plan(fl_dev *d, const fl_tape *tape, fl_task *task, int *bytes) {
  int most = 0;
  double flop = 0;
  for (int k = 0; k < tape->n; k++) flop += tape->B * flop_of(&tape->call[k]);
  if (flop > MOST_FLOP)
    return fl_fail(FEDLANE_UNSUPPORTED,
                   "a step takes %.0f MFLOP, which is more than one multiprocessor's work: %d",
                   1e-6 * flop, MOST_FLOP / 1000000);
  FL_CUDA(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, d->index),
          "its shared memory was asked for");
  int64_t front = front_of(tape->n), floats = 0;
  int64_t room = (most - 1024) / (int64_t)sizeof(float) - front; /* 1 KB: static shared memory */
  for (int k = 0; k < tape->n; k++) {
    fl_task *f = &task[k];
    memset(f, 0, sizeof *f);
    f->call = tape->call[k];
    int64_t need = 0;
    if (f->call.op >= FL_CALL_DENSE_FWD && f->call.op <= FL_CALL_DENSE_BWD_WEIGHTS)
      need = plan_dense(f, tape->B);
    if (f->call.op >= FL_CALL_CONV_FWD && f->call.op <= FL_CALL_CONV_BWD_WEIGHTS) {
      if (!takes_window(&f->call))
        return fl_fail(FEDLANE_UNSUPPORTED,
                       "its convolutions have windows other than 3 x 3 and 5 x 5 "
                       "with stride 1");
      need = plan_conv(f, tape->B, room);
    }
    if (f->call.window.flat)
      return fl_fail(FEDLANE_UNSUPPORTED, "the model pools along the width alone");
    if (need > room)
      return fl_fail(FEDLANE_UNSUPPORTED, "a layer does not fit into the %d KB of shared memory",
                     most / 1024);
    if (need > floats) floats = need;
  }
  *bytes = (int)((front + floats) * (int64_t)sizeof(float));
  return FEDLANE_OK;
}

/* Copies an array behind what the workspace already holds, 64-byte aligned. */
static fl_status lay_down(fl_dev *d, int64_t *used, const void *from, int64_t bytes, void *out) {
  char *at = (char *)d->workspace + *used;
  *used += fl_ceil_div(bytes, 64) * 64;
  if (*used > FL_WORKSPACE)
    return fl_fail(FEDLANE_UNSUPPORTED, "the lanes of one call do not fit into the workspace");
  memcpy(out, &at, sizeof at);
  return fl_cuda_upload(d, at, from, bytes);
}

static fl_status lay_down_seats(fl_dev *d, int64_t *used, const fl_pieces *p, const fl_seat **out) {
  fl_seat some[FL_GROUP];
  *out = (const fl_seat *)((char *)d->workspace + *used);
  for (int c = 0, n; c < p->C; c += n) {
    void *at;
    n = min(p->C - c, (int)FL_GROUP);
    for (int i = 0; i < n; i++) {
      fl_seat seat = {p->n_piece[c + i], p->n_row[c + i], p->client[c + i], p->nth[c + i]};
      some[i] = seat;
    }
    FL_TRY(lay_down(d, used, some, n * (int64_t)sizeof *some, &at));
  }
  return FEDLANE_OK;
}

fl_status fl_cuda_resident(fl_dev *d, const fl_tape *tape, const fl_pieces *pieces) {
  fl_task task[FL_CALLS_MAX];
  int bytes = 0;
  int64_t used = 0, scales = tape->source.image.channels * (int64_t)sizeof(float);
  FL_TRY(fl_cuda_enter(d));
  FL_TRY(plan(d, tape, task, &bytes));
  if (!pieces) return FEDLANE_OK;
  fl_resident r = {tape->n,
                   front_of(tape->n),
                   tape->B,
                   pieces->epochs,
                   NULL,
                   NULL,
                   tape->seed,
                   tape->round,
                   tape->source,
                   tape->index,
                   tape->index_stride,
                   tape->label,
                   tape->loss,
                   tape->hit};
  FL_TRY(lay_down(d, &used, task, tape->n * (int64_t)sizeof *task, &r.task));
  FL_TRY(lay_down(d, &used, tape->source.shift, scales, &r.source.shift));
  FL_TRY(lay_down(d, &used, tape->source.scale, scales, &r.source.scale));
  FL_TRY(lay_down_seats(d, &used, pieces, &r.seat));
  FL_CUDA(cudaFuncSetAttribute((const void *)train_resident,
                               cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
          "resident lanes asked for shared memory");
  FL_LAUNCH(train_resident, dim3((unsigned)pieces->C), dim3(FL_SEAT_THREADS), bytes, d->stream, r);
  return FL_LAUNCHED("resident lanes were queued");
}
