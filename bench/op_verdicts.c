#include <jansson.h>
#include <math.h>
#include <string.h>

#include "op_items.h"

#ifdef FL_HAS_CUDA
/* The least share of cuBLAS's rate for as many operations, or of a copy's bandwidth. */
static const struct {
  const char *op;
  double of_cublas, of_copy;
} asked[] = {{"conv1, relu", 0.5, 0},      {"conv1 weights", 0.5, 0}, {"conv2, pool, relu", 0.5, 0},
             {"conv2 data, relu", 0.5, 0}, {"conv2 weights", 0.5, 0}, {"mix", 0, 0.85}};

static fl_status multiply(fl_op_rig *r) {
  return fl_yardstick_multiply(r->yardstick, r->b.B, r->x.at, r->w.at, r->y.at);
}

static const json_t *find(const json_t *items, const char *op) {
  for (size_t i = 0; i < json_array_size(items); i++) {
    const json_t *item = json_array_get(items, i);
    if (strcmp(json_string_value(json_object_get(item, "op")), op) == 0) return item;
  }
  return NULL;
}

static double number(const json_t *item, const char *name) {
  return json_number_value(json_object_get(item, name));
}

static void say(const char *op, double share, const char *of, double least, json_t *out) {
  bool met = share >= least;
  printf("verdict: %s has %.2f of %s; %.2f is asked: %s\n", op, share, of, least,
         met ? "met" : "missed");
  json_array_append_new(out, json_pack("{s:s, s:f, s:s, s:f, s:b}", "op", op, "share", share, "of",
                                       of, "asked", least, "met", met));
}

/* Against cuBLAS's product of square matrices with about as many operations: sides are multiples of
 * 64, which are no trouble to it. */
static fl_status judge_product(const fl_op_extent *e, const fl_op_rig *r, const char *op,
                               const json_t *item, double least, json_t *out) {
  double n = 64 * fmax(1, round(cbrt(number(item, "flop") / 2) / 64)), seconds;
  char of[96];
  FL_TRY(fl_op_time_large(e, r, (int)n, (int64_t)(n * n), multiply, &seconds));
  double rate = 2e-9 * n * n * n / seconds;
  snprintf(of, sizeof of, "cuBLAS's %.1f GFLOP/s at %.0f x %.0f", rate, n, n);
  say(op, number(item, "gflops") / rate, of, least, out);
  return FEDLANE_OK;
}

fl_status fl_op_judge(const fl_op_extent *e, fl_op_rig *r, const json_t *items, json_t *out) {
  fl_status status = fl_yardstick_open(r->dev, &r->yardstick);
  if (status == FEDLANE_UNSUPPORTED)
    printf("verdict: none on convolutions: %s\n", fedlane_error());
  else
    FL_TRY(status);
  for (int i = 0; i < FL_COUNT(asked); i++) {
    const json_t *item = find(items, asked[i].op);
    if (asked[i].of_copy > 0)
      say(asked[i].op, number(item, "share_of_bandwidth"), "a copy's bandwidth", asked[i].of_copy,
          out);
    else if (r->yardstick)
      FL_GO(judge_product(e, r, asked[i].op, item, asked[i].of_cublas, out));
  }
  status = FEDLANE_OK;
done:
  fl_yardstick_close(&r->yardstick);
  return status;
}
#endif
