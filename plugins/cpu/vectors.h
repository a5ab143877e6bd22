// Vectors of 4, 8 or 16 floats in the compilers' own vector extension, and the functions that the scan needs of them.
//
// This header is compiled once for every instruction set (CMakeLists.txt). All of it is forced inline and templated on
// types of that set's namespace, and nothing of the C++ library is called: a function that the linker could share
// between the sets might carry instructions that the machine at hand does not have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define HYPERLINE_INLINE inline __attribute__((always_inline))

// Clang and GCC 12 have shufflevector; JetPack 6 still compiles with GCC 11, whose shuffle keeps the width. There the
// vectors have four lanes and are not halved.
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HYPERLINE_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef HYPERLINE_SHUFFLE
#define HYPERLINE_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, decltype(a < b){__VA_ARGS__})
#endif

namespace hyperline::HYPERLINE_ISA {

template <int lanes>
struct VectorOf {
    typedef float type __attribute__((vector_size(4 * lanes)));
};
template <int lanes>
using Vector = typename VectorOf<lanes>::type;
using Vector4 = Vector<4>;

template <class V>
constexpr int lanes_of = sizeof(V) / sizeof(float);

template <class V>
HYPERLINE_INLINE V load(const float* from) {
    V v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

template <class V>
HYPERLINE_INLINE void store(float* to, V v) {
    __builtin_memcpy(to, &v, sizeof v);
}

// The first `count` floats, zeros after them: never reads past them.
template <class V>
HYPERLINE_INLINE V load_some(const float* from, int64_t count) {
    if (count >= lanes_of<V>) return load<V>(from);
    V v = {};
    __builtin_memcpy(&v, from, static_cast<size_t>(count) * sizeof(float));
    return v;
}

template <class V>
HYPERLINE_INLINE void store_some(float* to, V v, int64_t count) {
    if (count >= lanes_of<V>) return store(to, v);
    __builtin_memcpy(to, &v, static_cast<size_t>(count) * sizeof(float));
}

template <class V>
HYPERLINE_INLINE V broadcast(float value) {
    return value - V{};
}

// NaN stays NaN: of two operands the instructions return the second where one is not a number.
#if defined(__SSE2__)
HYPERLINE_INLINE Vector4 clamp(Vector4 x, Vector4 low, Vector4 high) {
    return _mm_min_ps(high, _mm_max_ps(low, x));
}
#endif
#if defined(__AVX__)
HYPERLINE_INLINE Vector<8> clamp(Vector<8> x, Vector<8> low, Vector<8> high) {
    return _mm256_min_ps(high, _mm256_max_ps(low, x));
}
#endif
#if defined(__ARM_NEON)
HYPERLINE_INLINE Vector4 clamp(Vector4 x, Vector4 low, Vector4 high) {
    return vminq_f32(high, vmaxq_f32(low, x));
}
#endif

// 2^f for |f| <= 1/2: 1 + f q(f), q the minimax fit of degree 4 in units in the last place. exp2 is exactly 1 at 0.
template <class V>
HYPERLINE_INLINE V exp2_of_fraction(V f) {
    V q = 0.0013225708f * f + 0.009671763f;
    q = q * f + 0.055508915f;
    q = q * f + 0.24022236f;
    q = q * f + 0.6931468f;
    return q * f + 1.0f;
}

// 2^x within 1.8 units in the last place for |x| < 126; beyond, 2^-126 or 2^127. NaN stays NaN. 12 operations: clamp,
// split x = n + f by adding a constant whose last place is 1, n into the exponent of 2^f.
template <class V>
HYPERLINE_INLINE V exp2(V x) {
    typedef decltype(x < x) Bits;
    x = clamp(x, broadcast<V>(-126.0f), broadcast<V>(127.0f));
    const float shift = 12582912.0f;  // 1.5 * 2^23
    const V shifted = x + shift;
    const V power = exp2_of_fraction(x - (shifted - shift));
    return reinterpret_cast<V>(reinterpret_cast<Bits>(power) + (reinterpret_cast<Bits>(shifted) << 23));
}

#if HYPERLINE_LANES == 16
// AVX-512 splits and scales in one instruction each, at any size of x: 8 operations.
HYPERLINE_INLINE Vector<16> exp2(Vector<16> x) {
    const Vector<16> whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_scalef_ps(exp2_of_fraction(x - whole), whole);
}
#endif

// log(1 + z) for 0 <= z <= 1 as 2 atanh(z / (2 + z)): relative error about 3e-7 also for small z, where 1 + z has no
// digits left. Exactly 0 at 0.
template <class V>
HYPERLINE_INLINE V log1p_of_fraction(V z) {
    const V ratio = z / (z + 2.0f);
    const V square = ratio * ratio;
    V series = 0.14005993f * square + 0.14000903f;
    series = series * square + 0.20010763f;
    series = series * square + 0.33333209f;
    series = series * square + 1.0f;
    return 2.0f * ratio * series;
}

// softplus(x) = max(x, 0) + log1p(z) with z = exp(-|x|). Its slope, the logistic function, falls out.
template <class V>
HYPERLINE_INLINE V softplus(V x, V* slope) {
    const V zero = {};
    const V z = exp2((x < zero ? x : -x) * 1.44269504f);
    if (slope) *slope = (x < zero ? z : broadcast<V>(1.0f)) / (z + 1.0f);
    return (x < zero ? zero : x) + log1p_of_fraction(z);
}

// Within every four lanes: (a0 b0 a1 b1) or (a2 b2 a3 b3); (a0 a1 b0 b1) or (a2 a3 b2 b3). One instruction each.
template <int from, class V, int... i>
HYPERLINE_INLINE V zip(V a, V b, std::integer_sequence<int, i...>) {
    return HYPERLINE_SHUFFLE(a, b, (i / 4 * 4 + from + i % 4 / 2 + i % 2 * lanes_of<V>)...);
}
template <int from, class V, int... i>
HYPERLINE_INLINE V zip_pairs(V a, V b, std::integer_sequence<int, i...>) {
    return HYPERLINE_SHUFFLE(a, b, (i / 4 * 4 + from + i % 2 + i % 4 / 2 * lanes_of<V>)...);
}

template <class V, int... i>
HYPERLINE_INLINE auto sum_of_halves(V v, std::integer_sequence<int, i...>) {
    return HYPERLINE_SHUFFLE(v, v, i...) + HYPERLINE_SHUFFLE(v, v, (i + lanes_of<V> / 2)...);
}

// The sum of a vector's halves, of their halves, and so on down to four lanes.
HYPERLINE_INLINE Vector4 fold(Vector4 v) {
    return v;
}
template <class V>
HYPERLINE_INLINE Vector4 fold(V v) {
    return fold(sum_of_halves(v, std::make_integer_sequence<int, lanes_of<V> / 2>{}));
}

// The sums of all lanes of four vectors, as four lanes: 9 operations and 2 for every halving down to four lanes.
template <class V>
HYPERLINE_INLINE Vector4 sums(V a, V b, V c, V d) {
    constexpr std::make_integer_sequence<int, lanes_of<V>> all;
    const V ab = zip<0>(a, b, all) + zip<2>(a, b, all);
    const V cd = zip<0>(c, d, all) + zip<2>(c, d, all);
    return fold(zip_pairs<0>(ab, cd, all) + zip_pairs<2>(ab, cd, all));
}

}  // namespace hyperline::HYPERLINE_ISA
