/* The part of cuBLAS's interface that the backend uses, with its names and numbers. The functions
 * are found by fl_library_symbol alone, as in a program that loads cuBLAS when it runs; each
 * returns 0 when all is well. */
#ifndef FL_HOST_CUBLAS_H
#define FL_HOST_CUBLAS_H

#include "runtime.h"

int cublasCreate_v2(void **handle);
int cublasDestroy_v2(void *handle);
int cublasSetStream_v2(void *handle, cudaStream_t stream);
int cublasSetMathMode(void *handle, int mode);
/* Of matrices that are not turned. */
int cublasSgemm_v2(void *handle, int turn_a, int turn_b, int m, int n, int k, const float *alpha,
                   const float *a, int lda, const float *b, int ldb, const float *beta, float *c,
                   int ldc);

#endif
