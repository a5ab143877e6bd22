// Launches the expert gate; the algorithm is in expert_gate.h.

#include "expert_gate.h"

#include <cuda_runtime.h>

namespace hyperline {
namespace {

template <typename T>
__global__ void __launch_bounds__(kGateThreads) GateKernel(Gate<T> gate) {
    const int64_t element = static_cast<int64_t>(blockIdx.x) * kGateThreads + threadIdx.x;
    if (element < gate.rows * gate.experts) GateExpert(gate, element);
}

template <typename T>
int Launch(const Gate<T>& gate, cudaStream_t stream) {
    const int64_t blocks = (gate.rows * gate.experts + kGateThreads - 1) / kGateThreads;
    GateKernel<<<static_cast<unsigned>(blocks), kGateThreads, 0, stream>>>(gate);
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? HYPERLINE_CUDA_OK : HYPERLINE_CUDA_RUNTIME + static_cast<int>(error);
}

}  // namespace
}  // namespace hyperline

int hyperline_cuda_expert_gate(int64_t rows, int64_t experts, int64_t k, int32_t type, const void* logits,
                               void* weights, void* active, void* stream) {
    using namespace hyperline;
    const int status = CheckGate(rows, experts, k, type, logits, weights, active);
    if (status != HYPERLINE_CUDA_OK) return status;
    const auto cuda_stream = static_cast<cudaStream_t>(stream);
    if (type == HYPERLINE_CUDA_FLOAT16)
        return Launch(TypeGate<__half>(rows, experts, k, logits, weights, active), cuda_stream);
    return Launch(TypeGate<float>(rows, experts, k, logits, weights, active), cuda_stream);
}
