/* The two operators on the CPU: a C interface of raw pointers, sizes and strides, with no framework in sight.
 *
 * Their meaning is plugins/reference.py, whose shape letters stand here too: S sequences, L steps, D channels, N states
 * of a channel, R rows of gate logits, E experts. All numbers are float32 in host memory; sizes and strides count
 * numbers, not bytes. Results do not depend on the number of threads, to the bit.
 *
 * Every function returns HYPERLINE_OK or the reason why it did nothing. No exception crosses this interface, and calls
 * may come from several threads at once.
 */
#ifndef HYPERLINE_OPS_H
#define HYPERLINE_OPS_H

#include <stdint.h>

#define HYPERLINE_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum {
    HYPERLINE_OK = 0,
    HYPERLINE_BAD_ARGUMENT = 1, /* a negative size, a missing pointer, k outside 1..E */
    HYPERLINE_OUT_OF_MEMORY = 2
};

/* A tensor (S, L, X), X contiguous. A stride of 0 repeats one entry: that is how h0 and mask broadcast, and any view
 * with contiguous rows (a transposed batch, a slice of channels) needs no copy. */
typedef struct hyperline_input {
    const float* data;
    int64_t sequence_stride;
    int64_t step_stride;
} hyperline_input;

typedef struct hyperline_output {
    float* data;
    int64_t sequence_stride;
    int64_t step_stride;
} hyperline_output;

typedef struct hyperline_scan {
    int64_t sequences;          /* S */
    int64_t length;             /* L */
    int64_t channels;           /* D */
    int64_t states;             /* N */
    int32_t reverse;            /* 0: from step 0 on; else from step L - 1 back to 0 */
    int32_t threads;            /* at most this many, the caller's included; 1 starts none */
    hyperline_input u;          /* (S, L, D) */
    hyperline_input delta;      /* (S, L, D), before bias and softplus */
    hyperline_input B;          /* (S, L, N) */
    hyperline_input C;          /* (S, L, N) */
    hyperline_input mask;       /* (S, L, 1), 0 or 1; where it is 0 the state is held to the bit */
    const float* A;             /* (D, N), contiguous, negative */
    const float* D;             /* (D) */
    const float* delta_bias;    /* (D) */
    const float* h0;            /* (S, D, N), each sequence contiguous */
    int64_t h0_sequence_stride; /* 0 starts every sequence from the same state */
} hyperline_scan;

/* y (S, L, D), and h (S, D, N) contiguous, the state after the last step taken. h may be h0 where h0 has S rows; y must
 * not overlap an input. */
HYPERLINE_API int hyperline_selective_scan(const hyperline_scan* scan, hyperline_output y, float* h);

/* Gradients of a loss of y alone: h0 and h have none, as in train/ops.py. Every array is overwritten, and no two may
 * overlap. */
typedef struct hyperline_scan_gradients {
    hyperline_output u;     /* (S, L, D) */
    hyperline_output delta; /* (S, L, D) */
    hyperline_output B;     /* (S, L, N) */
    hyperline_output C;     /* (S, L, N) */
    float* A;               /* (D, N) */
    float* D;               /* (D) */
    float* delta_bias;      /* (D) */
} hyperline_scan_gradients;

HYPERLINE_API int hyperline_selective_scan_backward(const hyperline_scan* scan, hyperline_input grad_y,
                                                    const hyperline_scan_gradients* gradients);

/* logits, weights, active (R, E), contiguous: the softmax over all experts, kept for the k largest logits of a row and
 * zero elsewhere, and 1 where it was kept. A tie goes to the lower index. */
HYPERLINE_API int hyperline_expert_gate(int64_t rows, int64_t experts, int64_t k, const float* logits, float* weights,
                                        float* active);

/* What a returned number means, in words. */
HYPERLINE_API const char* hyperline_status_text(int status);

/* Instruction set that the kernels run on here: "avx512", "avx2", "sse2", "neon". */
HYPERLINE_API const char* hyperline_instruction_set(void);

/* 4. A change of this interface that old callers cannot bear adds one. */
HYPERLINE_API int hyperline_ops_version(void);

#ifdef __cplusplus
}
#endif

#endif
