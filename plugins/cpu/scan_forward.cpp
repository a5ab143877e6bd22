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
void scan_window(const ForwardCall& call, int64_t sequence, const Window& window) {
    const hyperline_scan& scan = call.scan;
    const bool first_group = window.state == 0;
    const Vector4 D = load_some<Vector4>(scan.D + window.channel, window.channels);
    const Group<V, vectors> rates = load_rates<V, vectors>(scan, window);
    Group<V, vectors> h;
    load_group(h, scan.h0 + sequence * scan.h0_sequence_stride, window, scan.states);

    Stretch<capacity> stretch;
    for (int64_t first = 0; first < scan.length; first += capacity) {
        const int64_t count = least(capacity, scan.length - first);
        stage<V>(stretch, nullptr, scan, sequence, window, first, count);
        for (int64_t i = 0; i < count; i++) {
            const int64_t t = place(scan, first + i);
            V C[vectors];
            load_row(C, row(scan.C, sequence, t) + window.state, window.states);
            if (stretch.mask[i] != 0.0f) {
                V B[vectors], decay[vectors];
                load_row(B, row(scan.B, sequence, t) + window.state, window.states);
                for (int c = 0; c < block_channels; c++) {
                    const int64_t k = i * block_channels + c;
                    advance(h.at[c], decay, rates.at[c], B, stretch.step[k], stretch.drive[k]);
                }
            }
            float* y = row(call.y, sequence, t) + window.channel;
            const Vector4 before = first_group ? D * load<Vector4>(stretch.u + i * block_channels)
                                               : load_some<Vector4>(y, window.channels);
            store_some(y, before + read_out(h, C), window.channels);
        }
    }
    store_group(call.h + sequence * scan.channels * scan.states, h, window, scan.states);
}

}  // namespace

void scan_forward(const ForwardCall& call, int64_t first, int64_t last) {
    const hyperline_scan& scan = call.scan;
    with_vectors(scan.states, [&](auto kind) {
        using Kind = decltype(kind);
        for (int64_t unit = first; unit < last; unit++) {
            const int64_t sequence = unit / call.blocks, channel = unit % call.blocks * block_channels;
            for (int64_t state = 0; state < scan.states; state += Kind::states) {
                scan_window<typename Kind::V, Kind::vectors>(call, sequence, window_at<Kind>(scan, channel, state));
            }
        }
    });
}

}  // namespace hyperline::HYPERLINE_ISA
