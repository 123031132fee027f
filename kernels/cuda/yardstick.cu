/* cuBLAS's product of square matrices, which `fedlane bench ops` holds the convolutions against. No
 * op uses it: its algorithm, and so the order of its sums, may change with the number of rows, and
 * a lane's bits may not depend on how many lanes there are. */
#include "yardstick.h"

#include <stdlib.h>

#include "cuda.h"

/* Of cublas_api.h, whose names these are. */
enum { CUBLAS_OP_N = 0, CUBLAS_DEFAULT_MATH = 0, CUBLAS_TF32_TENSOR_OP_MATH = 3 };

struct fl_yardstick {
  fl_dev *d;
  void *handle;
  int (*create)(void **handle);
  int (*destroy)(void *handle);
  int (*set_stream)(void *handle, cudaStream_t stream);
  int (*set_math)(void *handle, int mode);
  int (*multiply)(void *handle, int turn_a, int turn_b, int m, int n, int k, const float *alpha,
                  const float *a, int lda, const float *b, int ldb, const float *beta, float *c,
                  int ldc);
};

template <typename F>
static bool find_call(void *library, const char *name, F *out) {
  *out = (F)fl_library_symbol(library, name);
  return *out != NULL;
}

/* Stays loaded until the program ends, as cuBLAS wants it. */
static bool load(fl_yardstick *y) {
  static const char *const file[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
  void *library = NULL;
  for (int i = 0; !library && i < FL_COUNT(file); i++) library = fl_library_open(file[i]);
  return library && find_call(library, "cublasCreate_v2", &y->create) &&
         find_call(library, "cublasDestroy_v2", &y->destroy) &&
         find_call(library, "cublasSetStream_v2", &y->set_stream) &&
         find_call(library, "cublasSetMathMode", &y->set_math) &&
         find_call(library, "cublasSgemm_v2", &y->multiply);
}

static fl_status check(const fl_yardstick *y, int error, const char *doing) {
  if (error == 0) return FEDLANE_OK;
  return fl_fail(FEDLANE_DEVICE, "cuBLAS failed with error %d on GPU %d while %s", error,
                 y->d->index, doing);
}

static fl_status prepare(fl_yardstick *y) {
  int mode = y->d->precision == FL_MATH_FP32 ? CUBLAS_DEFAULT_MATH : CUBLAS_TF32_TENSOR_OP_MATH;
  FL_TRY(fl_cuda_enter(y->d));
  FL_TRY(check(y, y->create(&y->handle), "it was opened"));
  FL_TRY(check(y, y->set_stream(y->handle, y->d->stream), "it was given a stream"));
  return check(y, y->set_math(y->handle, mode), "its precision was set");
}

fl_status fl_yardstick_open(fl_dev *d, fl_yardstick **out) {
  fl_yardstick *y = (fl_yardstick *)calloc(1, sizeof *y);
  *out = NULL;
  if (!y) return fl_fail(FEDLANE_MEMORY, "no memory for a cuBLAS handle");
  y->d = d;
  fl_status status = load(y) ? prepare(y)
                             : fl_fail(FEDLANE_UNSUPPORTED,
                                       "cuBLAS cannot be loaded here (libcublas.so.13 or .12)");
  if (status != FEDLANE_OK) fl_yardstick_close(&y);
  *out = y;
  return status;
}

void fl_yardstick_close(fl_yardstick **yardstick) {
  fl_yardstick *y = *yardstick;
  if (y && y->handle) (void)y->destroy(y->handle);
  free(y);
  *yardstick = NULL;
}

fl_status fl_yardstick_multiply(fl_yardstick *y, int n, const float *a, const float *b, float *c) {
  float one = 1, zero = 0;
  FL_TRY(fl_cuda_enter(y->d));
  /* cuBLAS counts down columns: rows of c are columns of its own result. */
  return check(
      y, y->multiply(y->handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, b, n, a, n, &zero, c, n),
      "a product was queued");
}
