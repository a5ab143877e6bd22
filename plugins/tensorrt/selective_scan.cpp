#include "selective_scan.h"

namespace hyperline {
namespace {

constexpr const char* kInputNames[] = {"u", "delta", "A", "B", "C", "D", "delta_bias", "h0", "mask"};
// Sizes by their letters in plugins/reference.py. A small letter may also be 1, which broadcasts.
constexpr const char* kInputShapes[] = {"SLD", "SLD", "DN", "SLN", "SLN", "D", "D", "sDN", "sl"};

}  // namespace

void SelectiveScan::CheckAttribute(int64_t reverse) {
    if (reverse != 0 && reverse != 1) throw Refusal("attribute reverse must be 0 or 1, not " + std::to_string(reverse));
}

nvinfer1::DataType SelectiveScan::Expected(int32_t position, nvinfer1::DataType type) {
    switch (position) {
        case kU:
        case kDelta:
        case kB:
        case kC:
        case kInputs + kY:
            return type;
        default:
            return nvinfer1::DataType::kFLOAT;
    }
}

void SelectiveScan::CheckDims(const nvinfer1::Dims* inputs) {
    int64_t sizes[128];
    for (int64_t& size : sizes) size = -1;  // not known
    for (int32_t i = 0; i < kInputs; ++i) {
        const std::string letters = kInputShapes[i];
        const nvinfer1::Dims& dims = inputs[i];
        const auto refuse = [&] {
            std::string expected;
            for (char letter : letters) {
                const char capital = static_cast<char>(letter & ~0x20);
                expected += (expected.empty() ? "" : ", ") + std::string(1, capital);
                if (sizes[int{capital}] >= 0) expected += "=" + std::to_string(sizes[int{capital}]);
                if (letter != capital) expected += " or 1";
            }
            throw Refusal(std::string("input ") + kInputNames[i] + " has shape " + ToText(dims) + "; it must be (" +
                          expected + "), with S sequences, L steps, D channels and N states");
        };
        if (dims.nbDims != static_cast<int32_t>(letters.size())) refuse();
        for (int32_t axis = 0; axis < dims.nbDims; ++axis) {
            const char letter = letters[axis], capital = static_cast<char>(letter & ~0x20);
            const int64_t found = dims.d[axis];
            int64_t& size = sizes[int{capital}];
            if (found < 0 || (letter != capital && found == 1)) continue;
            if (size >= 0 && found != size) refuse();
            if (letter == capital) size = found;
        }
    }
    if (sizes['N'] > HYPERLINE_CUDA_MAX_STATES)
        throw Refusal("A has " + std::to_string(sizes['N']) + " states a channel; the kernels hold at most " +
                      std::to_string(HYPERLINE_CUDA_MAX_STATES));
}

void SelectiveScan::OutputDims(const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs,
                               nvinfer1::IExprBuilder&) {
    outputs[kY] = inputs[kU];
    outputs[kH].nbDims = 3;
    outputs[kH].d[0] = inputs[kU].d[0];
    outputs[kH].d[1] = inputs[kA].d[0];
    outputs[kH].d[2] = inputs[kA].d[1];
}

int SelectiveScan::Enqueue(int32_t reverse, const nvinfer1::PluginTensorDesc* descriptions, const void* const* inputs,
                           void* const* outputs, cudaStream_t stream) {
    const nvinfer1::Dims &u = descriptions[kU].dims, &h0 = descriptions[kH0].dims, &mask = descriptions[kMask].dims;
    hyperline_cuda_scan scan{};
    scan.sequences = u.d[0];
    scan.length = u.d[1];
    scan.channels = u.d[2];
    scan.states = descriptions[kA].dims.d[1];
    scan.reverse = reverse;
    scan.type = ToCudaType(descriptions[kU].type);
    const auto contiguous = [&](const void* data, int64_t width) {
        return hyperline_cuda_input{data, scan.length * width, width};
    };
    scan.u = contiguous(inputs[kU], scan.channels);
    scan.delta = contiguous(inputs[kDelta], scan.channels);
    scan.B = contiguous(inputs[kB], scan.states);
    scan.C = contiguous(inputs[kC], scan.states);
    scan.mask = {inputs[kMask], mask.d[0] == 1 ? 0 : mask.d[1], mask.d[1] == 1 ? 0 : 1};
    scan.A = static_cast<const float*>(inputs[kA]);
    scan.D = static_cast<const float*>(inputs[kD]);
    scan.delta_bias = static_cast<const float*>(inputs[kDeltaBias]);
    scan.h0 = static_cast<const float*>(inputs[kH0]);
    scan.h0_sequence_stride = h0.d[0] == 1 ? 0 : scan.channels * scan.states;
    const hyperline_cuda_output y{outputs[kY], scan.length * scan.channels, scan.channels};
    return hyperline_cuda_selective_scan(&scan, y, static_cast<float*>(outputs[kH]), stream);
}

}  // namespace hyperline
