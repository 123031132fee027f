/* What CUDA sources use in place of the compiler's own spelling, so that one source serves nvcc and
 * the host compiler (docs/cuda-on-host.md). Kernels include this header and no other of CUDA's.
 *
 * nvcc: everything here is a thin inline wrapper. Host (FL_CUDA_ON_HOST): the same names are given by
 * tests/cuda_on_host, where each thread of a block is a fiber.
 *
 *   FL_KERNEL void name(args)              a kernel; FL_KERNEL_BOUNDS(threads, blocks) sets its bounds
 *   FL_LAUNCH(kernel, grid, block, shared, stream, args...)   queues it; FL_LAUNCH_CHECK() its status
 *   FL_SHARED(type, name, [count])         static shared memory
 *   FL_SHARED_DYNAMIC(type, name)          the launch's `shared` bytes, 128-byte aligned
 *   fl_cp_async16(dst, src, bytes)         16-byte copy global -> shared, bytes (0 .. 16) of it read,
 *                                          the rest zero-filled; completes at a wait
 *   fl_cp_async4(dst, src, bytes)          the same for 4 bytes (0 or 4 read)
 *   fl_cp_async_commit(), fl_cp_async_wait<N>()   as cp.async.commit_group / wait_group N
 *   fl_mma_tf32(d, a, b)                   warp-wide m16n8k8: float d[4] += a[4] b[2] (tf32 bits in
 *                                          uint32), fragments as in the PTX manual
 *   fl_mma_bf16(d, a, b)                   warp-wide m16n8k16: float d[4] += a[4] b[2] (bf16 pairs)
 *   fl_tf32(x)                             float to tf32 bits, round to nearest, ties away (cvt.rna)
 *   fl_bf16_pair(lo, hi)                   two floats to a packed pair, round to nearest even
 *   warp intrinsics (__shfl_*_sync, __ballot_sync, __syncwarp), __syncthreads, atomics on integers,
 *   float4 and friends, __ldg, min/max, rsqrtf and the other math functions: CUDA's own names. */
