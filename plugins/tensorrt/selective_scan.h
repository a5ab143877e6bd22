// The operator SelectiveScan for TensorRT; its meaning is plugins/reference.py.

#ifndef HYPERLINE_PLUGINS_TENSORRT_SELECTIVE_SCAN_H
#define HYPERLINE_PLUGINS_TENSORRT_SELECTIVE_SCAN_H

#include "plugin.h"

namespace hyperline {

struct SelectiveScan {
    static constexpr const char* kName = "SelectiveScan";
    static constexpr const char* kAttribute = "reverse";
    enum Input { kU, kDelta, kA, kB, kC, kD, kDeltaBias, kH0, kMask, kInputs };
    enum Output { kY, kH, kOutputs };

    static void CheckAttribute(int64_t reverse);
    static nvinfer1::DataType Expected(int32_t position, nvinfer1::DataType type);
    static void CheckDims(const nvinfer1::Dims* inputs);
    static void OutputDims(const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs, nvinfer1::IExprBuilder&);
    static int Enqueue(int32_t reverse, const nvinfer1::PluginTensorDesc* descriptions, const void* const* inputs,
                       void* const* outputs, cudaStream_t stream);
};

}  // namespace hyperline

#endif
