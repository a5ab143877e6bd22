// One pass over a state: copied, folded into a word, and looked through for what is no number. Memory bounds it, so
// that the compiler's own vectors of any instruction set do.

#include "hyperline/guard.h"

#include <cstring>

extern "C" int hyperline_copy_and_look(const float* from, float* to, int64_t count, uint64_t* word, int32_t* finite) {
    if (!from || !to || count < 0 || !word || !finite) return HYPERLINE_BAD_ARGUMENT;
    constexpr int64_t kAtOnce = 16;
    constexpr int32_t kMagnitude = 0x7fffffff, kInfinity = 0x7f800000;
    // Lanes of their own, so that the loop is one of vectors; the words of a pair of lanes are one of 64 bits.
    int32_t folded[kAtOnce] = {}, largest[kAtOnce] = {};
    int64_t i = 0;
    for (; i + kAtOnce <= count; i += kAtOnce) {
        int32_t bits[kAtOnce];
        std::memcpy(bits, from + i, sizeof bits);
        std::memcpy(to + i, bits, sizeof bits);
        for (int lane = 0; lane < kAtOnce; lane++) {
            const int32_t magnitude = bits[lane] & kMagnitude;
            folded[lane] ^= bits[lane];
            largest[lane] = magnitude > largest[lane] ? magnitude : largest[lane];
        }
    }
    for (int lane = 0; i < count; i++, lane++) {
        int32_t bits;
        std::memcpy(&bits, from + i, sizeof bits);
        std::memcpy(to + i, &bits, sizeof bits);
        folded[lane] ^= bits;
        if ((bits & kMagnitude) > largest[lane]) largest[lane] = bits & kMagnitude;
    }
    *word = 0;
    *finite = 1;
    for (int lane = 0; lane < kAtOnce; lane += 2) {
        uint64_t pair;
        std::memcpy(&pair, folded + lane, sizeof pair);
        *word ^= pair;
    }
    for (const int32_t magnitude : largest) {
        if (magnitude >= kInfinity) *finite = 0;
    }
    return HYPERLINE_OK;
}
