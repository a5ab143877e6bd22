// What the INT8 code of every instruction set offers to quantized_ops.cpp, which chooses among them at run time.
#pragma once

#include <cstdint>

#include "hyperline/quantized.h"

namespace hyperline {

struct QuantizedKernels;

// How weights of (taps, I, O) are numbered in the array that they come in.
struct WeightStrides {
    int64_t tap, input, output;
};

struct QuantizedKernels {
    const char* name;
    int64_t (*packed_bytes)(const hyperline_quantized_weight& weight);
    void (*pack)(const hyperline_quantized_weight& weight, const int8_t* from, const WeightStrides& strides);
    int64_t (*linear_workspace)(const hyperline_quantized_weight& weight);
    void (*linear)(const hyperline_quantized_layer& layer, const hyperline_quantized_rows& rows, void* workspace);
    int64_t (*block_conv_workspace)(const hyperline_quantized_weight& weight, int64_t lines);
    void (*block_conv)(const hyperline_quantized_layer& layer, const hyperline_quantized_block& block, int64_t first,
                       int64_t last, void* workspace);
};

#define HYPERLINE_DECLARE_KERNELS(isa)       \
    namespace isa {                          \
    extern const QuantizedKernels quantized; \
    }
HYPERLINE_DECLARE_KERNELS(avx512vnni)
HYPERLINE_DECLARE_KERNELS(avxvnni)
HYPERLINE_DECLARE_KERNELS(avx2)
HYPERLINE_DECLARE_KERNELS(sse2)
HYPERLINE_DECLARE_KERNELS(neondot)
HYPERLINE_DECLARE_KERNELS(neon)
#undef HYPERLINE_DECLARE_KERNELS

}  // namespace hyperline

// Packed and workspace memory starts at a cache line.
struct hyperline_quantized_weight {
    const hyperline::QuantizedKernels* kernels;
    int64_t taps, inputs, outputs;
    void* packed;
};
