// The expert gate as the work of single threads, in C++ that a host compiler takes too.
//
// A thread owns one expert of one row and reads the row, at most a few dozen numbers that its neighbours read too: for
// the four experts of a block the launch is the whole cost.

#ifndef HYPERLINE_PLUGINS_CUDA_EXPERT_GATE_H
#define HYPERLINE_PLUGINS_CUDA_EXPERT_GATE_H

#include "arithmetic.h"
#include "hyperline/cuda_ops.h"

namespace hyperline {

constexpr int kGateThreads = 128;

// A checked call with its pointers typed.
template <typename T>
struct Gate {
    const T* logits;
    T *weights, *active;
    int64_t rows, experts, kept;
};

// Whether expert i comes before expert j: the larger logit, then the lower index; NaN comes last.
HYPERLINE_HD bool ComesBefore(float logit_i, int64_t i, float logit_j, int64_t j) {
    if (logit_i > logit_j) return true;
    if (logit_i < logit_j) return false;
    const bool nan_i = logit_i != logit_i, nan_j = logit_j != logit_j;
    return nan_i == nan_j ? i < j : nan_j;
}

// Thread `element` of R E.
template <typename T>
HYPERLINE_HD void GateExpert(const Gate<T>& gate, int64_t element) {
    const int64_t own = element % gate.experts;
    const T* row = gate.logits + (element - own);
    const float own_logit = ToFloat(row[own]);
    float largest = own_logit;
    int64_t rank = 0;
    for (int64_t other = 0; other < gate.experts; ++other) {
        const float logit = ToFloat(row[other]);
        largest = fmaxf(largest, logit);
        rank += ComesBefore(logit, other, own_logit, own);
    }
    float sum = 0.0f;
    for (int64_t other = 0; other < gate.experts; ++other) sum += Exp2((ToFloat(row[other]) - largest) * kLog2E);
    const float active = rank < gate.kept ? 1.0f : 0.0f;
    Store(Exp2((own_logit - largest) * kLog2E) / sum * active, gate.weights + element);
    Store(active, gate.active + element);
}

// ---------------------------------------------------------------------------------------------------- on the host

inline int CheckGate(int64_t rows, int64_t experts, int64_t k, int32_t type, const void* logits, const void* weights,
                     const void* active) {
    if (rows < 1 || experts < 1 || k < 1 || k > experts || !logits || !weights || !active)
        return HYPERLINE_CUDA_BAD_ARGUMENT;
    if (type != HYPERLINE_CUDA_FLOAT32 && type != HYPERLINE_CUDA_FLOAT16) return HYPERLINE_CUDA_BAD_ARGUMENT;
    if (rows > INT32_MAX / experts) return HYPERLINE_CUDA_TOO_LARGE;
    return HYPERLINE_CUDA_OK;
}

template <typename T>
Gate<T> TypeGate(int64_t rows, int64_t experts, int64_t k, const void* logits, void* weights, void* active) {
    return {static_cast<const T*>(logits), static_cast<T*>(weights), static_cast<T*>(active), rows, experts, k};
}

}  // namespace hyperline

#endif
