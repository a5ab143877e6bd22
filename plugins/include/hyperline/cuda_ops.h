/* The two operators on an NVIDIA GPU: a C interface of raw device pointers, sizes and strides, with no framework and no
 * CUDA header in sight.
 *
 * Their meaning is plugins/reference.py, whose shape letters stand here too: S sequences, L steps, D channels, N states
 * of a channel, R rows of gate logits, E experts. Sizes and strides count numbers, not bytes. Pointers are device
 * memory. Every call is one kernel launch on the caller's stream: it allocates nothing, needs no workspace and does
 * not wait, so that a CUDA graph can capture it. (The first call in a process loads the kernel; make it before the
 * capture.)
 *
 * Every function returns HYPERLINE_CUDA_OK or the reason why it launched nothing. No exception crosses this interface,
 * and calls may come from several threads at once.
 */
#ifndef HYPERLINE_CUDA_OPS_H
#define HYPERLINE_CUDA_OPS_H

#include <stdint.h>

#define HYPERLINE_CUDA_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum {
    HYPERLINE_CUDA_OK = 0,
    HYPERLINE_CUDA_BAD_ARGUMENT = 1,    /* a size below 1, a missing pointer, an unknown number type, k outside 1..E */
    HYPERLINE_CUDA_TOO_MANY_STATES = 2, /* N above HYPERLINE_CUDA_MAX_STATES */
    HYPERLINE_CUDA_TOO_LARGE = 3,       /* more than one launch can address */
    HYPERLINE_CUDA_RUNTIME = 1000       /* 1000 + the number of a CUDA runtime error */
};

/* The states of a channel live in the registers of one thread. */
#define HYPERLINE_CUDA_MAX_STATES 32

/* Type of the numbers of u, delta, B, C, y, and of the gate. All else, the state above all, is float32. */
enum { HYPERLINE_CUDA_FLOAT32 = 0, HYPERLINE_CUDA_FLOAT16 = 1 };

/* A tensor (S, L, X), X contiguous. A stride of 0 repeats one entry: that is how the mask broadcasts. */
typedef struct hyperline_cuda_input {
    const void* data;
    int64_t sequence_stride;
    int64_t step_stride;
} hyperline_cuda_input;

typedef struct hyperline_cuda_output {
    void* data;
    int64_t sequence_stride;
    int64_t step_stride;
} hyperline_cuda_output;

typedef struct hyperline_cuda_scan {
    int64_t sequences;          /* S */
    int64_t length;             /* L */
    int64_t channels;           /* D */
    int64_t states;             /* N */
    int32_t reverse;            /* 0: from step 0 on; else from step L - 1 back to 0 */
    int32_t type;               /* of u, delta, B, C and y */
    hyperline_cuda_input u;     /* (S, L, D) */
    hyperline_cuda_input delta; /* (S, L, D), before bias and softplus */
    hyperline_cuda_input B;     /* (S, L, N) */
    hyperline_cuda_input C;     /* (S, L, N) */
    hyperline_cuda_input mask;  /* (S, L, 1) float32, 0 or 1; where it is 0 the state is held to the bit */
    const float* A;             /* (D, N), contiguous, negative */
    const float* D;             /* (D) */
    const float* delta_bias;    /* (D) */
    const float* h0;            /* (S, D, N), each sequence contiguous */
    int64_t h0_sequence_stride; /* 0 starts every sequence from the same state */
} hyperline_cuda_scan;

/* y (S, L, D), and h (S, D, N) contiguous, the state after the last step taken. h may be h0 where h0 has S rows; y must
 * not overlap an input. `stream` is a cudaStream_t. */
HYPERLINE_CUDA_API int hyperline_cuda_selective_scan(const hyperline_cuda_scan* scan, hyperline_cuda_output y, float* h,
                                                     void* stream);

/* logits, weights, active (R, E), contiguous and of one type: the softmax over all experts, kept for the k largest
 * logits of a row and zero elsewhere, and 1 where it was kept. A tie goes to the lower index. */
HYPERLINE_CUDA_API int hyperline_cuda_expert_gate(int64_t rows, int64_t experts, int64_t k, int32_t type,
                                                  const void* logits, void* weights, void* active, void* stream);

/* What a returned number means, in words. */
HYPERLINE_CUDA_API const char* hyperline_cuda_status_text(int status);

/* 1. A change of this interface that old callers cannot bear adds one. */
HYPERLINE_CUDA_API int hyperline_cuda_ops_version(void);

#ifdef __cplusplus
}
#endif

#endif
