#include "expert_gate.h"

namespace hyperline {

void ExpertGate::CheckAttribute(int64_t k) {
    if (k < 1 || k > INT32_MAX) throw Refusal("attribute k must be at least 1, not " + std::to_string(k));
}

void ExpertGate::CheckDims(const nvinfer1::Dims* inputs) {
    if (inputs[kLogits].nbDims != 2)
        throw Refusal("input logits has shape " + ToText(inputs[kLogits]) + "; it must be (rows, experts)");
}

void ExpertGate::OutputDims(const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs, nvinfer1::IExprBuilder&) {
    outputs[kWeights] = outputs[kActive] = inputs[kLogits];
}

int ExpertGate::Enqueue(int32_t k, const nvinfer1::PluginTensorDesc* descriptions, const void* const* inputs,
                        void* const* outputs, cudaStream_t stream) {
    const nvinfer1::Dims& logits = descriptions[kLogits].dims;
    return hyperline_cuda_expert_gate(logits.d[0], logits.d[1], k, ToCudaType(descriptions[kLogits].type),
                                      inputs[kLogits], outputs[kWeights], outputs[kActive], stream);
}

}  // namespace hyperline
