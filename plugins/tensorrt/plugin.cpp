#include "plugin.h"

namespace hyperline {

int64_t ReadInteger(const nvinfer1::PluginField& field) {
    if (field.data && field.length == 1) {
        if (field.type == nvinfer1::PluginFieldType::kINT32) return *static_cast<const int32_t*>(field.data);
        if (field.type == nvinfer1::PluginFieldType::kINT64) return *static_cast<const int64_t*>(field.data);
    }
    throw Refusal("attribute " + std::string(field.name) + " must be one integer");
}

std::string ToText(const nvinfer1::Dims& dims) {
    std::string text = "(";
    for (int32_t i = 0; i < dims.nbDims; ++i) {
        text += (i ? ", " : "") + (dims.d[i] < 0 ? "?" : std::to_string(dims.d[i]));
    }
    return text + ")";
}

int32_t ToCudaType(nvinfer1::DataType type) {
    if (type == nvinfer1::DataType::kFLOAT) return HYPERLINE_CUDA_FLOAT32;
    if (type == nvinfer1::DataType::kHALF) return HYPERLINE_CUDA_FLOAT16;
    throw Refusal("computes on FP32 and FP16 alone; dequantise before it, and cast what is not a number");
}

void CheckStatus(int status) {
    if (status != HYPERLINE_CUDA_OK) throw Refusal(hyperline_cuda_status_text(status));
}

}  // namespace hyperline
