/* What the step does in one pass over memory on the CPU: norms with what stands around them, the first product, pooling
 * and the decision.
 *
 * Their meaning is plugins/reference.py, whose shape letters stand here too: K lines of a block, W samples of a line, I
 * inputs, O outputs, C channels. All arrays are contiguous and in host memory. A call works on one thread: who has more
 * gives each some of the rows.
 */
#ifndef HYPERLINE_FUSED_H
#define HYPERLINE_FUSED_H

#include <stdint.h>

#include "hyperline/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What becomes of a normalised row. */
enum {
    HYPERLINE_NORM_AS_IS = 0,
    HYPERLINE_NORM_RELU = 1, /* negative results become 0, and rows that are not kept 0 whatever stood there */
    HYPERLINE_NORM_SILU = 2, /* v becomes v / (1 + exp(-v)) */
    HYPERLINE_NORM_GATED = 3 /* v becomes v g / (1 + exp(-g)), g of the gate */
};

typedef struct hyperline_norm_rows {
    int64_t rows;
    int64_t width;       /* C */
    const float* x;      /* (rows, C) */
    const float* addend; /* (rows, C), added to x before; null for none */
    const float* scale;  /* (C) */
    const float* bias;   /* (C) */
    const float* keep;   /* (rows), 0 for a row not to keep; read for HYPERLINE_NORM_RELU alone */
    const float* gate;   /* (rows, C); read for HYPERLINE_NORM_GATED alone */
    float epsilon;       /* added to the variance */
    int32_t after;       /* HYPERLINE_NORM_AS_IS .. HYPERLINE_NORM_GATED */
    float* y;            /* (rows, C); must not overlap an input */
} hyperline_norm_rows;

HYPERLINE_API int hyperline_norm(const hyperline_norm_rows* rows);

typedef struct hyperline_centred_rows {
    int64_t rows;
    int64_t inputs;      /* I */
    int64_t outputs;     /* O */
    const float* x;      /* (rows, I) */
    const float* mean;   /* (I) */
    const float* weight; /* (I, O) */
    const float* bias;   /* (O) */
    float* y;            /* (rows, O); must not overlap an input */
} hyperline_centred_rows;

/* y = (x - mean) weight + bias. */
HYPERLINE_API int hyperline_centred_linear(const hyperline_centred_rows* rows);

typedef struct hyperline_pool_block {
    int64_t lines;     /* K, even */
    int64_t samples;   /* W, even */
    int64_t channels;  /* C */
    const float* x;    /* (K, W, C), zero where not valid */
    const float* mask; /* (K, W), 1 where valid and 0 elsewhere */
    float* y;          /* (K / 2, W / 2, C), the mean of the valid pixels of a cell, 0 where there is none */
    float* coarse;     /* (K / 2, W / 2), 1 where a pixel of the cell is valid */
} hyperline_pool_block;

/* The rows first .. last - 1 of cells. */
HYPERLINE_API int hyperline_pool(const hyperline_pool_block* block, int64_t first, int64_t last);

typedef struct hyperline_decision {
    int64_t pixels;
    int64_t classes;      /* 1 to 255 */
    const float* logits;  /* (pixels, classes) */
    const uint8_t* valid; /* (pixels), 0 where not */
    uint8_t* labels;    /* (pixels), the class of the greatest logit, the first of equals, from 1; 0 where not valid */
    float* confidence;  /* (pixels), its softmax; 0 where not valid */
    float* uncertainty; /* (pixels), the entropy of the softmax as a share of that of equal classes; 0 where not valid;
                           null where it is not wanted */
} hyperline_decision;

HYPERLINE_API int hyperline_decide(const hyperline_decision* decision);

#ifdef __cplusplus
}
#endif

#endif
