/* The INT8 layers on the CPU: float32 in, float32 out, whole-number products between.
 *
 * Their meaning is plugins/reference.py, whose shape letters stand here too: K lines of a block, W samples of a line,
 * I inputs, O outputs. Activations are quantised as ONNX's QuantizeLinear does it with zero point 0: the float32
 * quotient x / x_scale, to the nearest whole number, ties to even, within -128..127. A quotient that is not a number
 * becomes -128. Sums are exact, so all instruction sets give the same sums; only the last product and sum round.
 *
 * All arrays are contiguous and in host memory. A call works on one thread, and any number of calls may share a
 * weight: who has more threads gives each some of the rows or samples.
 */
#ifndef HYPERLINE_QUANTIZED_H
#define HYPERLINE_QUANTIZED_H

#include <stdint.h>

#include "hyperline/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Weights in the order that this machine's kernels read them. Not for keeping in files. */
typedef struct hyperline_quantized_weight hyperline_quantized_weight;

/* weight (I, O). A sum of more than 131071 products could overflow: such an I is a bad argument. On HYPERLINE_OK
 * *packed is the caller's, who gives it back to hyperline_quantized_free. */
HYPERLINE_API int hyperline_quantized_pack_linear(int64_t inputs, int64_t outputs, const int8_t* weight,
                                                  hyperline_quantized_weight** packed);

/* weight (O, I, 3, 3); 9 I products a sum. */
HYPERLINE_API int hyperline_quantized_pack_block_conv(int64_t inputs, int64_t outputs, const int8_t* weight,
                                                      hyperline_quantized_weight** packed);

/* Null is fine. */
HYPERLINE_API void hyperline_quantized_free(hyperline_quantized_weight* packed);

typedef struct hyperline_quantized_memory {
    void* start;
    int64_t bytes;
} hyperline_quantized_memory;

/* Where packed weights lie, for whoever guards memory against flipped bits. All that a process packs is numbered from
 * 0. Writes `room` entries: of those numbered `first` and up that are not freed yet, in their order, then nulls. What
 * is written holds until that weight is freed. Returns the number that the next one will have. */
HYPERLINE_API int64_t hyperline_quantized_packed(int64_t first, int64_t room, hyperline_quantized_memory* memory);

typedef struct hyperline_quantized_layer {
    const hyperline_quantized_weight* weight;
    const float* weight_scale; /* (O) */
    float x_scale;
} hyperline_quantized_layer;

/* What becomes of a result with its bias. */
enum {
    HYPERLINE_AS_IS = 0,
    HYPERLINE_RELU = 1, /* negative results become 0 */
    HYPERLINE_ADD = 2,  /* the residual is added */
    HYPERLINE_SILU = 3, /* v becomes v / (1 + exp(-v)) */
    HYPERLINE_GELU = 4  /* v becomes v / (1 + exp(-2 x)), x = sqrt(2 / pi) (v + 0.044715 v^3) */
};

typedef struct hyperline_quantized_rows {
    int64_t rows;
    const float* x;        /* (rows, I) */
    const float* bias;     /* (O), or (rows, O) */
    int64_t bias_stride;   /* 0 for one bias for all rows, O for one each */
    int32_t after;         /* HYPERLINE_AS_IS .. HYPERLINE_GELU */
    const float* residual; /* (rows, O); read for HYPERLINE_ADD alone */
    float* y;              /* (rows, O); must not overlap an input */
} hyperline_quantized_rows;

/* y = x_scale weight_scale (x_int8 . weight) + bias, and what comes after. */
HYPERLINE_API int hyperline_quantized_linear(const hyperline_quantized_layer* layer,
                                             const hyperline_quantized_rows* rows);

typedef struct hyperline_quantized_block {
    int64_t lines;         /* K */
    int64_t samples;       /* W */
    const float* past;     /* (1, W, I), the line before the block */
    const float* x;        /* (K, W, I) */
    const float* bias;     /* (O) */
    int32_t after;         /* HYPERLINE_AS_IS .. HYPERLINE_GELU */
    const float* residual; /* (K, W, O); read for HYPERLINE_ADD alone */
    float* y;              /* (K, W, O); must not overlap an input */
} hyperline_quantized_block;

/* The samples first .. last - 1 of every line of a 3x3 convolution that sees the line before the block, and zeros after
 * it and beside it. */
HYPERLINE_API int hyperline_quantized_block_conv(const hyperline_quantized_layer* layer,
                                                 const hyperline_quantized_block* block, int64_t first, int64_t last);

/* Instruction set that these kernels run on here: "avx512vnni", "avxvnni", "avx2", "sse2", "neondot", "neon". */
HYPERLINE_API const char* hyperline_quantized_instruction_set(void);

#ifdef __cplusplus
}
#endif

#endif
