/* Between images with channels fastest and features in channel-height-width order: each image is a
 * matrix of pixels by channels, transposed tile by tile through shared memory. And between images
 * and sequences of their columns, which for images of height 1 are the same thing. */
#include "cuda.h"

enum { TILE = 32, LINES = 8 }; /* a block is TILE x LINES threads */

/* y[image][column][row] = x[image][row][column]. Blocks: tiles, columns fastest, by lanes. */
static FL_KERNEL_BOUNDS(TILE *LINES, 4) void transpose_tiles(int height, int width, fl_rows live,
                                                             fl_cspan x, fl_span y) {
  FL_SHARED(float, tile, [TILE][TILE + 1]);
  int across = (width + TILE - 1) / TILE, down = (height + TILE - 1) / TILE;
  int image = (int)blockIdx.x / (across * down), at = (int)blockIdx.x - image * across * down;
  int row = at / across * TILE, column = at % across * TILE;
  if (image >= live.n[blockIdx.y]) return;
  int64_t start = (int64_t)image * height * width;
  const float *from = fl_lane(x, (int)blockIdx.y) + start;
  float *to = fl_lane_out(y, (int)blockIdx.y) + start;
  int i = (int)threadIdx.x, j = (int)threadIdx.y;
  for (int k = j; k < TILE; k += LINES)
    if (row + k < height && column + i < width)
      tile[k][i] = from[(int64_t)(row + k) * width + column + i];
  __syncthreads();
  for (int k = j; k < TILE; k += LINES)
    if (column + k < width && row + i < height)
      to[(int64_t)(column + k) * height + row + i] = tile[i][k];
}

fl_status fl_cuda_flatten(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  int pixels = s.height * s.width;
  int height = back ? s.channels : pixels, width = back ? pixels : s.channels;
  int64_t tiles = b.B * fl_ceil_div(height, TILE) * fl_ceil_div(width, TILE);
  for (int first = 0; first < b.C; first += FL_GROUP) {
    int lanes = min(b.C - first, (int)FL_GROUP);
    FL_LAUNCH(transpose_tiles, dim3((unsigned)tiles, (unsigned)lanes), dim3(TILE, LINES), 0,
              d->stream, height, width, fl_rows_of(b, first, lanes), fl_cspan_from(x, first),
              fl_span_from(y, first));
  }
  return FL_LAUNCHED("a flattening was queued");
}

enum { THREADS = 256 };

/* A thread takes one element of the sequence; blocks: elements by lanes. */
static FL_KERNEL_BOUNDS(THREADS, 4) void turn_columns(fl_image s, bool back, fl_rows live,
                                                      fl_cspan x, fl_span y) {
  int e = (int)blockIdx.x * THREADS + (int)threadIdx.x, features = s.channels * s.height;
  int step = e / features, image = step / s.width, at = e - step * features;
  if (image >= live.n[blockIdx.y]) return;
  int channel = at / s.height, h = at - channel * s.height, w = step - image * s.width;
  int64_t pixel = (((int64_t)image * s.height + h) * s.width + w) * s.channels + channel;
  const float *from = fl_lane(x, (int)blockIdx.y);
  fl_lane_out(y, (int)blockIdx.y)[back ? pixel : e] = from[back ? e : pixel];
}

fl_status fl_cuda_columns(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  int64_t elements = b.B * fl_image_size(s);
  if (elements > INT32_MAX - THREADS)
    return fl_fail(FEDLANE_UNSUPPORTED,
                   "%d images of %d x %d x %d are too many to be turned into sequences on cuda: at "
                   "most 2^31 elements",
                   b.B, s.channels, s.height, s.width);
  for (int first = 0; first < b.C; first += FL_GROUP) {
    int lanes = min(b.C - first, (int)FL_GROUP);
    FL_LAUNCH(turn_columns, dim3((unsigned)fl_ceil_div(elements, THREADS), (unsigned)lanes),
              dim3(THREADS), 0, d->stream, s, back, fl_rows_of(b, first, lanes),
              fl_cspan_from(x, first), fl_span_from(y, first));
  }
  return FL_LAUNCHED("columns were queued");
}
