/* Numbers of a block as bytes of an image, in one pass over memory. */
#ifndef HYPERLINE_BYTES_H
#define HYPERLINE_BYTES_H

#include <stdint.h>

#include "hyperline/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Three bands of each pixel: band times gain plus offset, without its fraction, within 1 .. 255, what is no number as
 * 1; a pixel that is not valid becomes 0. */
typedef struct hyperline_colours {
    int64_t pixels;
    int64_t bands;
    int64_t shown[3]; /* each 0 .. bands - 1 */
    float gain[3];
    float offset[3];
} hyperline_colours;

/* lines (pixels, bands), valid (pixels) 0 where not, y (pixels, 3). */
HYPERLINE_API int hyperline_colours_of(const hyperline_colours* form, const float* lines, const uint8_t* valid,
                                       uint8_t* y);

/* Numbers from 0 to 1 as the nearest of 0 .. 255, halves up; what is beyond as its end, and what is no number as 0. */
HYPERLINE_API int hyperline_shares_as_bytes(int64_t count, const float* shares, uint8_t* y);

#ifdef __cplusplus
}
#endif

#endif
