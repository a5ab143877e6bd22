// What both operators have in common as TensorRT plugins: one integer attribute, fields, capabilities, checks.
//
// IPluginV3 and IPluginCreatorV3One alone, which are the same from TensorRT 10.3 to 11; nothing here links against
// TensorRT.

#ifndef HYPERLINE_PLUGINS_TENSORRT_PLUGIN_H
#define HYPERLINE_PLUGINS_TENSORRT_PLUGIN_H

#include <NvInferRuntime.h>

#include <array>
#include <string>

#include "hyperline/cuda_ops.h"
#include "report.h"

namespace hyperline {

constexpr const char* kNamespace = "hyperline";
constexpr const char* kPluginVersion = "1";
// Layout of the serialised fields. An engine written with another one is refused, not guessed at.
constexpr int32_t kFieldsVersion = 1;
constexpr const char* kFieldsVersionName = "fields_version";

// Throws a Refusal unless the field holds one integer, of 32 or 64 bits.
int64_t ReadInteger(const nvinfer1::PluginField& field);

std::string ToText(const nvinfer1::Dims& dims);

// HYPERLINE_CUDA_FLOAT32 or HYPERLINE_CUDA_FLOAT16; throws a Refusal for any other.
int32_t ToCudaType(nvinfer1::DataType type);

// Refuses a status of the CUDA interface that is not OK.
void CheckStatus(int status);

// An operator gives its constants and functions:
//   kName, kAttribute                    op type and attribute of the ONNX node
//   kInputs, kOutputs
//   CheckAttribute(int64_t)
//   OutputType(output, input_types)
//   OutputDims(inputs, outputs, builder) checks ranks, sets symbolic output dimensions
//   Expected(position, type_of_input_0)  the type that this input or output must have
//   CheckDims(const Dims* inputs)        checks known sizes
//   Enqueue(attribute, input_descriptions, inputs, outputs, stream)
template <typename Operator>
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
  public:
    explicit Plugin(int32_t attribute) : attribute_(attribute) {}

    // ---- IPluginV3

    nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
        switch (type) {
            case nvinfer1::PluginCapabilityType::kCORE:
                return static_cast<nvinfer1::IPluginV3OneCore*>(this);
            case nvinfer1::PluginCapabilityType::kBUILD:
                return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
            case nvinfer1::PluginCapabilityType::kRUNTIME:
                return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }

    nvinfer1::IPluginV3* clone() noexcept override {
        return Guarded<nvinfer1::IPluginV3*>(Operator::kName, nullptr, [&] { return new Plugin(attribute_); });
    }

    // ---- IPluginV3OneCore

    const char* getPluginName() const noexcept override { return Operator::kName; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return kNamespace; }

    // ---- IPluginV3OneBuild

    int32_t getNbOutputs() const noexcept override { return Operator::kOutputs; }

    int32_t getOutputDataTypes(nvinfer1::DataType* output_types, int32_t outputs, const nvinfer1::DataType* input_types,
                               int32_t inputs) const noexcept override {
        return Guarded(Operator::kName, -1, [&] {
            CheckCounts(inputs, outputs);
            ToCudaType(input_types[0]);
            for (int32_t i = 0; i < outputs; ++i) output_types[i] = Operator::Expected(inputs + i, input_types[0]);
            return 0;
        });
    }

    int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count, const nvinfer1::DimsExprs*, int32_t,
                            nvinfer1::DimsExprs* outputs, int32_t output_count,
                            nvinfer1::IExprBuilder& builder) noexcept override {
        return Guarded(Operator::kName, -1, [&] {
            CheckCounts(input_count, output_count);
            // A size that is not known yet is -1 to the check.
            std::array<nvinfer1::Dims, Operator::kInputs> known{};
            for (int32_t i = 0; i < input_count; ++i) {
                known[i].nbDims = inputs[i].nbDims;
                for (int32_t axis = 0; axis < inputs[i].nbDims; ++axis) {
                    const nvinfer1::IDimensionExpr* size = inputs[i].d[axis];
                    known[i].d[axis] = size->isConstant() ? size->getConstantValue() : -1;
                }
            }
            Operator::CheckDims(known.data());
            Operator::OutputDims(inputs, outputs, builder);
            return 0;
        });
    }

    bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors, int32_t inputs,
                                   int32_t outputs) noexcept override {
        if (inputs != Operator::kInputs || outputs != Operator::kOutputs || position >= inputs + outputs) return false;
        const nvinfer1::DataType type = tensors[0].desc.type;
        return tensors[position].desc.format == nvinfer1::TensorFormat::kLINEAR &&
               (type == nvinfer1::DataType::kFLOAT || type == nvinfer1::DataType::kHALF) &&
               tensors[position].desc.type == Operator::Expected(position, type);
    }

    int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                            const nvinfer1::DynamicPluginTensorDesc*, int32_t output_count) noexcept override {
        return Guarded(Operator::kName, -1, [&] {
            CheckCounts(input_count, output_count);
            for (auto extreme : {&nvinfer1::DynamicPluginTensorDesc::min, &nvinfer1::DynamicPluginTensorDesc::opt,
                                 &nvinfer1::DynamicPluginTensorDesc::max}) {
                std::array<nvinfer1::Dims, Operator::kInputs> dims{};
                for (int32_t i = 0; i < input_count; ++i) dims[i] = inputs[i].*extreme;
                Operator::CheckDims(dims.data());
            }
            return 0;
        });
    }

    // ---- IPluginV3OneRuntime

    int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                          const nvinfer1::PluginTensorDesc*, int32_t output_count) noexcept override {
        return Guarded(Operator::kName, -1, [&] {
            CheckCounts(input_count, output_count);
            std::array<nvinfer1::Dims, Operator::kInputs> dims{};
            for (int32_t i = 0; i < input_count; ++i) dims[i] = inputs[i].dims;
            Operator::CheckDims(dims.data());
            return 0;
        });
    }

    int32_t enqueue(const nvinfer1::PluginTensorDesc* input_descriptions, const nvinfer1::PluginTensorDesc*,
                    const void* const* inputs, void* const* outputs, void*, cudaStream_t stream) noexcept override {
        return Guarded(Operator::kName, -1, [&] {
            CheckStatus(Operator::Enqueue(attribute_, input_descriptions, inputs, outputs, stream));
            return 0;
        });
    }

    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override { return clone(); }

    const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override { return &collection_; }

  private:
    static void CheckCounts(int32_t inputs, int32_t outputs) {
        if (inputs == Operator::kInputs && outputs == Operator::kOutputs) return;
        throw Refusal("takes " + std::to_string(Operator::kInputs) + " inputs and gives " +
                      std::to_string(Operator::kOutputs) + " outputs, not " + std::to_string(inputs) + " and " +
                      std::to_string(outputs));
    }

    const int32_t attribute_;
    const std::array<nvinfer1::PluginField, 2> fields_{{
        {Operator::kAttribute, &attribute_, nvinfer1::PluginFieldType::kINT32, 1},
        {kFieldsVersionName, &kFieldsVersion, nvinfer1::PluginFieldType::kINT32, 1},
    }};
    const nvinfer1::PluginFieldCollection collection_{static_cast<int32_t>(fields_.size()), fields_.data()};
};

template <typename Operator>
class Creator final : public nvinfer1::IPluginCreatorV3One {
  public:
    const char* getPluginName() const noexcept override { return Operator::kName; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return kNamespace; }

    // What the ONNX parser looks for in the node.
    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &collection_; }

    nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                      nvinfer1::TensorRTPhase phase) noexcept override {
        return Guarded<nvinfer1::IPluginV3*>(Operator::kName, nullptr, [&]() -> nvinfer1::IPluginV3* {
            try {
                return new Plugin<Operator>(ReadFields(*fields, phase));
            } catch (const Refusal& refusal) {
                throw Refusal("layer " + std::string(name ? name : "") + ": " + refusal.what());
            }
        });
    }

  private:
    static int32_t ReadFields(const nvinfer1::PluginFieldCollection& fields, nvinfer1::TensorRTPhase phase) {
        const auto find = [&](const std::string& wanted) -> const nvinfer1::PluginField* {
            for (int32_t i = 0; i < fields.nbFields; ++i) {
                if (wanted == fields.fields[i].name) return &fields.fields[i];
            }
            return nullptr;
        };
        if (phase == nvinfer1::TensorRTPhase::kRUNTIME) {
            const nvinfer1::PluginField* version = find(kFieldsVersionName);
            if (!version || ReadInteger(*version) != kFieldsVersion)
                throw Refusal(
                    "this engine was built with another version of the plugin; build it again from the bundle");
        }
        const nvinfer1::PluginField* attribute = find(Operator::kAttribute);
        if (!attribute) throw Refusal("the node has no attribute " + std::string(Operator::kAttribute));
        const int64_t value = ReadInteger(*attribute);
        Operator::CheckAttribute(value);
        return static_cast<int32_t>(value);
    }

    const nvinfer1::PluginField field_{Operator::kAttribute, nullptr, nvinfer1::PluginFieldType::kINT32, 1};
    const nvinfer1::PluginFieldCollection collection_{1, &field_};
};

}  // namespace hyperline

#endif
