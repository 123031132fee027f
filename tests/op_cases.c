#include "op_cases.h"

#include "op_runs.h"

/* Lanes, examples, steps, features, heads. */
#define ATTEND(what, lanes, rows, steps, features, parts, ...)                            \
  {                                                                                       \
    .name = what, .run = fl_run_attend, .C = lanes, .B = rows, .O = steps, .I = features, \
    .groups = parts, .tolerance = 1e-5, __VA_ARGS__                                       \
  }

/* Layers are those of the models in models/, a few odd shapes, and small ones for gradients. */
const fl_op_case fl_op_case_list[] = {
#include "op_cases_images.inc"
#include "op_cases_vectors.inc"
#include "op_cases_windows.inc"
#include "op_cases_sequences.inc"
};

const int fl_op_case_count = FL_COUNT(fl_op_case_list);

fl_window fl_case_window(const fl_op_case *k) {
  fl_window s = k->window;
  s.out.channels = k->O > 0 ? k->O : s.in.channels;
  int around = 2 * fl_window_pad_h(&s) - fl_window_kernel_h(&s);
  s.out.height = (s.in.height + around) / fl_window_stride_h(&s) + 1;
  s.out.width = (s.in.width + 2 * s.pad - s.kernel) / s.stride + 1;
  return s;
}
