// Pixels of a picture. A band of one pixel is a cache line of its own, which the processor does not foresee: those of
// the pixels to come are asked for meanwhile.

#include "hyperline/bytes.h"

namespace {

constexpr int64_t kAhead = 24;  // pixels: some 100 ns

uint8_t Byte(float value) {
    const float positive = value > 0.0f ? value : 0.0f;  // what is no number is not above 0
    return static_cast<uint8_t>(static_cast<int32_t>(positive < 255.0f ? positive : 255.0f));
}

}  // namespace

extern "C" int hyperline_colours_of(const hyperline_colours* form, const float* lines, const uint8_t* valid,
                                    uint8_t* y) {
    if (!form || form->pixels < 0 || form->bands < 1 || !lines || !valid || !y) return HYPERLINE_BAD_ARGUMENT;
    for (const int64_t band : form->shown) {
        if (band < 0 || band >= form->bands) return HYPERLINE_BAD_ARGUMENT;
    }
    for (int64_t pixel = 0; pixel < form->pixels; pixel++, lines += form->bands, y += 3) {
        for (int colour = 0; colour < 3; colour++) {
            const float* const value = lines + form->shown[colour];
            __builtin_prefetch(value + kAhead * form->bands);
            const uint8_t seen = Byte(*value * form->gain[colour] + form->offset[colour]);
            y[colour] = !valid[pixel] ? uint8_t{0} : seen > 0 ? seen : uint8_t{1};
        }
    }
    return HYPERLINE_OK;
}

extern "C" int hyperline_shares_as_bytes(int64_t count, const float* shares, uint8_t* y) {
    if (count < 0 || !shares || !y) return HYPERLINE_BAD_ARGUMENT;
    for (int64_t i = 0; i < count; i++) y[i] = Byte(shares[i] * 255.0f + 0.5f);
    return HYPERLINE_OK;
}
