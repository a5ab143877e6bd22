// SelectiveScan, forward. Per state and step about 18 operations on a lane (15 recurrence, 1 output, 2 sums across
// lanes) and, for 8 steps of 16 states, 2.3 bytes: u, delta and y are shared by the states of a channel, B and C by the
// channels of a step, h0 and h by the steps. Arithmetic bounds it, not memory.

#include "scan.h"

namespace hyperline::HYPERLINE_ISA {
namespace {

constexpr int capacity = 64;  // steps staged at once

// y of four channels before D u: the sums over the states of C h.
template <class V, int vectors>
HYPERLINE_INLINE Vector4 read_out(const Group<V, vectors>& h, const V (&C)[vectors]) {
    V product[block_channels];
    for (int c = 0; c < block_channels; c++) {
        product[c] = h.at[c][0] * C[0];
        for (int v = 1; v < vectors; v++) product[c] += h.at[c][v] * C[v];
    }
    return sums(product[0], product[1], product[2], product[3]);
}

template <class V, int vectors>
HYPERLINE_INLINE void scan_window(const ForwardCall& call, int64_t sequence, const Span& span, const Window& window,
                                  const Stretch<capacity>& stretch) {
    const hyperline_scan& scan = call.scan;
    const bool first_group = window.state == 0;
    const int64_t pitch = span.pitch(), offset = window.channel - span.channel;
    const Rows<const float> B_rows(scan, scan.B, sequence, stretch.first, window.state);
    const Rows<const float> C_rows(scan, scan.C, sequence, stretch.first, window.state);
    const Rows<float> y_rows(scan, call.y, sequence, stretch.first, window.channel);
    const Vector4 D = load_some<Vector4>(scan.D + window.channel, window.channels);
    const Group<V, vectors> rates = load_rates<V, vectors>(scan, window);
    // Between stretches the state waits in the output.
    float* state = call.h + sequence * scan.channels * scan.states;
    Group<V, vectors> h;
    load_group(h, stretch.first ? state : scan.h0 + sequence * scan.h0_sequence_stride, window, scan.states);

    for (int64_t i = 0; i < stretch.count; i++) {
        const int64_t k = i * pitch + offset;
        V C[vectors];
        load_row(C, C_rows[i], window.states);
        if (stretch.mask[i] != 0.0f) {
            V B[vectors], decay[vectors];
            load_row(B, B_rows[i], window.states);
            for (int c = 0; c < block_channels; c++) {
                advance(h.at[c], decay, rates.at[c], B, stretch.step[k + c], stretch.drive[k + c]);
            }
        }
        const Vector4 before =
            first_group ? D * load<Vector4>(stretch.u + k) : load_some<Vector4>(y_rows[i], window.channels);
        store_some(y_rows[i], before + read_out(h, C), window.channels);
    }
    store_group(state, h, window, scan.states);
}

}  // namespace

void scan_forward(const ForwardCall& call, int64_t first, int64_t last) {
    const hyperline_scan& scan = call.scan;
    with_vectors(scan.states, [&](auto kind) {
        using Kind = decltype(kind);
        Stretch<capacity> stretch;
        for (int64_t unit = first; unit < last; unit++) {
            const int64_t sequence = unit / call.spans;
            const Span span = span_at(scan, unit % call.spans * span_channels);
            for (int64_t from = 0; from < scan.length; from += capacity) {
                stage<typename Kind::V>(stretch, nullptr, scan, sequence, span, from);
                for_windows<Kind>(scan, span, [&](const Window& window) {
                    scan_window<typename Kind::V, Kind::vectors>(call, sequence, span, window, stretch);
                });
            }
        }
    });
}

}  // namespace hyperline::HYPERLINE_ISA
