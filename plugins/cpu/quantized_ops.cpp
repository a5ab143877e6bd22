// The C interface of the INT8 layers: checks what it is given, and chooses the kernels of this machine.

#include "hyperline/quantized.h"

#include <cstddef>
#include <memory>
#include <new>

#include "packed_weights.h"
#include "quantized.h"
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace hyperline {
namespace {

constexpr std::align_val_t cache_line{64};
constexpr int64_t most_products = (int64_t{1} << 31) / (128 * 128) - 1;

const QuantizedKernels& kernels_of_this_machine() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
        return avx512vnni::quantized;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return __builtin_cpu_supports("avxvnni") ? avxvnni::quantized : avx2::quantized;
    }
    return sse2::quantized;
#else
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? neondot::quantized : neon::quantized;
#endif
}

struct Free {
    void operator()(void* memory) const { ::operator delete(memory, cache_line); }
};
using Memory = std::unique_ptr<void, Free>;

// Null where there is none.
Memory allocate(int64_t bytes) {
    return Memory(::operator new(static_cast<size_t>(bytes), cache_line, std::nothrow));
}

int pack(int64_t taps, int64_t inputs, int64_t outputs, const int8_t* weight, const WeightStrides& strides,
         hyperline_quantized_weight** packed) {
    if (inputs < 1 || outputs < 1 || inputs > most_products / taps || outputs > INT32_MAX || !weight || !packed) {
        return HYPERLINE_BAD_ARGUMENT;
    }
    const QuantizedKernels& kernels = kernels_of_this_machine();
    std::unique_ptr<hyperline_quantized_weight> made(
        new (std::nothrow) hyperline_quantized_weight{&kernels, taps, inputs, outputs, nullptr});
    if (!made) return HYPERLINE_OUT_OF_MEMORY;
    Memory memory = allocate(kernels.packed_bytes(*made));
    if (!memory) return HYPERLINE_OUT_OF_MEMORY;
    made->packed = memory.release();
    kernels.pack(*made, weight, strides);
    if (!remember_packed(made.get())) {
        Free()(made->packed);
        return HYPERLINE_OUT_OF_MEMORY;
    }
    *packed = made.release();
    return HYPERLINE_OK;
}

bool usable(const hyperline_quantized_layer* layer, int64_t taps) {
    return layer && layer->weight && layer->weight->taps == taps && layer->weight_scale;
}

bool usable_after(int32_t after, const float* residual) {
    return after >= HYPERLINE_AS_IS && after <= HYPERLINE_GELU && (after != HYPERLINE_ADD || residual);
}

}  // namespace
}  // namespace hyperline

extern "C" {

int hyperline_quantized_pack_linear(int64_t inputs, int64_t outputs, const int8_t* weight,
                                    hyperline_quantized_weight** packed) {
    return hyperline::pack(1, inputs, outputs, weight, {0, outputs, 1}, packed);
}

int hyperline_quantized_pack_block_conv(int64_t inputs, int64_t outputs, const int8_t* weight,
                                        hyperline_quantized_weight** packed) {
    return hyperline::pack(9, inputs, outputs, weight, {1, 9, inputs * 9}, packed);
}

void hyperline_quantized_free(hyperline_quantized_weight* packed) {
    if (!packed) return;
    hyperline::forget_packed(packed);
    hyperline::Free()(packed->packed);
    delete packed;
}

int hyperline_quantized_linear(const hyperline_quantized_layer* layer, const hyperline_quantized_rows* rows) {
    if (!hyperline::usable(layer, 1) || !rows || rows->rows < 0 || !rows->x || !rows->bias || !rows->y ||
        !hyperline::usable_after(rows->after, rows->residual)) {
        return HYPERLINE_BAD_ARGUMENT;
    }
    const hyperline_quantized_weight& weight = *layer->weight;
    if (rows->bias_stride != 0 && rows->bias_stride != weight.outputs) return HYPERLINE_BAD_ARGUMENT;
    const hyperline::Memory workspace = hyperline::allocate(weight.kernels->linear_workspace(weight));
    if (!workspace) return HYPERLINE_OUT_OF_MEMORY;
    weight.kernels->linear(*layer, *rows, workspace.get());
    return HYPERLINE_OK;
}

int hyperline_quantized_block_conv(const hyperline_quantized_layer* layer, const hyperline_quantized_block* block,
                                   int64_t first, int64_t last) {
    if (!hyperline::usable(layer, 9) || !block || block->lines < 0 || block->samples < 0 || !block->past || !block->x ||
        !block->bias || !block->y || !hyperline::usable_after(block->after, block->residual) || first < 0 ||
        first > last || last > block->samples) {
        return HYPERLINE_BAD_ARGUMENT;
    }
    if (block->lines == 0) return HYPERLINE_OK;
    const hyperline_quantized_weight& weight = *layer->weight;
    const hyperline::Memory workspace = hyperline::allocate(weight.kernels->block_conv_workspace(weight, block->lines));
    if (!workspace) return HYPERLINE_OUT_OF_MEMORY;
    weight.kernels->block_conv(*layer, *block, first, last, workspace.get());
    return HYPERLINE_OK;
}

const char* hyperline_quantized_instruction_set(void) {
    return hyperline::kernels_of_this_machine().name;
}

}  // extern "C"
