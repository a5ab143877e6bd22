// Memory folded into words, and a state copied on the way and looked through for what is no number. Memory bounds both,
// so that the compiler's own vectors of any instruction set do.

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

extern "C" int hyperline_fold(const uint64_t* const* starts, const int64_t* counts, int64_t pieces, uint64_t* words) {
    if (!starts || !counts || pieces < 0 || !words) return HYPERLINE_BAD_ARGUMENT;
    constexpr int64_t kAhead = 256;
    constexpr int64_t kAtOnce = 16;  // 128 bytes: lanes enough that no load waits for the one before
    for (int64_t piece = 0; piece < pieces; piece++) {
        const uint64_t* start = starts[piece];
        if (counts[piece] < 0 || (!start && counts[piece])) return HYPERLINE_BAD_ARGUMENT;
        uint64_t folded[kAtOnce] = {}, word = 0;
        int64_t i = 0;
        for (; i + kAtOnce <= counts[piece]; i += kAtOnce) {
            // Pieces of a few kilobytes end before the processor has seen where they lead.
            __builtin_prefetch(start + i + kAhead);
            __builtin_prefetch(start + i + kAhead + kAtOnce / 2);
            for (int lane = 0; lane < kAtOnce; lane++) folded[lane] ^= start[i + lane];
        }
        for (; i < counts[piece]; i++) word ^= start[i];
        for (const uint64_t lane : folded) word ^= lane;
        words[piece] = word;
    }
    return HYPERLINE_OK;
}
