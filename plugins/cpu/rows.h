// What kernels share that go over rows of numbers: whole vectors and the part of one at a row's end, activations of
// vectors, and how many sums fit the registers of an instruction set.
#pragma once

#include "vectors.h"

namespace hyperline::HYPERLINE_ISA {

constexpr int lanes = HYPERLINE_LANES;
using Floats = Vector<lanes>;
typedef int32_t Integers __attribute__((vector_size(4 * lanes)));

HYPERLINE_INLINE int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

#if defined(__x86_64__) && HYPERLINE_LANES == 4
typedef __m128i Bits;
#elif defined(__x86_64__) && HYPERLINE_LANES == 8
typedef __m256i Bits;
#elif defined(__x86_64__)
typedef __m512i Bits;
#endif

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
    const Integers power = reinterpret_cast<Integers>(exp2_of_fraction(rest * 1.44269504f));
    return v / (reinterpret_cast<Floats>(power + (reinterpret_cast<Integers>(shifted) << 23)) + 1.0f);
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
    return reinterpret_cast<Bits>(Integers{0, 1, 2, 3, 4, 5, 6, 7} < Integers{} + static_cast<int32_t>(count));
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

// A vector of a row that has `count` numbers left; with `whole` it has a vector's.
template <bool whole>
HYPERLINE_INLINE Floats load_part(const float* from, int64_t count) {
    if (whole || count >= lanes) return load<Floats>(from);
    return load_first(from, count);
}

template <bool whole>
HYPERLINE_INLINE void store_part(float* to, Floats v, int64_t count) {
    if (whole || count >= lanes) return store(to, v);
    store_first(to, v, count);
}

// A register block is `block_rows(v)` rows by v vectors of outputs: as many sums as there are registers for, beside the
// weights, an activation and a product.
#if HYPERLINE_LANES == 16 || defined(__ARM_NEON)
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

// A block's sums stay in registers only if its loops are gone before the compiler places them.
#define HYPERLINE_UNROLL _Pragma("GCC unroll 16")

}  // namespace hyperline::HYPERLINE_ISA
