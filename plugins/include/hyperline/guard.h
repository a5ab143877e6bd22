/* Copying a carried state and looking at it on the way, in one pass over memory. */
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

#ifdef __cplusplus
}
#endif

#endif
