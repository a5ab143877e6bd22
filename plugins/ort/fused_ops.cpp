// The functions of plugins/fused_functions.py over the C interface of plugins/cpu.

#include "fused_ops.h"

#include <functional>
#include <initializer_list>
#include <numeric>
#include <string>

#include "hyperline/fused.h"
#include "parts.h"
#include "scan_parts.h"

namespace hyperline {
namespace {

constexpr int kFusedVersion = 1;  // as in plugins/__init__.py

// Numbers that one thread takes at once: some 5 µs.
constexpr int64_t kNumbersPerPart = 1 << 14;

int64_t SizeOf(const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

struct AllRequired {
    static OrtCustomOpInputOutputCharacteristic OutputCharacteristic(size_t) { return INPUT_OUTPUT_REQUIRED; }
};

struct AllFloats : AllRequired {
    static ONNXTensorElementDataType InputType(size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; }
    static ONNXTensorElementDataType OutputType(size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; }
};

// ------------------------------------------------------------------------------------------------------ Norms ---

// What the inputs of a norm are besides x, scale and bias, and what comes after.
struct AsIs {
    static constexpr const char* kName = "Norm";
    static constexpr int32_t kAfter = HYPERLINE_NORM_AS_IS;
    static constexpr size_t kInputs = 3;
};
struct Relu {
    static constexpr const char* kName = "NormRelu";
    static constexpr int32_t kAfter = HYPERLINE_NORM_RELU;
    static constexpr size_t kInputs = 4, kKeep = 3;
};
struct Silu {
    static constexpr const char* kName = "NormSilu";
    static constexpr int32_t kAfter = HYPERLINE_NORM_SILU;
    static constexpr size_t kInputs = 3;
};
struct SumGated {
    static constexpr const char* kName = "SumNormGated";
    static constexpr int32_t kAfter = HYPERLINE_NORM_GATED;
    static constexpr size_t kInputs = 5, kAddend = 3, kGate = 4;
};

template <typename Form>
class NormKernel : public AllFloats {
  public:
    static constexpr const char* kName = Form::kName;
    static constexpr size_t kInputs = Form::kInputs, kOutputs = 1;

    explicit NormKernel(const Ort::ConstKernelInfo& info) : epsilon_(info.GetAttribute<float>("epsilon")) {}

    void Compute(const Ort::KernelContext& context) const {
        const Tensor x = Input(context, 0), scale = Input(context, 1), bias = Input(context, 2);
        if (x.shape.empty() || x.shape.back() < 1) RefuseShape(kName, "x", x, "(..., C)");
        const int64_t width = x.shape.back(), size = SizeOf(x.shape);
        for (const auto& [name, tensor] : {std::pair{"scale", &scale}, std::pair{"bias", &bias}})
            if (tensor->shape != Shape{width}) RefuseShape(kName, name, *tensor, ToText({width}));

        hyperline_norm_rows rows{};
        rows.rows = size / width;
        rows.width = width;
        rows.x = Floats(x);
        rows.scale = Floats(scale);
        rows.bias = Floats(bias);
        rows.epsilon = epsilon_;
        rows.after = Form::kAfter;
        Shape shape = x.shape;
        if constexpr (Form::kAfter == HYPERLINE_NORM_RELU) {
            const Tensor keep = Input(context, Form::kKeep);
            Shape wanted = x.shape;
            wanted.back() = 1;
            if (keep.shape != wanted) RefuseShape(kName, "keep", keep, ToText(wanted));
            rows.keep = Floats(keep);
        }
        if constexpr (kGated) {
            const Tensor addend = Input(context, Form::kAddend), gate = Input(context, Form::kGate);
            if (addend.shape != x.shape) RefuseShape(kName, "addend", addend, ToText(x.shape));
            if (SizeOf(gate.shape) != size) RefuseShape(kName, "gate", gate, std::to_string(size) + " numbers");
            rows.addend = Floats(addend);
            rows.gate = Floats(gate);
            shape = gate.shape;
        }
        float* const y = Output<float>(context, 0, shape);
        InParts(context, rows.rows, kNumbersPerPart / width, [&](int64_t first, int64_t last) {
            hyperline_norm_rows part = rows;
            part.rows = last - first;
            part.x += first * width;
            part.y = y + first * width;
            if (part.addend) part.addend += first * width;
            if (part.gate) part.gate += first * width;
            if (part.keep) part.keep += first;
            return hyperline_norm(&part);
        });
    }

    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
        return context.SetOutputShape(0, context.GetInputShape(kGated ? kInputs - 1 : 0));
    }

  private:
    static constexpr bool kGated = Form::kAfter == HYPERLINE_NORM_GATED;

    float epsilon_;
};

// ---------------------------------------------------------------------------------------------- CentredLinear ---

class CentredLinearKernel : public AllFloats {
  public:
    static constexpr const char* kName = "CentredLinear";
    static constexpr size_t kInputs = 4, kOutputs = 1;

    explicit CentredLinearKernel(const Ort::ConstKernelInfo&) {}

    void Compute(const Ort::KernelContext& context) const {
        const Tensor x = Input(context, 0), mean = Input(context, 1), weight = Input(context, 2);
        const Tensor bias = Input(context, 3);
        if (weight.shape.size() != 2) RefuseShape(kName, "weight", weight, "(I, O)");
        const int64_t I = weight.shape[0], O = weight.shape[1];
        if (x.shape.empty() || x.shape.back() != I || I < 1)
            RefuseShape(kName, "x", x, "(..., I) beside weight " + ToText(weight.shape));
        if (mean.shape != Shape{I}) RefuseShape(kName, "mean", mean, ToText({I}));
        if (bias.shape != Shape{O}) RefuseShape(kName, "bias", bias, ToText({O}));
        Shape shape = x.shape;
        shape.back() = O;
        float* const y = Output<float>(context, 0, shape);
        constexpr int64_t kProductsPerPart = 1 << 21, kWholeBlocks = 24;
        const int64_t each = std::max<int64_t>(1, kProductsPerPart / (I * O) / kWholeBlocks) * kWholeBlocks;
        InParts(context, SizeOf(x.shape) / I, each, [&](int64_t first, int64_t last) {
            const hyperline_centred_rows rows = {
                last - first, I, O, Floats(x) + first * I, Floats(mean), Floats(weight), Floats(bias), y + first * O};
            return hyperline_centred_linear(&rows);
        });
    }

    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
        auto shape = context.GetInputShape(0);
        const auto& weight = context.GetInputShape(2);
        if (shape.empty() || weight.size() != 2) return Ort::Status(nullptr);
        shape.back() = weight[1];
        return context.SetOutputShape(0, shape);
    }
};

// --------------------------------------------------------------------------------------------- ProjectedScan ---

class ProjectedScanKernel : public AllFloats {
  public:
    static constexpr const char* kName = "ProjectedScan";
    static constexpr size_t kInputs = 7, kOutputs = 2;

    explicit ProjectedScanKernel(const Ort::ConstKernelInfo& info) : reverse_(ReverseOf(info)) {}

    void Compute(const Ort::KernelContext& context) const {
        const Tensor u = Input(context, 0), projected = Input(context, 1), A = Input(context, 2);
        const Tensor D = Input(context, 3), delta_bias = Input(context, 4), h0 = Input(context, 5);
        const Tensor mask = Input(context, 6);
        if (u.shape.size() != 3) RefuseShape(kName, "u", u, "(S, L, D)");
        if (A.shape.size() != 2) RefuseShape(kName, "A", A, "(D, N)");
        const int64_t S = u.shape[0], L = u.shape[1], channels = u.shape[2], N = A.shape[1];
        const int64_t width = channels + 2 * N;
        // Of h0 one row may serve all sequences, of mask one row and one step all of theirs.
        const bool one_h0 = h0.shape.size() == 3 && h0.shape[0] == 1;
        const bool one_row = mask.shape.size() == 2 && mask.shape[0] == 1;
        const bool one_step = mask.shape.size() == 2 && mask.shape[1] == 1;
        const auto require = [&](const char* name, const Tensor& tensor, const Shape& wanted) {
            if (tensor.shape != wanted)
                RefuseShape(kName, name, tensor, ToText(wanted) + " beside u " + ToText(u.shape));
        };
        require("A", A, {channels, N});
        require("projected", projected, {S, L, width});
        require("D", D, {channels});
        require("delta_bias", delta_bias, {channels});
        require("h0", h0, {one_h0 ? 1 : S, channels, N});
        require("mask", mask, {one_row ? 1 : S, one_step ? 1 : L});

        const auto part = [&](int64_t column) { return hyperline_input{Floats(projected) + column, L * width, width}; };
        ScanParts<float> parts{};
        hyperline_scan& scan = parts.scan;
        scan.sequences = S;
        scan.length = L;
        scan.channels = channels;
        scan.states = N;
        scan.reverse = reverse_;
        scan.u = {Floats(u), L * channels, channels};
        scan.delta = part(0);
        scan.B = part(channels);
        scan.C = part(channels + N);
        scan.mask = {Floats(mask), one_row ? 0 : mask.shape[1], one_step ? 0 : 1};
        scan.A = Floats(A);
        scan.D = Floats(D);
        scan.delta_bias = Floats(delta_bias);
        scan.h0 = Floats(h0);
        scan.h0_sequence_stride = one_h0 ? 0 : channels * N;
        parts.y = Output<float>(context, 0, u.shape);
        parts.h = Output<float>(context, 1, {S, channels, N});
        RunParts(context, parts);
    }

    static OrtCustomOpInputOutputCharacteristic OutputCharacteristic(size_t index) {
        return index == 1 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
    }

    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
        const auto& u = context.GetInputShape(0);
        const auto& A = context.GetInputShape(2);
        if (u.size() != 3 || A.size() != 2) return Ort::Status(nullptr);  // unknown yet: Compute will look again
        Ort::Status status = context.SetOutputShape(0, u);
        return status.IsOK() ? context.SetOutputShape(1, {u[0], A[0], A[1]}) : std::move(status);
    }

  private:
    bool reverse_;
};

// ------------------------------------------------------------------------------------------------------- Pool ---

class PoolKernel : public AllFloats {
  public:
    static constexpr const char* kName = "Pool";
    static constexpr size_t kInputs = 2, kOutputs = 2;

    explicit PoolKernel(const Ort::ConstKernelInfo&) {}

    void Compute(const Ort::KernelContext& context) const {
        const Tensor x = Input(context, 0), mask = Input(context, 1);
        if (mask.shape.size() != 2 || mask.shape[0] % 2 || mask.shape[1] % 2)
            RefuseShape(kName, "mask", mask, "(K, W), both even");
        const int64_t K = mask.shape[0], W = mask.shape[1];
        if (x.shape.size() != 2 || x.shape[0] != K * W || x.shape[1] < 1)
            RefuseShape(kName, "x", x, "(" + std::to_string(K * W) + ", C) beside mask " + ToText(mask.shape));
        const int64_t C = x.shape[1];
        const hyperline_pool_block block = {K,
                                            W,
                                            C,
                                            Floats(x),
                                            Floats(mask),
                                            Output<float>(context, 0, {K / 2 * (W / 2), C}),
                                            Output<float>(context, 1, {K / 2, W / 2})};
        InParts(context, W ? K / 2 : 0, 1,
                [&](int64_t first, int64_t last) { return hyperline_pool(&block, first, last); });
    }

    static Ort::Status InferOutputShape(Ort::ShapeInferContext&) { return Ort::Status(nullptr); }  // Compute will look
};

// ----------------------------------------------------------------------------------------------------- Decide ---

class DecideKernel : public AllRequired {
  public:
    static constexpr const char* kName = "Decide";
    static constexpr size_t kInputs = 2, kOutputs = 3;

    // Models of before there was an uncertainty leave it out.
    static OrtCustomOpInputOutputCharacteristic OutputCharacteristic(size_t index) {
        return index == 2 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
    }

    static ONNXTensorElementDataType InputType(size_t index) {
        return index == 1 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    }
    static ONNXTensorElementDataType OutputType(size_t index) {
        return index == 0 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    }

    explicit DecideKernel(const Ort::ConstKernelInfo&) {}

    void Compute(const Ort::KernelContext& context) const {
        const Tensor logits = Input(context, 0), valid = Input(context, 1);
        Shape wanted = logits.shape;
        if (wanted.empty() || wanted.back() < 1 || wanted.back() > 255)
            RefuseShape(kName, "logits", logits, "(..., classes), 1 to 255 of them");
        const int64_t classes = wanted.back(), pixels = SizeOf(wanted) / classes;
        wanted.pop_back();
        if (valid.shape != wanted) RefuseShape(kName, "valid", valid, ToText(wanted));
        uint8_t* const labels = Output<uint8_t>(context, 0, wanted);
        float* const confidence = Output<float>(context, 1, wanted);
        float* const uncertainty = context.GetOutputCount() > 2 ? Output<float>(context, 2, wanted) : nullptr;
        InParts(context, pixels, kNumbersPerPart / classes, [&](int64_t first, int64_t last) {
            const hyperline_decision part = {last - first,
                                             classes,
                                             Floats(logits) + first * classes,
                                             static_cast<const uint8_t*>(valid.data) + first,
                                             labels + first,
                                             confidence + first,
                                             uncertainty ? uncertainty + first : nullptr};
            return hyperline_decide(&part);
        });
    }

    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
        const auto& valid = context.GetInputShape(1);
        Ort::Status status = context.SetOutputShape(0, valid);
        if (status.IsOK()) status = context.SetOutputShape(1, valid);
        context.SetOutputShape(2, valid);  // refused where the node has none
        return status;
    }
};

template <typename Kernel>
struct FusedOp : Ort::CustomOpBase<FusedOp<Kernel>, GuardedKernel<Kernel>, true> {
    FusedOp() { this->start_ver_ = this->end_ver_ = kFusedVersion; }
    const char* GetName() const { return Kernel::kName; }
    size_t GetInputTypeCount() const { return Kernel::kInputs; }
    size_t GetOutputTypeCount() const { return Kernel::kOutputs; }
    ONNXTensorElementDataType GetInputType(size_t index) const { return Kernel::InputType(index); }
    ONNXTensorElementDataType GetOutputType(size_t index) const { return Kernel::OutputType(index); }
    OrtCustomOpInputOutputCharacteristic GetOutputCharacteristic(size_t index) const {
        return Kernel::OutputCharacteristic(index);
    }
    OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
        return WithStatus([&] { *kernel = new GuardedKernel<Kernel>(Ort::ConstKernelInfo(info)); });
    }
    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) { return Kernel::InferOutputShape(context); }
};

struct Domain {
    FusedOp<NormKernel<AsIs>> norm;
    FusedOp<NormKernel<Relu>> norm_relu;
    FusedOp<NormKernel<Silu>> norm_silu;
    FusedOp<NormKernel<SumGated>> sum_norm_gated;
    FusedOp<CentredLinearKernel> centred_linear;
    FusedOp<ProjectedScanKernel> projected_scan;
    FusedOp<PoolKernel> pool;
    FusedOp<DecideKernel> decide;
    Ort::CustomOpDomain domain{"hyperline.fused"};

    Domain() {
        for (const OrtCustomOp* op : std::initializer_list<const OrtCustomOp*>{
                 &norm, &norm_relu, &norm_silu, &sum_norm_gated, &centred_linear, &projected_scan, &pool, &decide}) {
            domain.Add(op);
        }
    }
};

}  // namespace

const Ort::CustomOpDomain& FusedDomain() {
    static const Domain ours;
    return ours.domain;
}

}  // namespace hyperline
