// The INT8 layers. Rows of activations are quantised once into a workspace in cache, then multiplied with packed
// weights in register blocks; scale, bias and what comes after are applied to the sums before they leave the
// registers.
//
// A convolution makes no copy of its neighbourhoods: samples lie side by side with channels last, so what an output
// sample sees is three runs of 3 I activations each, one a line.
#include "quantized.h"

#include "quantized_arithmetic.h"

namespace hyperline::HYPERLINE_ISA {
namespace {

constexpr int conv_width = 3;

HYPERLINE_INLINE int64_t round_up(int64_t number, int64_t multiple) {
    return (number + multiple - 1) / multiple * multiple;
}

// Activations of a row, or of a sample: its inputs, filled up with zeros to whole units.
HYPERLINE_INLINE int64_t pitch_of(const hyperline_quantized_weight& weight) {
    return round_up(weight.inputs, group);
}

// ------------------------------------------------------------------------------------------------------ packing ---

// Packed: what the sums start from, twice (O, rounded up to lanes) as int32: of all taps, and of those on lines that
// are not the last. Then for every panel of up to panel_vectors vectors of outputs its weights (tap, unit, output,
// input of the unit). What does not exist is 0.
HYPERLINE_INLINE int64_t starts_bytes(const hyperline_quantized_weight& weight) {
    return round_up(2 * round_up(weight.outputs, lanes) * 4, 64);
}

int64_t packed_bytes(const hyperline_quantized_weight& weight) {
    return starts_bytes(weight) +
           weight.taps * pitch_of(weight) * round_up(weight.outputs, lanes) * static_cast<int64_t>(sizeof(Weight));
}

// Outputs of a panel start at `output`; all panels before it are whole.
struct Panel {
    int64_t output, vectors;
    const int32_t* starts;
    Weight* weights;
};

HYPERLINE_INLINE Panel panel_at(const hyperline_quantized_weight& weight, int64_t output, bool all_taps) {
    char* packed = static_cast<char*>(weight.packed);
    Weight* weights = reinterpret_cast<Weight*>(packed + starts_bytes(weight));
    const int64_t left = (weight.outputs - output + lanes - 1) / lanes;
    const int32_t* starts = reinterpret_cast<const int32_t*>(packed) + (all_taps ? 0 : round_up(weight.outputs, lanes));
    return {output, least(left, panel_vectors), starts + output, weights + weight.taps * pitch_of(weight) * output};
}

void pack(const hyperline_quantized_weight& weight, const int8_t* from, const WeightStrides& strides) {
    const int64_t pitch = pitch_of(weight);
    const int64_t width = round_up(weight.outputs, lanes);
    int32_t* starts = static_cast<int32_t*>(weight.packed);
    for (int64_t o = 0; o < 2 * width; o++) starts[o] = 0;
    for (int64_t output = 0; output < weight.outputs; output += panel_vectors * lanes) {
        const Panel panel = panel_at(weight, output, true);
        Weight* to = panel.weights;
        for (int64_t tap = 0; tap < weight.taps; tap++) {
            for (int64_t unit = 0; unit < pitch; unit += group) {
                for (int64_t o = output; o < output + panel.vectors * lanes; o++) {
                    for (int64_t i = unit; i < unit + group; i++, to++) {
                        const bool exists = i < weight.inputs && o < weight.outputs;
                        *to = exists ? from[tap * strides.tap + i * strides.input + o * strides.output] : 0;
                        starts[o] -= zero * *to;
                        if (tap < weight.taps - conv_width) starts[width + o] -= zero * *to;
                    }
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------- quantising ---

// Writes up to lanes - 1 activations more than `count`, zeros.
void quantize(Activation* to, const float* x, int64_t count, float scale) {
    const Floats scales = broadcast<Floats>(scale);
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) store_quantized(to + i, load<Floats>(x + i), scales);
    if (i < count) store_quantized(to + i, load_first(x + i, count - i), scales);
}

// Rows in order: what one writes too much, the next puts right.
void quantize_rows(Activation* to, const float* x, int64_t rows, const hyperline_quantized_layer& layer) {
    const int64_t inputs = layer.weight->inputs, pitch = pitch_of(*layer.weight);
    if (inputs == pitch) return quantize(to, x, rows * inputs, layer.x_scale);
    for (int64_t row = 0; row < rows; row++) quantize(to + row * pitch, x + row * inputs, inputs, layer.x_scale);
}

HYPERLINE_INLINE void fill_zero(Activation* to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = zero;
}

// --------------------------------------------------------------------------------------------------- multiplying ---

// What a row of outputs sees: `count` runs of `length` activations, `stride` apart.
struct Runs {
    int64_t count, length, stride;
};

// Rows of activations, `pitch` apart, and where their outputs go.
struct Rows {
    int64_t count;
    const Activation* x;
    int64_t pitch;
    const float* bias;
    int64_t bias_stride;
    float* y;
    int64_t y_stride;
    const float* residual;  // where y_stride leads too; null but for HYPERLINE_ADD
};

// Sums to outputs: a product and a sum, in one rounding where the machine can, and what comes after.
template <bool whole, int after, int height, int vectors>
HYPERLINE_INLINE void finish(const Sums (&sums)[height][vectors], const hyperline_quantized_layer& layer,
                             const Panel& panel, const Rows& rows) {
    HYPERLINE_UNROLL for (int v = 0; v < vectors; v++) {
        const int64_t output = panel.output + v * lanes, count = layer.weight->outputs - output;
        const Floats scale = load_part<whole>(layer.weight_scale + output, count) * layer.x_scale;
        HYPERLINE_UNROLL for (int r = 0; r < height; r++) {
            if (r >= rows.count) break;
            const Floats bias = load_part<whole>(rows.bias + r * rows.bias_stride + output, count);
            Floats y = __builtin_convertvector(sums[r][v], Floats) * scale + bias;
            const int64_t place = r * rows.y_stride + output;
            if (after == HYPERLINE_RELU) y = y < 0.0f ? Floats{} : y;
            if (after == HYPERLINE_SILU) y = silu(y);
            if (after == HYPERLINE_GELU) y = gelu(y);
            if (after == HYPERLINE_ADD) y += load_part<whole>(rows.residual + place, count);
            store_part<whole>(rows.y + place, y, count);
        }
    }
}

// A register block. Rows beyond the last are multiplied too, and dropped: their activations are there to be read.
template <int after, int height, int vectors>
HYPERLINE_INLINE void multiply_block(const hyperline_quantized_layer& layer, const Panel& panel, const Runs& runs,
                                     const Rows& rows) {
    Sums sums[height][vectors];
    HYPERLINE_UNROLL for (int v = 0; v < vectors; v++) {
        Sums start;
        __builtin_memcpy(&start, panel.starts + v * lanes, sizeof start);
        HYPERLINE_UNROLL for (int r = 0; r < height; r++) sums[r][v] = start;
    }
    const Weight* weights = panel.weights;
    for (int64_t run = 0; run < runs.count; run++) {
        const Activation* x = rows.x + run * runs.stride;
        for (const Activation* end = x + runs.length; x < end; x += group) {
            Weights loaded[vectors];
            HYPERLINE_UNROLL for (int v = 0; v < vectors; v++) loaded[v] = load_weights(weights + v * lanes * group);
            weights += vectors * lanes * group;
            HYPERLINE_UNROLL for (int r = 0; r < height; r++) {
                const Weights activation = broadcast_unit(x + r * rows.pitch);
                HYPERLINE_UNROLL for (int v = 0; v < vectors; v++) sums[r][v] =
                    multiply_add(sums[r][v], activation, loaded[v]);
            }
        }
    }
    if (panel.output + vectors * lanes <= layer.weight->outputs) {
        finish<true, after>(sums, layer, panel, rows);
    } else {
        finish<false, after>(sums, layer, panel, rows);
    }
}

template <int after, int vectors>
void multiply_panel(const hyperline_quantized_layer& layer, const Panel& panel, const Runs& runs, Rows rows) {
    constexpr int height = block_rows(vectors);
    for (; rows.count > 0; rows.count -= height) {
        multiply_block<after, height, vectors>(layer, panel, runs, rows);
        rows.x += height * rows.pitch;
        rows.bias += height * rows.bias_stride;
        rows.y += height * rows.y_stride;
        if (after == HYPERLINE_ADD) rows.residual += height * rows.y_stride;
    }
}

template <int after>
void multiply(const hyperline_quantized_layer& layer, const Panel& panel, const Runs& runs, const Rows& rows) {
    switch (panel.vectors) {
        case 1:
            return multiply_panel<after, 1>(layer, panel, runs, rows);
        case 2:
            return multiply_panel<after, 2>(layer, panel, runs, rows);
#if HYPERLINE_LANES == 16 || defined(__ARM_NEON)
        case 3:
            return multiply_panel<after, 3>(layer, panel, runs, rows);
        default:
            return multiply_panel<after, 4>(layer, panel, runs, rows);
#endif
    }
}

void multiply(const hyperline_quantized_layer& layer, const Panel& panel, const Runs& runs, const Rows& rows,
              int32_t after) {
    switch (after) {
        case HYPERLINE_RELU:
            return multiply<HYPERLINE_RELU>(layer, panel, runs, rows);
        case HYPERLINE_ADD:
            return multiply<HYPERLINE_ADD>(layer, panel, runs, rows);
        case HYPERLINE_SILU:
            return multiply<HYPERLINE_SILU>(layer, panel, runs, rows);
        case HYPERLINE_GELU:
            return multiply<HYPERLINE_GELU>(layer, panel, runs, rows);
        default:
            return multiply<HYPERLINE_AS_IS>(layer, panel, runs, rows);
    }
}

// -------------------------------------------------------------------------------------------------------- layers ---

// Rows quantised at once: about 8 KB, so that they and a panel's weights stay in the first level of cache.
HYPERLINE_INLINE int64_t tile_rows(const hyperline_quantized_weight& weight) {
    const int64_t rows = 8192 / (pitch_of(weight) * static_cast<int64_t>(sizeof(Activation)));
    return round_up(rows > 1 ? rows : 1, whole_blocks);
}

int64_t linear_workspace(const hyperline_quantized_weight& weight) {
    return (tile_rows(weight) * pitch_of(weight) + lanes) * static_cast<int64_t>(sizeof(Activation));
}

void linear(const hyperline_quantized_layer& layer, const hyperline_quantized_rows& rows, void* workspace) {
    const hyperline_quantized_weight& weight = *layer.weight;
    const int64_t pitch = pitch_of(weight), tile = tile_rows(weight);
    Activation* activations = static_cast<Activation*>(workspace);
    for (int64_t first = 0; first < rows.rows; first += tile) {
        const int64_t count = least(tile, rows.rows - first), from = first * weight.outputs;
        quantize_rows(activations, rows.x + first * weight.inputs, count, layer);
        fill_zero(activations + count * pitch, (round_up(count, whole_blocks) - count) * pitch);
        for (int64_t output = 0; output < weight.outputs; output += panel_vectors * lanes) {
            multiply(layer, panel_at(weight, output, true), {1, pitch, 0},
                     {count, activations, pitch, rows.bias + first * rows.bias_stride, rows.bias_stride, rows.y + from,
                      weight.outputs, rows.after == HYPERLINE_ADD ? rows.residual + from : nullptr},
                     rows.after);
        }
    }
}

// Samples quantised at once, in all lines: about a hundred outputs, whose two columns of border are then a small part.
HYPERLINE_INLINE int64_t strip_samples(int64_t lines) {
    return round_up(lines < 96 ? 96 / lines : 1, whole_blocks);
}

int64_t block_conv_workspace(const hyperline_quantized_weight& weight, int64_t lines) {
    // past line, lines, and what a last register block reads beyond
    const int64_t samples = (lines + 1) * (strip_samples(lines) + 2) + whole_blocks;
    return (samples * pitch_of(weight) + lanes) * static_cast<int64_t>(sizeof(Activation));
}

// Quantises samples first - 1 .. last of a line of `samples`; zeros stand for those that do not exist.
HYPERLINE_INLINE void quantize_line(Activation* to, const float* line, int64_t samples, int64_t first, int64_t last,
                                    const hyperline_quantized_layer& layer) {
    const int64_t pitch = pitch_of(*layer.weight);
    const int64_t left = first > 0 ? 0 : 1, right = last < samples ? 0 : 1;
    const int64_t count = last - first + 2 - left - right;
    fill_zero(to, left * pitch);
    quantize_rows(to + left * pitch, line + (first - 1 + left) * layer.weight->inputs, count, layer);
    fill_zero(to + (left + count) * pitch, right * pitch);
}

void block_conv(const hyperline_quantized_layer& layer, const hyperline_quantized_block& block, int64_t first,
                int64_t last, void* workspace) {
    const hyperline_quantized_weight& weight = *layer.weight;
    const int64_t pitch = pitch_of(weight), strip = strip_samples(block.lines);
    Activation* activations = static_cast<Activation*>(workspace);
    for (; first < last; first += strip) {
        const int64_t end = least(first + strip, last), line_pitch = (end - first + 2) * pitch;
        quantize_line(activations, block.past, block.samples, first, end, layer);
        for (int64_t line = 0; line < block.lines; line++) {
            quantize_line(activations + (line + 1) * line_pitch, block.x + line * block.samples * weight.inputs,
                          block.samples, first, end, layer);
        }
        fill_zero(activations + (block.lines + 1) * line_pitch, whole_blocks * pitch);
        for (int64_t output = 0; output < weight.outputs; output += panel_vectors * lanes) {
            for (int64_t line = 0; line < block.lines; line++) {
                // After the last line there are zeros: its sums need no third run.
                const bool all_taps = line + 1 < block.lines;
                const Panel panel = panel_at(weight, output, all_taps);
                const Runs runs = {all_taps ? conv_width : conv_width - 1, conv_width * pitch, line_pitch};
                const int64_t from = (line * block.samples + first) * weight.outputs;
                const Rows rows = {end - first,
                                   activations + line * line_pitch,
                                   pitch,
                                   block.bias,
                                   0,
                                   block.y + from,
                                   weight.outputs,
                                   block.after == HYPERLINE_ADD ? block.residual + from : nullptr};
                multiply(layer, panel, runs, rows, block.after);
            }
        }
    }
}

}  // namespace

#define HYPERLINE_TEXT_OF(name) #name
#define HYPERLINE_TEXT(name) HYPERLINE_TEXT_OF(name)
const QuantizedKernels quantized = {HYPERLINE_TEXT(HYPERLINE_ISA), packed_bytes, pack, linear_workspace, linear,
                                    block_conv_workspace,          block_conv};

}  // namespace hyperline::HYPERLINE_ISA
