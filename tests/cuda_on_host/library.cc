/* NCCL and cuBLAS as libraries that are loaded. */
#include <cstring>

#include "cublas.h"
#include "nccl.h"
#include "settings.h"

static const struct {
  const char *name;
  void *at;
} symbols[] = {
    {"ncclCommInitAll", reinterpret_cast<void *>(ncclCommInitAll)},
    {"ncclCommAbort", reinterpret_cast<void *>(ncclCommAbort)},
    {"ncclCommGetAsyncError", reinterpret_cast<void *>(ncclCommGetAsyncError)},
    {"ncclGetErrorString", reinterpret_cast<void *>(ncclGetErrorString)},
    {"ncclGroupStart", reinterpret_cast<void *>(ncclGroupStart)},
    {"ncclGroupEnd", reinterpret_cast<void *>(ncclGroupEnd)},
    {"ncclReduce", reinterpret_cast<void *>(ncclReduce)},
    {"ncclBroadcast", reinterpret_cast<void *>(ncclBroadcast)},
    {"ncclGetVersion", reinterpret_cast<void *>(ncclGetVersion)},
    {"ncclGetUniqueId", reinterpret_cast<void *>(ncclGetUniqueId)},
    {"ncclCommInitRankConfig", reinterpret_cast<void *>(ncclCommInitRankConfig)},
    {"ncclSend", reinterpret_cast<void *>(ncclSend)},
    {"ncclRecv", reinterpret_cast<void *>(ncclRecv)},
    {"cublasCreate_v2", reinterpret_cast<void *>(cublasCreate_v2)},
    {"cublasDestroy_v2", reinterpret_cast<void *>(cublasDestroy_v2)},
    {"cublasSetStream_v2", reinterpret_cast<void *>(cublasSetStream_v2)},
    {"cublasSetMathMode", reinterpret_cast<void *>(cublasSetMathMode)},
    {"cublasSgemm_v2", reinterpret_cast<void *>(cublasSgemm_v2)},
};

void *fl_library_open(const char *file) {
  static char nccl, cublas;
  const fl_host_settings *have = fl_host_set();
  if (strcmp(file, "libnccl.so.2") == 0) return have->nccl ? &nccl : nullptr;
  return have->cublas && strcmp(file, "libcublas.so.12") == 0 ? &cublas : nullptr;
}

void *fl_library_symbol(void *, const char *name) {
  for (const auto &symbol : symbols)
    if (strcmp(symbol.name, name) == 0) return symbol.at;
  return nullptr;
}
