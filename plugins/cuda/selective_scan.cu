// Launches the selective scan; the algorithm is in selective_scan.h.

#include "selective_scan.h"

#include <cuda_runtime.h>

namespace hyperline {
namespace {

template <int N, typename T>
__global__ void __launch_bounds__(kDirectThreads) DirectKernel(const __grid_constant__ Scan<T> scan) {
    const int64_t walker = static_cast<int64_t>(blockIdx.x) * kDirectThreads + threadIdx.x;
    if (walker < scan.sequences * scan.channels) ScanDirect<N>(scan, walker);
}

template <int N, typename T>
__global__ void __launch_bounds__(kChunkedThreads<N>)
    ChunkedKernel(const __grid_constant__ Scan<T> scan, const __grid_constant__ ScanPlan plan) {
    __shared__ ChunkedShared<N> shared;
    const ChunkedScan<N, T> thread{scan, plan, shared, blockIdx.x, static_cast<int>(threadIdx.x)};
    thread.Summarise();
    __syncthreads();
    thread.Combine();
    __syncthreads();
    thread.Emit();
}

template <int N, typename T>
int Launch(const Scan<T>& scan, cudaStream_t stream) {
    const ScanPlan plan = PlanScan<N>(scan.sequences, scan.length, scan.channels);
    const auto blocks = static_cast<unsigned>(plan.blocks);
    if (plan.chunked)
        ChunkedKernel<N><<<blocks, plan.threads, 0, stream>>>(scan, plan);
    else
        DirectKernel<N><<<blocks, plan.threads, 0, stream>>>(scan);
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? HYPERLINE_CUDA_OK : HYPERLINE_CUDA_RUNTIME + static_cast<int>(error);
}

}  // namespace
}  // namespace hyperline

int hyperline_cuda_selective_scan(const hyperline_cuda_scan* scan, hyperline_cuda_output y, float* h, void* stream) {
    using namespace hyperline;
    const int status = CheckScan(scan, y, h);
    if (status != HYPERLINE_CUDA_OK) return status;
    return WithStates(scan->states, [&](auto states) {
        constexpr int N = decltype(states)::value;
        const auto cuda_stream = static_cast<cudaStream_t>(stream);
        if (scan->type == HYPERLINE_CUDA_FLOAT16) return Launch<N>(TypeScan<N, __half>(*scan, y, h), cuda_stream);
        return Launch<N>(TypeScan<N, float>(*scan, y, h), cuda_stream);
    });
}

const char* hyperline_cuda_status_text(int status) {
    switch (status) {
        case HYPERLINE_CUDA_OK:
            return "done";
        case HYPERLINE_CUDA_BAD_ARGUMENT:
            return "a size below 1, a missing pointer, an unknown number type, or k outside 1 to the number of experts";
        case HYPERLINE_CUDA_TOO_MANY_STATES:
            return "more than 32 states a channel; the kernels keep a channel's states in registers";
        case HYPERLINE_CUDA_TOO_LARGE:
            return "more than one launch can address; split the sequences over several calls";
        default:
            return status >= HYPERLINE_CUDA_RUNTIME
                       ? cudaGetErrorString(static_cast<cudaError_t>(status - HYPERLINE_CUDA_RUNTIME))
                       : "unknown status";
    }
}

int hyperline_cuda_ops_version(void) {
    return 1;
}
