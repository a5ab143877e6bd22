// What the code of every instruction set offers to ops.cpp, which chooses among them at run time.
#pragma once

#include <cstdint>

#include "hyperline/fused.h"
#include "hyperline/ops.h"

namespace hyperline {

// Channels are scanned four at a time: four independent chains hide the latency of the recurrence, and their outputs
// make one vector of four.
constexpr int block_channels = 4;

// Steps are staged for four blocks at once, to keep the lanes busy where sequences are short.
constexpr int span_channels = 16;

// One call of the forward scan. A unit of work is (sequence, span of channels), numbered sequence by sequence.
struct ForwardCall {
    hyperline_scan scan;
    hyperline_output y;
    float* h;
    int64_t spans;
};

// One call of the backward scan. A unit of work is a part: a run of sequences whose sums for A, D and delta_bias meet
// in one row of `sums`. The number of parts depends on the shape alone, so that results do not depend on threads.
struct BackwardCall {
    hyperline_scan scan;
    hyperline_input grad_y;
    hyperline_scan_gradients gradients;
    int64_t parts;
    float* sums;       // (parts, D N + 2 D), zeros: sums for A, D, delta_bias
    float* workspace;  // one of `backward_workspace` floats for every worker
};

struct Kernels {
    const char* name;
    void (*forward)(const ForwardCall& call, int64_t first, int64_t last);
    void (*backward)(const BackwardCall& call, int64_t part, float* workspace);
    int64_t (*backward_workspace)(const hyperline_scan& scan);
    void (*norm)(const hyperline_norm_rows& rows);
    int64_t (*centred_workspace)(int64_t inputs);
    void (*centred_linear)(const hyperline_centred_rows& rows, float* workspace);
    void (*pool)(const hyperline_pool_block& block, int64_t first, int64_t last);
    void (*decide)(const hyperline_decision& decision);
};

#define HYPERLINE_DECLARE_KERNELS(isa) \
    namespace isa {                    \
    extern const Kernels kernels;      \
    }
HYPERLINE_DECLARE_KERNELS(avx512)
HYPERLINE_DECLARE_KERNELS(avx2)
HYPERLINE_DECLARE_KERNELS(sse2)
HYPERLINE_DECLARE_KERNELS(neon)
#undef HYPERLINE_DECLARE_KERNELS

}  // namespace hyperline
