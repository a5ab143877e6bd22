// Sums of INT8 products, as each instruction set does them best and exactly.
//
// A unit is what one multiplication takes of a row of activations: `group` neighbouring inputs. Beside it stand, in one
// vector, the weights of these inputs for `lanes` outputs: (output, input). One multiply_add gives every lane its sum
// over the group.
//
// VNNI multiplies unsigned by signed bytes: activations are stored with `zero` = 128 added, and the sums start at minus
// 128 times the sum of the weights. Saturating vpmaddubsw is not used anywhere: without VNNI bytes become 16 bits.
#pragma once

#include "rows.h"

namespace hyperline::HYPERLINE_ISA {

using Sums = Integers;

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
using Activation = uint8_t;
using Weight = int8_t;
constexpr int group = 4, zero = 128;
using Weights = Sums;
#elif defined(__SSE2__)
using Activation = int16_t;
using Weight = int16_t;
constexpr int group = 2, zero = 0;
using Weights = Sums;
#elif defined(__ARM_FEATURE_DOTPROD)
using Activation = int8_t;
using Weight = int8_t;
constexpr int group = 4, zero = 0;
using Weights = int8x16_t;
#else
using Activation = int8_t;
using Weight = int8_t;
constexpr int group = 2, zero = 0;
using Weights = int8x8_t;
#endif

// The unit at `from`, for every lane; the same bytes whatever the type.
HYPERLINE_INLINE Weights broadcast_unit(const Activation* from) {
#if defined(__ARM_NEON) && !defined(__ARM_FEATURE_DOTPROD)
    int16_t unit;
    __builtin_memcpy(&unit, from, sizeof unit);
    return vreinterpret_s8_s16(vdup_n_s16(unit));
#else
    int32_t unit;
    __builtin_memcpy(&unit, from, sizeof unit);
    return reinterpret_cast<Weights>(Sums{} + unit);
#endif
}

HYPERLINE_INLINE Weights load_weights(const Weight* from) {
    Weights weights;
    __builtin_memcpy(&weights, from, sizeof weights);
    return weights;
}

HYPERLINE_INLINE Sums multiply_add(Sums sums, Weights activation, Weights weights) {
#if defined(__AVX512VNNI__)
    return reinterpret_cast<Sums>(_mm512_dpbusd_epi32(reinterpret_cast<Bits>(sums), reinterpret_cast<Bits>(activation),
                                                      reinterpret_cast<Bits>(weights)));
#elif defined(__AVXVNNI__)
    return reinterpret_cast<Sums>(_mm256_dpbusd_avx_epi32(
        reinterpret_cast<Bits>(sums), reinterpret_cast<Bits>(activation), reinterpret_cast<Bits>(weights)));
#elif defined(__AVX2__)
    return sums + reinterpret_cast<Sums>(
                      _mm256_madd_epi16(reinterpret_cast<Bits>(activation), reinterpret_cast<Bits>(weights)));
#elif defined(__SSE2__)
    return sums +
           reinterpret_cast<Sums>(_mm_madd_epi16(reinterpret_cast<Bits>(activation), reinterpret_cast<Bits>(weights)));
#elif defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sums, activation, weights);
#else
    return vpadalq_s16(sums, vmull_s8(activation, weights));
#endif
}

// Stores the lowest bits of whole numbers. (__builtin_convertvector would be one line; GCC 12 makes sixty instructions
// of it.)
HYPERLINE_INLINE void store_narrow(Activation* to, Sums numbers) {
#if defined(__AVX512VNNI__)
    const __m128i bytes = _mm512_cvtepi32_epi8(reinterpret_cast<Bits>(numbers));
#elif defined(__AVXVNNI__)
    const __m256i lowest = _mm256_shuffle_epi8(reinterpret_cast<Bits>(numbers), _mm256_set1_epi32(0x0c080400));
    const int64_t bytes =
        _mm_cvtsi128_si64(_mm_unpacklo_epi32(_mm256_castsi256_si128(lowest), _mm256_extracti128_si256(lowest, 1)));
#elif defined(__AVX2__)
    const __m128i bytes = _mm_packs_epi32(_mm256_castsi256_si128(reinterpret_cast<Bits>(numbers)),
                                          _mm256_extracti128_si256(reinterpret_cast<Bits>(numbers), 1));
#elif defined(__SSE2__)
    const int64_t bytes =
        _mm_cvtsi128_si64(_mm_packs_epi32(reinterpret_cast<Bits>(numbers), reinterpret_cast<Bits>(numbers)));
#else
    const int16x4_t half = vmovn_s32(numbers);
    const int32_t bytes = vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(half, half))), 0);
#endif
    static_assert(sizeof bytes == sizeof(Activation) * lanes, "one for every lane");
    __builtin_memcpy(to, &bytes, sizeof bytes);
}

// Stores a vector of activations, quantised. Adding 1.5 * 2^23 rounds to a whole number, ties to even, and leaves it in
// the lowest bits.
HYPERLINE_INLINE void store_quantized(Activation* to, Floats x, Floats scale) {
    const float shift = 12582912.0f;
    const Floats ratio = saturate(x / scale, broadcast<Floats>(-128.0f), broadcast<Floats>(127.0f));
    const Sums shift_bits = reinterpret_cast<Sums>(broadcast<Floats>(shift));
    store_narrow(to, reinterpret_cast<Sums>(ratio + shift) - shift_bits + zero);
}

}  // namespace hyperline::HYPERLINE_ISA
