// The operator ExpertGate for TensorRT; its meaning is plugins/reference.py.

#ifndef HYPERLINE_PLUGINS_TENSORRT_EXPERT_GATE_H
#define HYPERLINE_PLUGINS_TENSORRT_EXPERT_GATE_H

#include "plugin.h"

namespace hyperline {

struct ExpertGate {
    static constexpr const char* kName = "ExpertGate";
    static constexpr const char* kAttribute = "k";
    enum Input { kLogits, kInputs };
    enum Output { kWeights, kActive, kOutputs };

    static void CheckAttribute(int64_t k);
    static nvinfer1::DataType Expected(int32_t, nvinfer1::DataType type) { return type; }
    static void CheckDims(const nvinfer1::Dims* inputs);
    static void OutputDims(const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs, nvinfer1::IExprBuilder&);
    static int Enqueue(int32_t k, const nvinfer1::PluginTensorDesc* descriptions, const void* const* inputs,
                       void* const* outputs, cudaStream_t stream);
};

}  // namespace hyperline

#endif
