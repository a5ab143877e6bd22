/* Folding memory into words that any flipped bit changes, and copying a carried state on the way. */
#ifndef HYPERLINE_GUARD_H
#define HYPERLINE_GUARD_H

#include <stdint.h>

#include "hyperline/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Copies `count` floats. *word is the exclusive or of the copied 64-bit words, an odd float last taken with zeros above
 * it; *finite is 1 where all are numbers and 0 elsewhere. */
HYPERLINE_API int hyperline_copy_and_look(const float* from, float* to, int64_t count, uint64_t* word, int32_t* finite);

/* Folds `pieces` of memory, each of counts[i] 64-bit words at starts[i], into words[i], the exclusive or of them. */
HYPERLINE_API int hyperline_fold(const uint64_t* const* starts, const int64_t* counts, int64_t pieces, uint64_t* words);

#ifdef __cplusplus
}
#endif

#endif
