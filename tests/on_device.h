/* What suites of the instrument share: host arrays on a pretend device and back. */
#ifndef FL_ON_DEVICE_H
#define FL_ON_DEVICE_H

#include <cstdio>
#include <cstring>
#include <vector>

#include "device.h"
#include "settings.h"
extern "C" {
#include "suite.h"
}

/* Device memory that holds `host`, or n times poison. */
template <class T>
static T *on_device(const std::vector<T> &host) {
  T *at = nullptr;
  CU_ASSERT_EQUAL_FATAL(cudaMalloc(&at, host.size() * sizeof(T)), cudaSuccess);
  cudaMemcpy(at, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice);
  return at;
}

template <class T>
static std::vector<T> fetched(const T *at, size_t n) {
  std::vector<T> host(n);
  CU_ASSERT_EQUAL(cudaMemcpy(host.data(), at, n * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
  return host;
}

static std::vector<float> counting(size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; i++) x[i] = static_cast<float>(i + 1);
  return x;
}

FL_KERNEL void add(float *y, float x) { y[threadIdx.x] += x; }

#endif
