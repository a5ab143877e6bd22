// Layer normalisation, four rows at once: their sums become one vector of four, and their chains of additions hide each
// other's latency. A row is read three times, twice of them from the first level of cache.
#include "fused.h"

#include "rows.h"

namespace hyperline::HYPERLINE_ISA {
namespace {

constexpr int height = 4;

HYPERLINE_INLINE Vector4 square_root(Vector4 v) {
#if defined(__x86_64__)
    return _mm_sqrt_ps(v);
#else
    return vsqrtq_f32(v);
#endif
}

// What is normalised, from a place of the array on.
template <bool add, bool whole>
HYPERLINE_INLINE Floats value(const hyperline_norm_rows& rows, int64_t place, int64_t count) {
    const Floats x = load_part<whole>(rows.x + place, count);
    return add ? x + load_part<whole>(rows.addend + place, count) : x;
}

struct Block {
    int64_t row[height], start[height];  // start: of the row in its array
    Vector4 mean, factor;
};

template <int after, bool add, bool whole>
HYPERLINE_INLINE void finish(const hyperline_norm_rows& rows, const Block& block, int64_t column, int64_t count) {
    const Floats scale = load_part<whole>(rows.scale + column, count);
    const Floats bias = load_part<whole>(rows.bias + column, count);
    for (int r = 0; r < height; r++) {
        const int64_t place = block.start[r] + column;
        Floats y = (value<add, whole>(rows, place, count) - block.mean[r]) * (block.factor[r] * scale) + bias;
        if (after == HYPERLINE_NORM_RELU)
            y = (y < 0.0f) | (broadcast<Floats>(rows.keep[block.row[r]]) == 0.0f) ? Floats{} : y;
        if (after == HYPERLINE_NORM_SILU) y = silu(y);
        if (after == HYPERLINE_NORM_GATED) {
            const Floats gate = load_part<whole>(rows.gate + place, count);
            y = gated(y * gate, gate);
        }
        store_part<whole>(rows.y + place, y, count);
    }
}

template <int after, bool add>
void norm_rows(const hyperline_norm_rows& rows) {
    const int64_t width = rows.width, even = width / lanes * lanes, rest = width - even;
    float ones[lanes];
    for (int i = 0; i < lanes; i++) ones[i] = i < rest ? 1.0f : 0.0f;
    const Floats in_row = load<Floats>(ones);
    for (int64_t row = 0; row < rows.rows; row += height) {
        Block block;
        for (int r = 0; r < height; r++) {
            block.row[r] = row + r < rows.rows ? row + r : rows.rows - 1;  // a row that is done twice is done alike
            block.start[r] = block.row[r] * width;
        }
        Floats sum[height] = {};
        for (int64_t column = 0; column < even; column += lanes) {
            for (int r = 0; r < height; r++) sum[r] += value<add, true>(rows, block.start[r] + column, lanes);
        }
        if (rest) {
            for (int r = 0; r < height; r++) sum[r] += value<add, false>(rows, block.start[r] + even, rest);
        }
        block.mean = sums(sum[0], sum[1], sum[2], sum[3]) / static_cast<float>(width);
        Floats square[height] = {};
        for (int64_t column = 0; column < even; column += lanes) {
            for (int r = 0; r < height; r++) {
                const Floats off = value<add, true>(rows, block.start[r] + column, lanes) - block.mean[r];
                square[r] += off * off;
            }
        }
        if (rest) {
            for (int r = 0; r < height; r++) {
                const Floats off = value<add, false>(rows, block.start[r] + even, rest) - block.mean[r];
                square[r] += off * off * in_row;
            }
        }
        const Vector4 variance = sums(square[0], square[1], square[2], square[3]) / static_cast<float>(width);
        block.factor = 1.0f / square_root(variance + rows.epsilon);
        for (int64_t column = 0; column < even; column += lanes) finish<after, add, true>(rows, block, column, lanes);
        if (rest) finish<after, add, false>(rows, block, even, rest);
    }
}

template <bool add>
void norm_rows(const hyperline_norm_rows& rows) {
    switch (rows.after) {
        case HYPERLINE_NORM_RELU:
            return norm_rows<HYPERLINE_NORM_RELU, add>(rows);
        case HYPERLINE_NORM_SILU:
            return norm_rows<HYPERLINE_NORM_SILU, add>(rows);
        case HYPERLINE_NORM_GATED:
            return norm_rows<HYPERLINE_NORM_GATED, add>(rows);
        default:
            return norm_rows<HYPERLINE_NORM_AS_IS, add>(rows);
    }
}

}  // namespace

void norm(const hyperline_norm_rows& rows) {
    rows.addend ? norm_rows<true>(rows) : norm_rows<false>(rows);
}

}  // namespace hyperline::HYPERLINE_ISA
