// Sums of INT8 products, as each instruction set does them best and exactly.
//
// A unit is what one multiplication takes of a row of activations: `group` neighbouring inputs. Beside it stand, in one
// vector, the weights of these inputs for `lanes` outputs: (output, input). One multiply_add gives every lane its sum
// over the group.
//
// VNNI multiplies unsigned by signed bytes: activations are stored with `zero` = 128 added, and the sums start at minus
// 128 times the sum of the weights. Saturating vpmaddubsw is not used anywhere: without VNNI bytes become 16 bits.
#pragma once

#include "vectors.h"

namespace hyperline::HYPERLINE_ISA {

constexpr int lanes = HYPERLINE_LANES;
using Floats = Vector<lanes>;
typedef int32_t Sums __attribute__((vector_size(4 * lanes)));

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

// A register block is `block_rows(v)` rows by v vectors of outputs: as many sums as there are registers for, beside the
// weights, an activation and a product.
#if defined(__AVX512VNNI__) || defined(__ARM_NEON)
constexpr int panel_vectors = 4;
constexpr int block_rows(int vectors) {
    return vectors == 4 ? 6 : vectors == 3 ? 8 : 12;
}
#else
constexpr int panel_vectors = 2;
constexpr int block_rows(int vectors) {
    return vectors == 2 ? 4 : 8;
}
#endif
constexpr int whole_blocks = 24;  // a multiple of all block_rows

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

#if defined(__x86_64__) && HYPERLINE_LANES == 4
typedef __m128i Bits;
#elif defined(__x86_64__) && HYPERLINE_LANES == 8
typedef __m256i Bits;
#elif defined(__x86_64__)
typedef __m512i Bits;
#endif

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

// Within [low, high]; what is not a number becomes low.
HYPERLINE_INLINE Floats saturate(Floats x, Floats low, Floats high) {
#if defined(__ARM_NEON)
    return vminq_f32(vmaxnmq_f32(x, low), high);
#elif HYPERLINE_LANES == 4
    return _mm_min_ps(_mm_max_ps(x, low), high);
#elif HYPERLINE_LANES == 8
    return _mm256_min_ps(_mm256_max_ps(x, low), high);
#else
    return _mm512_min_ps(_mm512_max_ps(x, low), high);
#endif
}

// v / (1 + exp(-x)), relative error below 6e-7 for x > -87; smaller x give less than v 1e-35. 15 operations and a
// division.
//
// exp(x) = 2^n 2^f, n the nearest whole number to x log2(e). n ln(2) is subtracted in two parts, the first of which has
// few enough digits that its product with n is exact: else f would lose digits as x grows.
HYPERLINE_INLINE Floats gated(Floats v, Floats x) {
    const Floats negative = saturate(-x, broadcast<Floats>(-87.0f), broadcast<Floats>(87.0f));
    const float shift = 12582912.0f;  // 1.5 * 2^23: a sum with it is a whole number, which is in the lowest bits
    const Floats shifted = negative * 1.44269504f + shift;
    const Floats whole = shifted - shift;
    const Floats rest = negative - whole * 0.693359375f + whole * 2.12194440e-4f;
    const Sums power = reinterpret_cast<Sums>(exp2_of_fraction(rest * 1.44269504f));
    return v / (reinterpret_cast<Floats>(power + (reinterpret_cast<Sums>(shifted) << 23)) + 1.0f);
}

HYPERLINE_INLINE Floats silu(Floats v) {
    return gated(v, v);
}

// v (1 + tanh(x)) / 2 = v / (1 + exp(-2 x)), with x = sqrt(2 / pi) (v + 0.044715 v^3).
HYPERLINE_INLINE Floats gelu(Floats v) {
    return gated(v, v * (v * v * 0.0713548128f + 1.59576917f));
}

// The first `count` floats, 1 to lanes of them: reads and writes nothing beyond.
#if HYPERLINE_LANES == 16
HYPERLINE_INLINE Floats load_first(const float* from, int64_t count) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
}
HYPERLINE_INLINE void store_first(float* to, Floats v, int64_t count) {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), v);
}
#elif HYPERLINE_LANES == 8
HYPERLINE_INLINE Bits first(int64_t count) {
    return reinterpret_cast<Bits>(Sums{0, 1, 2, 3, 4, 5, 6, 7} < Sums{} + static_cast<int32_t>(count));
}
HYPERLINE_INLINE Floats load_first(const float* from, int64_t count) {
    return _mm256_maskload_ps(from, first(count));
}
HYPERLINE_INLINE void store_first(float* to, Floats v, int64_t count) {
    _mm256_maskstore_ps(to, first(count), v);
}
#else
HYPERLINE_INLINE Floats load_first(const float* from, int64_t count) {
    return load_some<Floats>(from, count);
}
HYPERLINE_INLINE void store_first(float* to, Floats v, int64_t count) {
    store_some(to, v, count);
}
#endif

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
