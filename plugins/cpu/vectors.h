// Vectors of 4, 8 or 16 floats in the compilers' own vector extension, and the functions that the scan needs of them.
//
// This header is compiled once for every instruction set (CMakeLists.txt). All of it is forced inline and templated on
// types of that set's namespace, and nothing of the C++ library is called: a function that the linker could share
// between the sets might carry instructions that the machine at hand does not have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#define HYPERLINE_INLINE inline __attribute__((always_inline))

// Clang and GCC 12 have shufflevector; JetPack 6 still compiles with GCC 11.
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

// 2^x within 1.8 units in the last place for |x| < 126; beyond, 2^-126 or 2^127. exp2(0) is exactly 1, NaN stays NaN.
// 12 operations: clamp, split x = n + f with |f| <= 1/2 by adding a constant whose last place is 1, 2^f = 1 + f q(f), n
// into the exponent. q is the minimax fit of degree 4 in units in the last place.
template <class V>
HYPERLINE_INLINE V exp2(V x) {
    typedef decltype(x < x) Bits;
    const V lowest = broadcast<V>(-126.0f), highest = broadcast<V>(127.0f);
    x = x < lowest ? lowest : x;
    x = x > highest ? highest : x;
    const float shift = 12582912.0f;  // 1.5 * 2^23
    const V shifted = x + shift;
    const V f = x - (shifted - shift);
    V q = 0.0013225708f * f + 0.009671763f;
    q = q * f + 0.055508915f;
    q = q * f + 0.24022236f;
    q = q * f + 0.6931468f;
    const V power = q * f + 1.0f;
    return reinterpret_cast<V>(reinterpret_cast<Bits>(power) + (reinterpret_cast<Bits>(shifted) << 23));
}

// softplus(x) = max(x, 0) + log1p(z) with z = exp(-|x|), and log1p(z) = 2 atanh(z / (2 + z)): relative error about
// 3e-7 also for small steps, where log(1 + z) has no digits left. Its slope, the logistic function, falls out.
template <class V>
HYPERLINE_INLINE V softplus(V x, V* slope) {
    const V zero = {};
    const V z = exp2((x < zero ? x : -x) * 1.44269504f);
    const V ratio = z / (z + 2.0f);
    const V square = ratio * ratio;
    V series = 0.14005993f * square + 0.14000903f;
    series = series * square + 0.20010763f;
    series = series * square + 0.33333209f;
    series = series * square + 1.0f;
    if (slope) *slope = (x < zero ? z : broadcast<V>(1.0f)) / (z + 1.0f);
    return (x < zero ? zero : x) + 2.0f * ratio * series;
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

HYPERLINE_INLINE Vector4 fold(Vector4 v) {
    return v;
}
template <class V>
HYPERLINE_INLINE Vector4 fold(V v) {
    typedef Vector<lanes_of<V> / 2> Half;
    Half low, high;
    __builtin_memcpy(&low, &v, sizeof low);
    __builtin_memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
    return fold(low + high);
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
