// Drives libhyperline_trt.so through TensorRT's real plugin registry (that of the lean runtime), without a GPU; and, in
// the mode "enqueue", on one.
//
//   harness LIBRARY NAME               runs one test; prints what failed
//   harness LIBRARY enqueue FILE FILE  runs a plugin on the arrays of a file and writes its outputs; see Enqueue
//
// Expressions of unknown sizes are TensorRT's own interface over our own symbols: an engine's are not to be had
// without a builder.

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

using namespace nvinfer1;

namespace {

int failures = 0;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            std::printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            ++failures;                                                         \
        }                                                                       \
    } while (false)

// ---------------------------------------------------------------------------------------------- messages to a person

class Logger : public ILogger, public ILoggerFinder {
  public:
    void log(Severity severity, const char* message) noexcept override {
        if (severity <= Severity::kERROR) last = message;
    }
    ILogger* findLogger() override { return this; }
    bool Said(const std::string& words) const { return last.find(words) != std::string::npos; }

    std::string last;
};

// --------------------------------------------------------------------------------------------------- unknown sizes

// A size that is a constant, or unknown and known by its address alone.
class Size : public IDimensionExpr, public apiv::VDimensionExpr {
  public:
    explicit Size(int64_t value = -1) : value_(value) { mImpl = this; }
    bool isConstant() const override { return value_ >= 0; }
    int64_t getConstantValue() const override { return value_; }
    bool isSizeTensor() const override { return false; }

  private:
    int64_t value_;
};

class Builder : public IExprBuilder, public apiv::VExprBuilder {
  public:
    Builder() { mImpl = this; }
    const IDimensionExpr* constant(int64_t value) override {
        sizes_.push_back(std::make_unique<Size>(value));
        return sizes_.back().get();
    }
    const IDimensionExpr* operation(DimensionOperation, const IDimensionExpr&, const IDimensionExpr&) override {
        return nullptr;
    }
    const IDimensionExpr* declareSizeTensor(int32_t, const IDimensionExpr&, const IDimensionExpr&) override {
        return nullptr;
    }

  private:
    std::vector<std::unique_ptr<Size>> sizes_;
};

using Shape = std::vector<const IDimensionExpr*>;

DimsExprs ToDims(const Shape& shape) {
    DimsExprs dims{};
    dims.nbDims = static_cast<int32_t>(shape.size());
    for (size_t i = 0; i < shape.size(); ++i) dims.d[i] = shape[i];
    return dims;
}

Dims ToDims(const std::vector<int64_t>& shape) {
    Dims dims{};
    dims.nbDims = static_cast<int32_t>(shape.size());
    for (size_t i = 0; i < shape.size(); ++i) dims.d[i] = shape[i];
    return dims;
}

// --------------------------------------------------------------------------------------------------------- plugins

struct Session {
    Logger logger;
    IPluginRegistry* registry = nullptr;

    IPluginCreatorV3One* Creator(const char* name) {
        return static_cast<IPluginCreatorV3One*>(registry->getCreator(name, "1", "hyperline"));
    }

    std::unique_ptr<IPluginV3> Create(const char* name, std::vector<PluginField> fields,
                                      TensorRTPhase phase = TensorRTPhase::kBUILD) {
        const PluginFieldCollection collection{static_cast<int32_t>(fields.size()), fields.data()};
        logger.last.clear();
        return std::unique_ptr<IPluginV3>(Creator(name)->createPlugin("a layer", &collection, phase));
    }

    std::unique_ptr<IPluginV3> Scan(int32_t reverse = 0) {
        return Create("SelectiveScan", {{"reverse", &reverse, PluginFieldType::kINT32, 1}});
    }
    std::unique_ptr<IPluginV3> Gate(int32_t k = 2) {
        return Create("ExpertGate", {{"k", &k, PluginFieldType::kINT32, 1}});
    }
};

IPluginV3OneBuild* BuildOf(const std::unique_ptr<IPluginV3>& plugin) {
    return static_cast<IPluginV3OneBuild*>(plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
}
IPluginV3OneRuntime* RuntimeOf(const std::unique_ptr<IPluginV3>& plugin) {
    return static_cast<IPluginV3OneRuntime*>(plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}

// Shapes of a scan in the order of its inputs, with S sequences known or not.
struct ScanShapes {
    Size one{1}, S, L{8}, D{16}, N{16};
    std::vector<Shape> shapes{{&S, &L, &D}, {&S, &L, &D}, {&D, &N},     {&S, &L, &N}, {&S, &L, &N},
                              {&D},         {&D},         {&S, &D, &N}, {&S, &L}};

    explicit ScanShapes(int64_t sequences = -1) : S(sequences) {}

    int32_t Outputs(IPluginV3OneBuild* build, DimsExprs* outputs) {
        std::vector<DimsExprs> inputs;
        for (const Shape& shape : shapes) inputs.push_back(ToDims(shape));
        Builder builder;
        return build->getOutputShapes(inputs.data(), static_cast<int32_t>(inputs.size()), nullptr, 0, outputs, 2,
                                      builder);
    }
};

std::vector<std::vector<int64_t>> ScanSizes(int64_t S, int64_t L, int64_t D, int64_t N) {
    return {{S, L, D}, {S, L, D}, {D, N}, {S, L, N}, {S, L, N}, {D}, {D}, {S, D, N}, {S, L}};
}

std::vector<PluginTensorDesc> Describe(const std::vector<std::vector<int64_t>>& shapes, DataType type) {
    std::vector<PluginTensorDesc> tensors;
    for (const auto& shape : shapes) tensors.push_back({ToDims(shape), type, TensorFormat::kLINEAR, 1.0f});
    return tensors;
}

// ------------------------------------------------------------------------------------------------------------ tests

void CreatorsNameTheirAttributes(Session& session) {
    for (const auto& [name, attribute] : {std::pair{"SelectiveScan", "reverse"}, std::pair{"ExpertGate", "k"}}) {
        IPluginCreatorV3One* creator = session.Creator(name);
        CHECK(creator != nullptr);
        CHECK(std::string(creator->getPluginName()) == name);
        CHECK(std::string(creator->getPluginVersion()) == "1");
        CHECK(std::string(creator->getPluginNamespace()) == "hyperline");
        const PluginFieldCollection* fields = creator->getFieldNames();
        CHECK(fields->nbFields == 1);
        CHECK(std::string(fields->fields[0].name) == attribute);
        CHECK(fields->fields[0].type == PluginFieldType::kINT32);
    }
}

void UnknownSizesPassThrough(Session& session) {
    const auto scan = session.Scan();
    ScanShapes shapes;
    DimsExprs outputs[2]{};
    CHECK(shapes.Outputs(BuildOf(scan), outputs) == 0);
    CHECK(outputs[0].nbDims == 3 && outputs[0].d[0] == &shapes.S && outputs[0].d[1] == &shapes.L &&
          outputs[0].d[2] == &shapes.D);
    CHECK(outputs[1].nbDims == 3 && outputs[1].d[0] == &shapes.S && outputs[1].d[1] == &shapes.D &&
          outputs[1].d[2] == &shapes.N);

    const auto gate = session.Gate();
    Size rows, experts(4);
    const DimsExprs logits = ToDims(Shape{&rows, &experts});
    Builder builder;
    CHECK(BuildOf(gate)->getOutputShapes(&logits, 1, nullptr, 0, outputs, 2, builder) == 0);
    for (const DimsExprs& output : outputs) {
        CHECK(output.nbDims == 2 && output.d[0] == &rows && output.d[1] == &experts);
    }
}

void HistoryAndMaskMayBroadcast(Session& session) {
    const auto scan = session.Scan();
    ScanShapes shapes(12);
    shapes.shapes[7] = {&shapes.one, &shapes.D, &shapes.N};
    DimsExprs outputs[2]{};
    for (const Shape& mask :
         {Shape{&shapes.one, &shapes.one}, Shape{&shapes.S, &shapes.one}, Shape{&shapes.one, &shapes.L}}) {
        shapes.shapes[8] = mask;
        CHECK(shapes.Outputs(BuildOf(scan), outputs) == 0);
        CHECK(outputs[1].d[0]->getConstantValue() == 12);
    }
}

void WrongShapesAreNamed(Session& session) {
    const auto scan = session.Scan();
    DimsExprs outputs[2]{};
    const auto refused = [&](int input, const std::function<Shape(ScanShapes&)>& shape, const std::string& words) {
        ScanShapes shapes(12);
        shapes.shapes[input] = shape(shapes);
        session.logger.last.clear();
        CHECK(shapes.Outputs(BuildOf(scan), outputs) != 0);
        if (!session.logger.Said(words)) std::printf("message: %s\n", session.logger.last.c_str());
        CHECK(session.logger.Said(words));
        CHECK(session.logger.Said("SelectiveScan"));
    };
    refused(0, [](ScanShapes& s) { return Shape{&s.S, &s.L}; }, "input u has shape (12, 8); it must be (S, L, D)");
    refused(
        1, [](ScanShapes& s) { return Shape{&s.S, &s.L, &s.L}; },
        "input delta has shape (12, 8, 8); it must be (S=12, L=8, D=16)");
    refused(
        3, [](ScanShapes& s) { return Shape{&s.L, &s.L, &s.N}; },
        "input B has shape (8, 8, 16); it must be (S=12, L=8, N=16)");
    refused(5, [](ScanShapes& s) { return Shape{&s.one}; }, "input D has shape (1); it must be (D=16)");
    refused(
        7, [](ScanShapes& s) { return Shape{&s.L, &s.D, &s.N}; },
        "input h0 has shape (8, 16, 16); it must be (S=12 or 1, D=16, N=16)");
    refused(
        8, [](ScanShapes& s) { return Shape{&s.S, &s.D}; },
        "input mask has shape (12, 16); it must be (S=12 or 1, L=8 or 1)");

    ScanShapes many(12);
    Size states(33);
    many.shapes[2] = {&many.D, &states};
    session.logger.last.clear();
    CHECK(many.Outputs(BuildOf(scan), outputs) != 0);
    many.shapes[3] = many.shapes[4] = {&many.S, &many.L, &states};
    many.shapes[7] = {&many.S, &many.D, &states};
    CHECK(many.Outputs(BuildOf(scan), outputs) != 0);
    CHECK(session.logger.Said("33 states a channel; the kernels hold at most 32"));

    const auto gate = session.Gate();
    Size rows;
    const DimsExprs logits = ToDims(Shape{&rows});
    Builder builder;
    CHECK(BuildOf(gate)->getOutputShapes(&logits, 1, nullptr, 0, outputs, 2, builder) != 0);
    CHECK(session.logger.Said("input logits has shape (?); it must be (rows, experts)"));
    CHECK(BuildOf(gate)->getOutputShapes(&logits, 1, nullptr, 0, outputs, 1, builder) != 0);
    CHECK(session.logger.Said("takes 1 inputs and gives 2 outputs, not 1 and 1"));
}

void ShapesOfARunAreCheckedToo(Session& session) {
    const auto scan = session.Scan();
    auto sizes = ScanSizes(12, 8, 16, 16);
    auto inputs = Describe(sizes, DataType::kFLOAT);
    const auto outputs = Describe({{12, 8, 16}, {12, 16, 16}}, DataType::kFLOAT);
    CHECK(RuntimeOf(scan)->onShapeChange(inputs.data(), 9, outputs.data(), 2) == 0);

    std::vector<DynamicPluginTensorDesc> dynamic;
    for (size_t i = 0; i < inputs.size(); ++i) {
        dynamic.push_back({inputs[i], inputs[i].dims, inputs[i].dims, inputs[i].dims});
    }
    const std::vector<DynamicPluginTensorDesc> dynamic_outputs(2);
    CHECK(BuildOf(scan)->configurePlugin(dynamic.data(), 9, dynamic_outputs.data(), 2) == 0);
    dynamic[3].max.d[0] = 13;
    CHECK(BuildOf(scan)->configurePlugin(dynamic.data(), 9, dynamic_outputs.data(), 2) != 0);
    CHECK(session.logger.Said("input B has shape (13, 8, 16)"));

    inputs[7].dims.d[1] = 15;
    CHECK(RuntimeOf(scan)->onShapeChange(inputs.data(), 9, outputs.data(), 2) != 0);
    CHECK(session.logger.Said("input h0 has shape (12, 15, 16)"));
}

void TypesFollowTheFirstInput(Session& session) {
    const auto scan = session.Scan();
    for (DataType type : {DataType::kFLOAT, DataType::kHALF}) {
        const std::vector<DataType> inputs(9, type);
        DataType outputs[2]{};
        CHECK(BuildOf(scan)->getOutputDataTypes(outputs, 2, inputs.data(), 9) == 0);
        CHECK(outputs[0] == type);
        CHECK(outputs[1] == DataType::kFLOAT);
        const auto gate = session.Gate();
        CHECK(BuildOf(gate)->getOutputDataTypes(outputs, 2, inputs.data(), 1) == 0);
        CHECK(outputs[0] == type && outputs[1] == type);
    }
    const std::vector<DataType> integers(9, DataType::kINT8);
    DataType outputs[2]{};
    CHECK(BuildOf(scan)->getOutputDataTypes(outputs, 2, integers.data(), 9) != 0);
    CHECK(session.logger.Said("FP32 and FP16 alone"));
}

// The state is FP32 always; u, delta, B, C and y are of one type; every layout is linear.
void FormatsAreThoseOfTheKernels(Session& session) {
    const auto scan = session.Scan();
    const std::vector<bool> follows{true, true, false, true, true, false, false, false, false, true, false};
    auto shapes = ScanSizes(12, 8, 16, 16);
    shapes.push_back({12, 8, 16});
    shapes.push_back({12, 16, 16});
    for (DataType first : {DataType::kFLOAT, DataType::kHALF, DataType::kINT8, DataType::kBF16, DataType::kINT32}) {
        for (int position = 0; position < 11; ++position) {
            for (DataType type : {DataType::kFLOAT, DataType::kHALF, DataType::kINT8, DataType::kBF16}) {
                for (TensorFormat format : {TensorFormat::kLINEAR, TensorFormat::kCHW2, TensorFormat::kHWC8}) {
                    std::vector<DynamicPluginTensorDesc> tensors(11);
                    tensors[0].desc.type = first;
                    if (position) tensors[0].desc.format = TensorFormat::kLINEAR;
                    tensors[position].desc.type = position ? type : first;
                    tensors[position].desc.format = format;
                    const bool floating = first == DataType::kFLOAT || first == DataType::kHALF;
                    const DataType wanted = follows[position] ? first : DataType::kFLOAT;
                    const bool expected =
                        floating && format == TensorFormat::kLINEAR && tensors[position].desc.type == wanted;
                    CHECK(BuildOf(scan)->supportsFormatCombination(position, tensors.data(), 9, 2) == expected);
                }
            }
        }
    }
    std::vector<DynamicPluginTensorDesc> tensors(11);
    tensors[0].desc = {{}, DataType::kFLOAT, TensorFormat::kLINEAR, 1.0f};
    CHECK(!BuildOf(scan)->supportsFormatCombination(0, tensors.data(), 8, 2));
    CHECK(BuildOf(scan)->getNbOutputs() == 2);
    CHECK(BuildOf(scan)->getWorkspaceSize(tensors.data(), 9, tensors.data() + 9, 2) == 0);
}

void WhatIsSerialisedMakesThePluginAgain(Session& session) {
    struct Case {
        const char *name, *attribute;
        int32_t value;
    };
    for (const Case& row :
         {Case{"SelectiveScan", "reverse", 1}, Case{"SelectiveScan", "reverse", 0}, Case{"ExpertGate", "k", 3}}) {
        auto plugin = session.Create(row.name, {{row.attribute, &row.value, PluginFieldType::kINT32, 1}});
        for (int generation = 0; generation < 3; ++generation) {
            CHECK(plugin != nullptr);
            const PluginFieldCollection* written = RuntimeOf(plugin)->getFieldsToSerialize();
            CHECK(written->nbFields == 2);
            // The engine file keeps copies.
            std::vector<int32_t> values;
            std::vector<PluginField> fields;
            values.reserve(2);
            for (int i = 0; i < written->nbFields; ++i) {
                const PluginField& field = written->fields[i];
                CHECK(field.type == PluginFieldType::kINT32 && field.length == 1);
                values.push_back(*static_cast<const int32_t*>(field.data));
                fields.push_back({field.name, &values.back(), field.type, field.length});
            }
            CHECK(std::string(fields[0].name) == row.attribute && values[0] == row.value);
            CHECK(std::string(fields[1].name) == "fields_version" && values[1] == 1);
            auto next = session.Create(row.name, fields, TensorRTPhase::kRUNTIME);
            CHECK(next != nullptr);
            plugin.reset();  // a clone or a plugin read back owns all that it uses
            std::unique_ptr<IPluginV3> copy(generation % 2 ? next->clone() : RuntimeOf(next)->attachToContext(nullptr));
            CHECK(copy != nullptr && copy.get() != next.get());
            plugin = std::move(copy);
        }
    }
}

void WrongFieldsAreNamed(Session& session) {
    const int32_t zero = 0, two = 2;
    const int64_t long_one = 1;
    const float fraction = 1.0f;
    const PluginField reverse{"reverse", &zero, PluginFieldType::kINT32, 1};
    const auto refused = [&](const char* name, std::vector<PluginField> fields, TensorRTPhase phase,
                             const std::string& words) {
        CHECK(session.Create(name, std::move(fields), phase) == nullptr);
        if (!session.logger.Said(words)) std::printf("message: %s\n", session.logger.last.c_str());
        CHECK(session.logger.Said(words) && session.logger.Said("a layer") && session.logger.Said(name));
    };
    refused("SelectiveScan", {}, TensorRTPhase::kBUILD, "the node has no attribute reverse");
    refused("SelectiveScan", {{"reverse", &two, PluginFieldType::kINT32, 1}}, TensorRTPhase::kBUILD,
            "reverse must be 0 or 1, not 2");
    refused("SelectiveScan", {{"reverse", &fraction, PluginFieldType::kFLOAT32, 1}}, TensorRTPhase::kBUILD,
            "reverse must be one integer");
    refused("SelectiveScan", {{"reverse", nullptr, PluginFieldType::kINT32, 1}}, TensorRTPhase::kBUILD,
            "reverse must be one integer");
    refused("SelectiveScan", {reverse}, TensorRTPhase::kRUNTIME, "built with another version of the plugin");
    refused("SelectiveScan", {reverse, {"fields_version", &two, PluginFieldType::kINT32, 1}}, TensorRTPhase::kRUNTIME,
            "built with another version of the plugin");
    refused("ExpertGate", {{"k", &zero, PluginFieldType::kINT32, 1}}, TensorRTPhase::kBUILD,
            "k must be at least 1, not 0");
    // Parsers differ in the width of an ONNX integer.
    CHECK(session.Create("SelectiveScan", {{"reverse", &long_one, PluginFieldType::kINT64, 1}}) != nullptr);
}

// Without a device the launch fails: as a status and a message, not as a crash.
void ALaunchThatFailsIsReported(Session& session) {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) return;
    const auto scan = session.Scan();
    const auto inputs = Describe(ScanSizes(2, 3, 4, 4), DataType::kFLOAT);
    const auto outputs = Describe({{2, 3, 4}, {2, 4, 4}}, DataType::kFLOAT);
    alignas(16) float numbers[64]{};
    const std::vector<const void*> data(9, numbers);
    float results[64];
    void* const result_pointers[] = {results, results};
    CHECK(RuntimeOf(scan)->enqueue(inputs.data(), outputs.data(), data.data(), result_pointers, nullptr, nullptr) != 0);
    CHECK(session.logger.Said("CUDA"));
}

// ------------------------------------------------------------------------------------------------------- on a GPU

#define CUDA(call)                                                                                \
    do {                                                                                          \
        const cudaError_t error = (call);                                                         \
        if (error != cudaSuccess) {                                                               \
            std::printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(error)); \
            std::exit(1);                                                                         \
        }                                                                                         \
    } while (false)

struct Tensor {
    PluginTensorDesc description;
    size_t bytes;
    void* device;
};

Tensor Allocate(std::vector<int64_t> shape, DataType type) {
    size_t bytes = type == DataType::kHALF ? 2 : 4;
    for (int64_t size : shape) bytes *= static_cast<size_t>(size);
    Tensor tensor{{ToDims(shape), type, TensorFormat::kLINEAR, 1.0f}, bytes, nullptr};
    CUDA(cudaMalloc(&tensor.device, bytes));
    return tensor;
}

// The file holds int64: gate?, half?, attribute, then S, L, D, N, h0 rows, mask rows, mask steps of a scan or rows and
// experts of a gate; then the arrays in the operator's order. The call is captured in a CUDA graph and launched twice.
void Enqueue(Session& session, const char* from, const char* to) {
    std::ifstream input(from, std::ios::binary);
    int64_t header[10];
    input.read(reinterpret_cast<char*>(header), sizeof header);
    const bool is_gate = header[0] != 0;
    const DataType type = header[1] ? DataType::kHALF : DataType::kFLOAT;
    const auto plugin =
        is_gate ? session.Gate(static_cast<int32_t>(header[2])) : session.Scan(static_cast<int32_t>(header[2]));
    std::vector<std::vector<int64_t>> shapes{{header[3], header[4]}}, output_shapes{shapes[0], shapes[0]};
    if (!is_gate) {
        const int64_t S = header[3], L = header[4], D = header[5], N = header[6];
        shapes = ScanSizes(S, L, D, N);
        shapes[7][0] = header[7];
        shapes[8] = {header[8], header[9]};
        output_shapes = {{S, L, D}, {S, D, N}};
    }
    std::vector<Tensor> inputs, outputs;
    std::vector<DataType> types;
    const std::vector<bool> half_too{true, true, false, true, true, false, false, false, false};
    for (size_t i = 0; i < shapes.size(); ++i) {
        types.push_back(is_gate || half_too[i] ? type : DataType::kFLOAT);
        inputs.push_back(Allocate(shapes[i], types[i]));
        std::vector<char> bytes(inputs[i].bytes);
        input.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        if (!input) std::exit(3);
        CUDA(cudaMemcpy(inputs[i].device, bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
    }
    DataType output_types[2];
    CHECK(BuildOf(plugin)->getOutputDataTypes(output_types, 2, types.data(), static_cast<int32_t>(types.size())) == 0);
    for (int i = 0; i < 2; ++i) outputs.push_back(Allocate(output_shapes[i], output_types[i]));

    std::vector<PluginTensorDesc> input_descriptions, output_descriptions;
    std::vector<const void*> input_pointers;
    std::vector<void*> output_pointers;
    for (const Tensor& tensor : inputs) {
        input_descriptions.push_back(tensor.description);
        input_pointers.push_back(tensor.device);
    }
    for (const Tensor& tensor : outputs) {
        output_descriptions.push_back(tensor.description);
        output_pointers.push_back(tensor.device);
        CUDA(cudaMemset(tensor.device, 0xff, tensor.bytes));
    }
    CHECK(RuntimeOf(plugin)->onShapeChange(input_descriptions.data(), static_cast<int32_t>(inputs.size()),
                                           output_descriptions.data(), 2) == 0);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    const auto enqueue = [&] {
        CHECK(RuntimeOf(plugin)->enqueue(input_descriptions.data(), output_descriptions.data(), input_pointers.data(),
                                         output_pointers.data(), nullptr, stream) == 0);
    };
    CUDA(cudaStreamCreate(&stream));
    enqueue();  // loads the kernel, which a capture could refuse to do
    CUDA(cudaStreamSynchronize(stream));
    for (const Tensor& tensor : outputs) CUDA(cudaMemset(tensor.device, 0xff, tensor.bytes));
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    enqueue();
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&executable, graph, 0));
    for (int launch = 0; launch < 2; ++launch) CUDA(cudaGraphLaunch(executable, stream));
    CUDA(cudaStreamSynchronize(stream));
    std::ofstream output(to, std::ios::binary);
    for (const Tensor& tensor : outputs) {
        std::vector<char> bytes(tensor.bytes);
        CUDA(cudaMemcpy(bytes.data(), tensor.device, bytes.size(), cudaMemcpyDeviceToHost));
        output.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    CHECK(output.flush().good());
}

}  // namespace

int main(int count, char** arguments) {
    const std::map<std::string, void (*)(Session&)> tests{
        {"creators_name_their_attributes", CreatorsNameTheirAttributes},
        {"unknown_sizes_pass_through", UnknownSizesPassThrough},
        {"history_and_mask_may_broadcast", HistoryAndMaskMayBroadcast},
        {"wrong_shapes_are_named", WrongShapesAreNamed},
        {"shapes_of_a_run_are_checked_too", ShapesOfARunAreCheckedToo},
        {"types_follow_the_first_input", TypesFollowTheFirstInput},
        {"formats_are_those_of_the_kernels", FormatsAreThoseOfTheKernels},
        {"what_is_serialised_makes_the_plugin_again", WhatIsSerialisedMakesThePluginAgain},
        {"wrong_fields_are_named", WrongFieldsAreNamed},
        {"a_launch_that_fails_is_reported", ALaunchThatFailsIsReported},
    };
    if (count < 3) return 2;
    Session session;
    session.registry = getPluginRegistry();
    const auto handle = session.registry->loadLibrary(arguments[1]);
    CHECK(handle != nullptr);
    if (!handle) return 1;
    // The registry has named its own logger; from here on the messages are ours to read.
    void* library = dlopen(arguments[1], RTLD_NOW | RTLD_NOLOAD);
    CHECK(library != nullptr);
    if (!library) return 1;
    reinterpret_cast<void (*)(ILoggerFinder*)>(dlsym(library, "setLoggerFinder"))(&session.logger);

    if (std::string(arguments[2]) == "enqueue" && count == 5) {
        Enqueue(session, arguments[3], arguments[4]);
    } else {
        const auto test = tests.find(arguments[2]);
        if (test == tests.end()) return 2;
        test->second(session);
    }
    dlclose(library);
    session.registry->deregisterLibrary(handle);
    return failures ? 1 : 0;
}
