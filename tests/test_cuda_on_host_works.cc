/* What the instrument must let work: a kernel for each thing that kernels may use, and the
 * runtime. */
#include <cmath>

#include "on_device.h"

FL_KERNEL_BOUNDS(256, 2) void reduce(const float *x, int n, double *out) {
  FL_SHARED(double, part, [256]);
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x))
    sum += x[blockIdx.x * static_cast<unsigned>(n) + static_cast<unsigned>(i)];
  part[threadIdx.x] = sum;
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
  }
  if (threadIdx.x == 0) out[blockIdx.x] = part[0];
}

static void test_reduction() {
  float *x = on_device(counting(3000));
  double *out = on_device(std::vector<double>(3));
  FL_LAUNCH(reduce, 3, 256, 0, nullptr, x, 1000, out);
  std::vector<double> got = fetched(out, 3);
  for (size_t c = 0; c < 3; c++)
    CU_ASSERT_EQUAL(got[c], 500500.0 + 1000000.0 * static_cast<double>(c));
  cudaFree(x);
  cudaFree(out);
}

FL_KERNEL void scan(const int *x, int *y) {
  int t = static_cast<int>(threadIdx.x), lane = t % 32, sum = x[t];
  for (unsigned by = 1; by < 32; by *= 2) {
    int other = __shfl_up_sync(~0u, sum, by);
    if (lane >= static_cast<int>(by)) sum += other;
  }
  y[t] = sum;
}

FL_KERNEL void shuffles(int *y) {
  int t = static_cast<int>(threadIdx.x);
  y[t] = __shfl_sync(~0u, t, 5, 8);
  y[32 + t] = __shfl_up_sync(~0u, t, 3, 8);
  y[64 + t] = __shfl_down_sync(~0u, t, 3, 16);
  y[96 + t] = __shfl_xor_sync(~0u, t, 9);
  y[128 + t] = static_cast<int>(__ballot_sync(~0u, t % 3 == 0) >> t & 1);
  y[160 + t] = __any_sync(~0u, t == 7) * 2 + __all_sync(~0u, t < 32);
  if (t < 8) y[t] += __shfl_xor_sync(0xFFu, 100 * t, 1);
  __syncwarp();
  y[192 + t] = __syncthreads_count(t < 11);
}

static void test_shuffles() {
  std::vector<int> ones(96, 1);
  int *x = on_device(ones), *y = on_device(std::vector<int>(224));
  FL_LAUNCH(scan, 1, 96, 0, nullptr, x, y);
  std::vector<int> got = fetched(y, 96);
  for (int t = 0; t < 96; t++) CU_ASSERT_EQUAL(got[t], t % 32 + 1);
  FL_LAUNCH(shuffles, 1, 32, 0, nullptr, y);
  got = fetched(y, 224);
  for (int t = 0; t < 32; t++) {
    CU_ASSERT_EQUAL(got[t], t / 8 * 8 + 5 + (t < 8 ? 100 * (t ^ 1) : 0));
    CU_ASSERT_EQUAL(got[32 + t], t % 8 < 3 ? t : t - 3);
    CU_ASSERT_EQUAL(got[64 + t], t % 16 > 12 ? t : t + 3);
    CU_ASSERT_EQUAL(got[96 + t], t ^ 9);
    CU_ASSERT_EQUAL(got[128 + t], t % 3 == 0);
    CU_ASSERT_EQUAL(got[160 + t], 3);
    CU_ASSERT_EQUAL(got[192 + t], 11);
  }
  cudaFree(x);
  cudaFree(y);
}

/* One warp, one 16x8 tile of c[M, N] = a[M, K] b[K, N] a block. */
template <bool BF16>
FL_KERNEL void gemm(int N, int K, const float *a, const float *b, float *c) {
  constexpr int deep = BF16 ? 16 : 8;
  FL_SHARED(float, ta, [16][deep]);
  FL_SHARED(float, tb, [deep][8]);
  int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  int m0 = static_cast<int>(blockIdx.y) * 16, n0 = static_cast<int>(blockIdx.x) * 8;
  float d[4] = {0, 0, 0, 0};
  for (int k0 = 0; k0 < K; k0 += deep) {
    for (int i = lane; i < 16 * deep; i += 32)
      ta[i / deep][i % deep] = a[(m0 + i / deep) * K + k0 + i % deep];
    for (int i = lane; i < deep * 8; i += 32) tb[i / 8][i % 8] = b[(k0 + i / 8) * N + n0 + i % 8];
    __syncwarp();
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; i++) {
      const float *row = ta[g + i % 2 * 8];
      fa[i] = BF16 ? fl_bf16_pair(row[2 * t + i / 2 * 8], row[2 * t + 1 + i / 2 * 8])
                   : fl_tf32(row[t + i / 2 * 4]);
    }
    for (int i = 0; i < 2; i++)
      fb[i] = BF16 ? fl_bf16_pair(tb[2 * t + i * 8][g], tb[2 * t + 1 + i * 8][g])
                   : fl_tf32(tb[t + i * 4][g]);
    if (BF16)
      fl_mma_bf16(d, fa, fb);
    else
      fl_mma_tf32(d, fa, fb);
    __syncwarp();
  }
  for (int i = 0; i < 4; i++) c[(m0 + g + i / 2 * 8) * N + n0 + 2 * t + i % 2] = d[i];
}

/* Small whole numbers, which both formats hold exactly. */
template <bool BF16>
static void check_gemm() {
  enum { M = 48, N = 24, K = 64 };
  std::vector<float> a(M * K), b(K * N);
  for (size_t i = 0; i < a.size(); i++) a[i] = static_cast<float>(i * 7 % 23) - 11;
  for (size_t i = 0; i < b.size(); i++) b[i] = static_cast<float>(i * 5 % 19) - 9;
  float *da = on_device(a), *db = on_device(b), *dc = on_device(std::vector<float>(M * N));
  FL_LAUNCH((gemm<BF16>), dim3(N / 8, M / 16), 32, 0, nullptr, N, K, da, db, dc);
  std::vector<float> c = fetched(dc, M * N);
  for (size_t m = 0; m < M; m++)
    for (size_t n = 0; n < N; n++) {
      float want = 0;
      for (size_t k = 0; k < K; k++) want += a[m * K + k] * b[k * N + n];
      CU_ASSERT_EQUAL(c[m * N + n], want);
    }
  cudaFree(da);
  cudaFree(db);
  cudaFree(dc);
}

static void test_tiled_product() {
  check_gemm<false>();
  check_gemm<true>();
}

static void test_roundings() {
  float one = 1, ulp_tf32 = std::ldexp(1.0f, -10), ulp_bf16 = std::ldexp(1.0f, -7);
  CU_ASSERT_EQUAL(__uint_as_float(fl_tf32(one + ulp_tf32 / 2)), one + ulp_tf32);
  CU_ASSERT_EQUAL(__uint_as_float(fl_tf32(one + ulp_tf32 * 0.49f)), one);
  CU_ASSERT_EQUAL(__uint_as_float(fl_tf32(-one - ulp_tf32 / 2)), -one - ulp_tf32);
  CU_ASSERT(std::isnan(__uint_as_float(fl_tf32(NAN))));
  CU_ASSERT(std::isinf(__uint_as_float(fl_tf32(INFINITY))));
  uint32_t pair = fl_bf16_pair(one + ulp_bf16 / 2, one + ulp_bf16 * 1.5f);
  CU_ASSERT_EQUAL(__uint_as_float(pair << 16), one);
  CU_ASSERT_EQUAL(__uint_as_float(pair & 0xFFFF0000u), one + 2 * ulp_bf16);
  pair = fl_bf16_pair(NAN, -INFINITY);
  CU_ASSERT(std::isnan(__uint_as_float(pair << 16)));
  CU_ASSERT_EQUAL(__uint_as_float(pair & 0xFFFF0000u), -INFINITY);
}

FL_KERNEL void count_up(unsigned long long *sum, int *largest, int *cell) {
  int id = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(sum, static_cast<unsigned long long>(id));
  atomicMax(largest, id * 7 % 101);
  atomicCAS(cell, 0, id + 1);
}

static void test_atomics() {
  unsigned long long *sum = on_device(std::vector<unsigned long long>(1));
  int *largest = on_device(std::vector<int>(2));
  FL_LAUNCH(count_up, 10, 100, 0, nullptr, sum, largest, largest + 1);
  CU_ASSERT_EQUAL(fetched(sum, 1)[0], 499500);
  CU_ASSERT_EQUAL(fetched(largest, 2)[0], 100);
  CU_ASSERT(fetched(largest, 2)[1] > 0);
  cudaFree(sum);
  cudaFree(largest);
}

/* --- the runtime --------------------------------------------------------------------------- */
static void test_work_waits_for_a_synchronisation() {
  float *y = on_device(std::vector<float>(32)), *pinned = nullptr, here[32];
  CU_ASSERT_EQUAL(cudaMallocHost(reinterpret_cast<void **>(&pinned), sizeof here), cudaSuccess);
  cudaStream_t stream = nullptr;
  CU_ASSERT_EQUAL(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  FL_LAUNCH(add, 1, 32, 0, stream, y, 2.0f);
  pinned[0] = -1;
  cudaMemcpyAsync(pinned, y, sizeof here, cudaMemcpyDeviceToHost, stream);
  CU_ASSERT_EQUAL(pinned[0], -1);
  CU_ASSERT_EQUAL(cudaStreamSynchronize(stream), cudaSuccess);
  CU_ASSERT_EQUAL(pinned[0], 2);
  for (float &v : here) v = 5;
  cudaMemcpyAsync(y, here, sizeof here, cudaMemcpyHostToDevice, stream);
  here[0] = 6; /* pageable: the driver has its copy */
  cudaMemcpyAsync(here, y, sizeof here, cudaMemcpyDeviceToHost, stream);
  CU_ASSERT_EQUAL(here[0], 5);
  CU_ASSERT_EQUAL(cudaMemcpy(here, pinned, sizeof here, cudaMemcpyDeviceToHost),
                  cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(cudaMemcpy(y + 1, here, sizeof here, cudaMemcpyHostToDevice),
                  cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(cudaGetLastError(), cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(cudaStreamDestroy(stream), cudaSuccess);
  CU_ASSERT_EQUAL(cudaFree(y + 1), cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(cudaGetLastError(), cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(cudaFree(y), cudaSuccess);
  CU_ASSERT_EQUAL(cudaFreeHost(pinned), cudaSuccess);
}

static void test_devices_and_their_memory() {
  int n = 0;
  size_t left = 0, total = 0;
  void *all = nullptr, *more = nullptr;
  fl_host_set()->devices = 3;
  fl_host_set()->memory = 1 << 20;
  CU_ASSERT_EQUAL(cudaGetDeviceCount(&n), cudaSuccess);
  CU_ASSERT_EQUAL(n, 3);
  CU_ASSERT_EQUAL(cudaSetDevice(3), cudaErrorInvalidDevice);
  CU_ASSERT_EQUAL(cudaSetDevice(2), cudaSuccess);
  CU_ASSERT_EQUAL(cudaMalloc(&all, 1 << 20), cudaSuccess);
  CU_ASSERT_EQUAL(cudaMemGetInfo(&left, &total), cudaSuccess);
  CU_ASSERT(left == 0 && total == 1 << 20);
  CU_ASSERT_EQUAL(cudaMalloc(&more, 1), cudaErrorMemoryAllocation);
  CU_ASSERT_EQUAL(cudaSetDevice(0), cudaSuccess);
  CU_ASSERT_EQUAL(cudaMalloc(&more, 1), cudaSuccess);
  CU_ASSERT_EQUAL(cudaFree(all), cudaSuccess);
  CU_ASSERT_EQUAL(cudaFree(more), cudaSuccess);
  fl_host_set()->busy = 1;
  CU_ASSERT_EQUAL(cudaSetDevice(0), cudaErrorDevicesUnavailable);
  CU_ASSERT_EQUAL(cudaSetDevice(1), cudaSuccess);
  CU_ASSERT_EQUAL(cudaSetDevice(-1), cudaErrorInvalidDevice);
  fl_host_defaults();
  CU_ASSERT_EQUAL(cudaSetDevice(0), cudaSuccess);
  fl_host_set()->driver = 12080;
  CU_ASSERT_EQUAL(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
  fl_host_defaults();
  fl_host_set()->devices = 0;
  CU_ASSERT_EQUAL(cudaGetDeviceCount(&n), cudaErrorNoDevice);
  fl_host_defaults();
  cudaGetLastError();
}

static const fl_test tests[] = {
    {"reduction", test_reduction},
    {"shuffles", test_shuffles},
    {"tiled product", test_tiled_product},
    {"roundings", test_roundings},
    {"atomics", test_atomics},
    {"work waits for a synchronisation", test_work_waits_for_a_synchronisation},
    {"devices and their memory", test_devices_and_their_memory},
};

FL_SUITE_MAIN("cuda_on_host_works", tests)
