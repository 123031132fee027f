/* cuBLAS's product by plain loops, queued as a launch is. */
#include "cublas.h"

#include "host_device.h"

using namespace fl_host;

namespace {
enum { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13 };

struct library {
  cudaStream_t stream;
};

/* c = alpha a b + beta c, all down columns. */
struct product {
  int m, n, k;
  float alpha;
  const float *a;
  int lda;
  const float *b;
  int ldb;
  float beta;
  float *c;
  int ldc;
};

void multiply(const product &p) {
  for (int j = 0; j < p.n; j++)
    for (int i = 0; i < p.m; i++) {
      double sum = 0;
      for (int l = 0; l < p.k; l++)
        sum += static_cast<double>(p.a[static_cast<int64_t>(l) * p.lda + i]) *
               p.b[static_cast<int64_t>(j) * p.ldb + l];
      float *to = p.c + static_cast<int64_t>(j) * p.ldc + i;
      float old = p.beta == 0 ? 0 : p.beta * *to;
      *to = p.alpha * static_cast<float>(sum) + old;
    }
}

bool is_here(const void *at, int columns, int pitch) {
  size_t bytes = sizeof(float) * static_cast<size_t>(columns) * static_cast<size_t>(pitch);
  return is_memory_of(current_device(), at, bytes);
}
}  // namespace

int cublasCreate_v2(void **handle) {
  if (check_device(current_device()) != cudaSuccess) return NOT_INITIALIZED;
  *handle = new library();
  return SUCCESS;
}

int cublasDestroy_v2(void *handle) {
  delete static_cast<library *>(handle);
  return SUCCESS;
}

int cublasSetStream_v2(void *handle, cudaStream_t stream) {
  static_cast<library *>(handle)->stream = stream;
  return SUCCESS;
}

int cublasSetMathMode(void *, int mode) { return mode == 0 || mode == 3 ? SUCCESS : INVALID_VALUE; }

int cublasSgemm_v2(void *handle, int turn_a, int turn_b, int m, int n, int k, const float *alpha,
                   const float *a, int lda, const float *b, int ldb, const float *beta, float *c,
                   int ldc) {
  if (turn_a || turn_b || m < 0 || n < 0 || k < 0 || lda < m || ldb < k || ldc < m)
    return INVALID_VALUE;
  if (!is_here(a, k, lda) || !is_here(b, n, ldb) || !is_here(c, n, ldc)) return EXECUTION_FAILED;
  product p = {m, n, k, *alpha, a, lda, b, ldb, *beta, c, ldc};
  auto work = [p](char *, size_t) {
    multiply(p);
    return true;
  };
  cudaStream_t stream = static_cast<library *>(handle)->stream;
  return submit(stream, work, reinterpret_cast<const void *>(cublasSgemm_v2)) == cudaSuccess
             ? SUCCESS
             : EXECUTION_FAILED;
}
