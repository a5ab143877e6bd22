// The first product of the step, pooling, and the decision.
#include "fused.h"

#include "rows.h"

namespace hyperline::HYPERLINE_ISA {
namespace {

// op of a vector's halves, of the halves of that, and so on down to one lane.
template <class V, class Op, int... i>
HYPERLINE_INLINE auto of_halves(V v, const Op& op, std::integer_sequence<int, i...>) {
    return op(HYPERLINE_SHUFFLE(v, v, i...), HYPERLINE_SHUFFLE(v, v, (i + lanes_of<V> / 2)...));
}
template <class V, class Op>
HYPERLINE_INLINE auto reduce(V v, const Op& op) {
    if constexpr (lanes_of<V> == 4) {
        return op(op(v[0], v[1]), op(v[2], v[3]));
    } else {
        return reduce(of_halves(v, op, std::make_integer_sequence<int, lanes_of<V> / 2>{}), op);
    }
}

// log(v) for normal v >= 1: log(2^n (1 + z)) = n log(2) + log(1 + z). Exactly 0 at 1.
HYPERLINE_INLINE Floats log_of(Floats v) {
    const Integers bits = reinterpret_cast<Integers>(v);
    const Floats fraction = reinterpret_cast<Floats>((bits & 0x007fffff) | 0x3f800000) - 1.0f;
    return __builtin_convertvector((bits >> 23) - 127, Floats) * 0.69314718f + log1p_of_fraction(fraction);
}

constexpr int64_t floats_per_line = 16;  // of cache

// A register block: `height` rows of centred inputs by `vectors` vectors of outputs, the last of which may not be
// whole. Rows from `count` on are multiplied too, and dropped. The lines come from memory, not from a cache: those of
// the rows to come, from `ahead` on, are asked for meanwhile.
template <bool whole, int height, int vectors>
HYPERLINE_INLINE void multiply_block(const hyperline_centred_rows& rows, const float* centred, const float* ahead,
                                     int64_t output, int64_t count, float* y) {
    Floats sums[height][vectors];
    const int64_t left = rows.outputs - output;
    HYPERLINE_UNROLL for (int v = 0; v < vectors; v++) {
        const Floats bias = load_part<whole>(rows.bias + output + v * lanes, left - v * lanes);
        HYPERLINE_UNROLL for (int r = 0; r < height; r++) sums[r][v] = bias;
    }
    const float* weight = rows.weight + output;
    for (int64_t i = 0; i < rows.inputs; i++, weight += rows.outputs) {
        __builtin_prefetch(ahead + i * floats_per_line);
        Floats loaded[vectors];
        HYPERLINE_UNROLL for (int v = 0; v < vectors; v++) {
            loaded[v] = load_part<whole>(weight + v * lanes, left - v * lanes);
        }
        HYPERLINE_UNROLL for (int r = 0; r < height; r++) {
            const Floats input = broadcast<Floats>(centred[r * rows.inputs + i]);
            HYPERLINE_UNROLL for (int v = 0; v < vectors; v++) sums[r][v] += input * loaded[v];
        }
    }
    HYPERLINE_UNROLL for (int r = 0; r < height; r++) {
        if (r >= count) break;
        HYPERLINE_UNROLL for (int v = 0; v < vectors; v++) {
            store_part<whole>(y + r * rows.outputs + output + v * lanes, sums[r][v], left - v * lanes);
        }
    }
}

template <int vectors>
void multiply(const hyperline_centred_rows& rows, const float* centred, const float* ahead, int64_t output,
              int64_t count, float* y) {
    constexpr int height = block_rows(vectors);
    for (; count > 0; count -= height, centred += height * rows.inputs, y += height * rows.outputs) {
        if (output + vectors * lanes <= rows.outputs) {
            multiply_block<true, height, vectors>(rows, centred, ahead, output, count, y);
        } else {
            multiply_block<false, height, vectors>(rows, centred, ahead, output, count, y);
        }
        ahead += rows.inputs * floats_per_line;
    }
}

}  // namespace

int64_t centred_workspace(int64_t inputs) {
    return whole_blocks * inputs;
}

void centred_linear(const hyperline_centred_rows& rows, float* centred) {
    const int64_t inputs = rows.inputs;
    for (int64_t first = 0; first < rows.rows; first += whole_blocks) {
        const int64_t count = least(whole_blocks, rows.rows - first);
        for (int64_t r = 0; r < whole_blocks; r++) {
            const float* const x = rows.x + (first + least(r, count - 1)) * inputs;
            float* const to = centred + r * inputs;
            int64_t i = 0;
            for (; i + lanes <= inputs; i += lanes) store(to + i, load<Floats>(x + i) - load<Floats>(rows.mean + i));
            for (; i < inputs; i++) to[i] = x[i] - rows.mean[i];
        }
        for (int64_t output = 0; output < rows.outputs; output += panel_vectors * lanes) {
            const int64_t vectors = least(panel_vectors, (rows.outputs - output + lanes - 1) / lanes);
            float* const y = rows.y + first * rows.outputs;
            const float* const ahead = rows.x + (first + whole_blocks) * inputs;
            switch (vectors) {
                case 1:
                    multiply<1>(rows, centred, ahead, output, count, y);
                    break;
                case 2:
                    multiply<2>(rows, centred, ahead, output, count, y);
                    break;
#if HYPERLINE_LANES == 16 || defined(__ARM_NEON)
                case 3:
                    multiply<3>(rows, centred, ahead, output, count, y);
                    break;
                default:
                    multiply<4>(rows, centred, ahead, output, count, y);
#endif
            }
        }
    }
}

void pool(const hyperline_pool_block& block, int64_t first, int64_t last) {
    const int64_t C = block.channels, half = block.samples / 2, line = block.samples * C;
    for (int64_t row = first; row < last; row++) {
        for (int64_t cell = 0; cell < half; cell++) {
            const float* const mask = block.mask + 2 * row * block.samples + 2 * cell;
            const float count = (mask[0] + mask[block.samples]) + (mask[1] + mask[block.samples + 1]);
            const float divisor = count > 1.0f ? count : 1.0f;
            const float* const x = block.x + 2 * row * line + 2 * cell * C;
            float* const y = block.y + (row * half + cell) * C;
            int64_t c = 0;
            for (; c + lanes <= C; c += lanes) {
                const Floats left = load<Floats>(x + c) + load<Floats>(x + line + c);
                const Floats right = load<Floats>(x + C + c) + load<Floats>(x + line + C + c);
                store(y + c, (left + right) / divisor);
            }
            for (; c < C; c++) y[c] = ((x[c] + x[line + c]) + (x[C + c] + x[line + C + c])) / divisor;
            block.coarse[row * half + cell] = count > 0.0f ? 1.0f : 0.0f;
        }
    }
}

// With x the logits less their greatest, Z = sum exp(x) and S = sum x exp(x), the confidence is 1 / Z and the entropy
// log(Z) - S / Z. A pixel's sums have classes in their lanes; quotients and logarithms have pixels there.
void decide(const hyperline_decision& decision) {
    const int64_t classes = decision.classes;
    const auto greater = [](auto a, auto b) { return a > b ? a : b; };
    const auto lesser = [](auto a, auto b) { return a < b ? a : b; };
    const auto plus = [](auto a, auto b) { return a + b; };
    Integers numbers;
    for (int k = 0; k < lanes; k++) numbers[k] = k;
    const Integers none = Integers{} + INT32_MAX;
    const Floats most = log_of(broadcast<Floats>(static_cast<float>(classes > 2 ? classes : 2)));
    const Floats one = broadcast<Floats>(1.0f);
    for (int64_t start = 0; start < decision.pixels; start += lanes) {
        const int64_t count = least(lanes, decision.pixels - start);
        float totals[lanes], moments[lanes];
        for (int64_t four = 0; four < count; four += 4) {
            Floats total[4], moment[4];  // of what is behind the last pixel, those of the last
            for (int64_t k = 0; k < 4; k++) {
                const int64_t pixel = start + least(four + k, count - 1);
                const float* const logits = decision.logits + pixel * classes;
                // The vector at class c; classes that do not exist are out of the question.
                const auto logits_at = [&](int64_t c) {
                    const int64_t left = classes - c;
                    const Floats here = load_part<false>(logits + c, left);
                    return numbers < static_cast<int32_t>(left) ? here : broadcast<Floats>(-1e30f);
                };
                Floats top = logits_at(0);
                for (int64_t c = lanes; c < classes; c += lanes) top = greater(top, logits_at(c));
                const float best = reduce(top, greater);
                Integers place = none;
                total[k] = moment[k] = Floats{};
                for (int64_t c = 0; c < classes; c += lanes) {
                    const Floats here = logits_at(c);
                    place = lesser(place, here == best ? numbers + static_cast<int32_t>(c) : none);
                    const Floats x = here - best;
                    const Floats power = exp2(x * 1.44269504f);
                    total[k] += power;
                    moment[k] += power * (x < -87.0f ? broadcast<Floats>(-87.0f) : x);  // exp(-87) is as good as 0
                }
                const int32_t first = reduce(place, lesser);
                const bool valid = decision.valid[pixel] != 0;
                decision.labels[pixel] = valid && first < classes ? static_cast<uint8_t>(first + 1) : 0;
            }
            store(totals + four, sums(total[0], total[1], total[2], total[3]));
            store(moments + four, sums(moment[0], moment[1], moment[2], moment[3]));
        }
        for (int64_t k = (count + 3) / 4 * 4; k < lanes; k++) totals[k] = 1.0f, moments[k] = 0.0f;
        const Floats confidence = one / load<Floats>(totals);
        const Floats entropy = (log_of(load<Floats>(totals)) - load<Floats>(moments) * confidence) / most;
        const Floats uncertainty = entropy > one ? one : entropy;
        for (int64_t k = 0; k < count; k++) {
            const bool valid = decision.valid[start + k] != 0;
            decision.confidence[start + k] = valid ? confidence[k] : 0.0f;
            if (decision.uncertainty) decision.uncertainty[start + k] = valid ? uncertainty[k] : 0.0f;
        }
    }
}

}  // namespace hyperline::HYPERLINE_ISA
