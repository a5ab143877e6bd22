// The INT8 layers over the C interface of plugins/cpu. What they take and give: plugins/quantized_functions.py.

#include "quantized_ops.h"

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>

#include "hyperline/quantized.h"
#include "parts.h"

namespace hyperline {
namespace {

constexpr int kQuantizedVersion = 1;  // as in plugins/__init__.py

// A part is what one thread takes at once: some 5 µs with VNNI. Rows or samples of a part are a multiple of what the
// kernels' register blocks hold.
constexpr int64_t kProductsPerPart = 1 << 21;
constexpr int64_t kWholeBlocks = 24;

struct FreeWeight {
    void operator()(hyperline_quantized_weight* weight) const { hyperline_quantized_free(weight); }
};
using Weight = std::unique_ptr<hyperline_quantized_weight, FreeWeight>;

// Rows or samples of a part, each of so many products.
int64_t PartOf(int64_t products_each) {
    return std::max<int64_t>(1, kProductsPerPart / products_each / kWholeBlocks) * kWholeBlocks;
}

// What a function's name says about its results.
std::string Suffix(int32_t after) {
    constexpr const char* suffixes[] = {"", "Relu", "Add", "Silu", "Gelu"};  // HYPERLINE_AS_IS and so on
    return suffixes[after];
}

// The residual of a node, its input `index`: null where it has none.
const float* Residual(const Ort::KernelContext& context, const char* op, int32_t after, size_t index,
                      const Shape& shape) {
    if (after != HYPERLINE_ADD) return nullptr;
    const Tensor residual = Input(context, index);
    if (residual.shape != shape) RefuseShape(op, "residual", residual, ToText(shape));
    return Floats(residual);
}

// The weight of a node: packed once where it is a constant, as exported models have it, else in every call.
template <typename Op>
class PackedWeight {
  public:
    explicit PackedWeight(const Ort::ConstKernelInfo& info) {
        int constant = 0;
        const Ort::ConstValue value = info.GetTensorConstantInput(Op::kWeightInput, &constant);
        if (constant) once_ = Op::Pack({value.GetTensorRawData(), value.GetTensorTypeAndShapeInfo().GetShape()});
    }

    // `own` keeps what is packed for this call alone.
    hyperline_quantized_layer Layer(const Tensor& x_scale, const Tensor& weight, const Tensor& weight_scale,
                                    Weight& own) const {
        if (std::any_of(x_scale.shape.begin(), x_scale.shape.end(), [](int64_t size) { return size != 1; }))
            RefuseShape(Op::Name(), "x_scale", x_scale, "one number");
        const Shape outputs{weight.shape[Op::kOutputsAxis]};
        if (weight_scale.shape != outputs) RefuseShape(Op::Name(), "weight_scale", weight_scale, ToText(outputs));
        if (!once_) own = Op::Pack(weight);
        return {once_ ? once_.get() : own.get(), Floats(weight_scale), *Floats(x_scale)};
    }

  private:
    Weight once_;
};

// --------------------------------------------------------------------------------------------------------- Linear ---

template <int32_t after>
class LinearKernel {
  public:
    static constexpr size_t kInputs = after == HYPERLINE_ADD ? 6 : 5, kWeightInput = 2, kOutputsAxis = 1;

    static const char* Name() {
        static const std::string name = "Linear" + Suffix(after);
        return name.c_str();
    }

    static Weight Pack(const Tensor& weight) {
        if (weight.shape.size() != 2) RefuseShape(Name(), "weight", weight, "(I, O)");
        hyperline_quantized_weight* packed = nullptr;
        Require(hyperline_quantized_pack_linear(weight.shape[0], weight.shape[1],
                                                static_cast<const int8_t*>(weight.data), &packed));
        return Weight(packed);
    }

    explicit LinearKernel(const Ort::ConstKernelInfo& info) : weight_(info) {}

    void Compute(const Ort::KernelContext& context) const {
        const Tensor x = Input(context, 0), weight = Input(context, 2), bias = Input(context, 4);
        if (weight.shape.size() != 2) RefuseShape(Name(), "weight", weight, "(I, O)");
        const int64_t I = weight.shape[0], O = weight.shape[1];
        if (x.shape.empty() || x.shape.back() != I)
            RefuseShape(Name(), "x", x, "(..., " + std::to_string(I) + ") beside weight " + ToText(weight.shape));
        Weight own;
        const hyperline_quantized_layer layer = weight_.Layer(Input(context, 1), weight, Input(context, 3), own);
        Shape shape = x.shape;
        shape.back() = O;
        const bool one_row = bias.shape == Shape{O};
        if (!one_row && bias.shape != shape) RefuseShape(Name(), "bias", bias, ToText({O}) + " or " + ToText(shape));
        const float* residual = Residual(context, Name(), after, 5, shape);
        float* y = Output<float>(context, 0, shape);
        int64_t rows = 1;
        for (size_t axis = 0; axis + 1 < shape.size(); ++axis) rows *= shape[axis];
        const int64_t bias_stride = one_row ? 0 : O;
        InParts(context, rows, PartOf(I * O), [&](int64_t first, int64_t last) {
            const hyperline_quantized_rows part = {last - first,
                                                   Floats(x) + first * I,
                                                   Floats(bias) + first * bias_stride,
                                                   bias_stride,
                                                   after,
                                                   residual ? residual + first * O : nullptr,
                                                   y + first * O};
            return hyperline_quantized_linear(&layer, &part);
        });
    }

    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
        auto shape = context.GetInputShape(0);
        const auto& weight = context.GetInputShape(kWeightInput);
        if (shape.empty() || weight.size() != 2) return Ort::Status(nullptr);  // unknown yet: Compute will look again
        shape.back() = weight[kOutputsAxis];
        return context.SetOutputShape(0, shape);
    }

  private:
    PackedWeight<LinearKernel<after>> weight_;
};

// ------------------------------------------------------------------------------------------------------ BlockConv ---

template <int32_t after>
class BlockConvKernel {
  public:
    static constexpr size_t kInputs = after == HYPERLINE_ADD ? 7 : 6, kWeightInput = 3, kOutputsAxis = 0;

    static const char* Name() {
        static const std::string name = "BlockConv" + Suffix(after);
        return name.c_str();
    }

    static Weight Pack(const Tensor& weight) {
        CheckWeight(weight);
        hyperline_quantized_weight* packed = nullptr;
        Require(hyperline_quantized_pack_block_conv(weight.shape[1], weight.shape[0],
                                                    static_cast<const int8_t*>(weight.data), &packed));
        return Weight(packed);
    }

    explicit BlockConvKernel(const Ort::ConstKernelInfo& info) : weight_(info) {}

    void Compute(const Ort::KernelContext& context) const {
        const Tensor past = Input(context, 0), x = Input(context, 1), weight = Input(context, 3);
        const Tensor bias = Input(context, 5);
        CheckWeight(weight);
        const int64_t O = weight.shape[0], I = weight.shape[1];
        if (x.shape.size() != 3 || x.shape[2] != I)
            RefuseShape(Name(), "x", x, "(K, W, " + std::to_string(I) + ") beside weight " + ToText(weight.shape));
        const int64_t K = x.shape[0], W = x.shape[1];
        if (past.shape != Shape{1, W, I}) RefuseShape(Name(), "past", past, ToText({1, W, I}));
        if (bias.shape != Shape{O}) RefuseShape(Name(), "bias", bias, ToText({O}));
        Weight own;
        const hyperline_quantized_layer layer = weight_.Layer(Input(context, 2), weight, Input(context, 4), own);
        const float* residual = Residual(context, Name(), after, 6, {K, W, O});
        const hyperline_quantized_block block = {
            K, W, Floats(past), Floats(x), Floats(bias), after, residual, Output<float>(context, 0, {K, W, O})};
        InParts(context, K ? W : 0, PartOf(K * 9 * I * O), [&](int64_t first, int64_t last) {
            return hyperline_quantized_block_conv(&layer, &block, first, last);
        });
    }

    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
        auto shape = context.GetInputShape(1);
        const auto& weight = context.GetInputShape(kWeightInput);
        if (shape.size() != 3 || weight.size() != 4) return Ort::Status(nullptr);
        shape.back() = weight[kOutputsAxis];
        return context.SetOutputShape(0, shape);
    }

  private:
    static void CheckWeight(const Tensor& weight) {
        if (weight.shape.size() != 4 || weight.shape[2] != 3 || weight.shape[3] != 3)
            RefuseShape(Name(), "weight", weight, "(O, I, 3, 3)");
    }

    PackedWeight<BlockConvKernel<after>> weight_;
};

template <typename Kernel>
struct QuantizedOp : Ort::CustomOpBase<QuantizedOp<Kernel>, GuardedKernel<Kernel>, true> {
    QuantizedOp() { this->start_ver_ = this->end_ver_ = kQuantizedVersion; }
    const char* GetName() const { return Kernel::Name(); }
    size_t GetInputTypeCount() const { return Kernel::kInputs; }
    size_t GetOutputTypeCount() const { return 1; }
    ONNXTensorElementDataType GetInputType(size_t index) const {
        return index == Kernel::kWeightInput ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    }
    ONNXTensorElementDataType GetOutputType(size_t) const { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; }
    OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
        return WithStatus([&] { *kernel = new GuardedKernel<Kernel>(Ort::ConstKernelInfo(info)); });
    }
    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) { return Kernel::InferOutputShape(context); }
};

struct Domain {
    QuantizedOp<LinearKernel<HYPERLINE_AS_IS>> linear;
    QuantizedOp<LinearKernel<HYPERLINE_ADD>> linear_add;
    QuantizedOp<LinearKernel<HYPERLINE_SILU>> linear_silu;
    QuantizedOp<LinearKernel<HYPERLINE_GELU>> linear_gelu;
    QuantizedOp<BlockConvKernel<HYPERLINE_AS_IS>> block_conv;
    QuantizedOp<BlockConvKernel<HYPERLINE_RELU>> block_conv_relu;
    QuantizedOp<BlockConvKernel<HYPERLINE_ADD>> block_conv_add;
    Ort::CustomOpDomain domain{"hyperline.quantized"};

    Domain() {
        for (const OrtCustomOp* op : std::initializer_list<const OrtCustomOp*>{
                 &linear, &linear_add, &linear_silu, &linear_gelu, &block_conv, &block_conv_relu, &block_conv_add}) {
            domain.Add(op);
        }
    }
};

}  // namespace

const Ort::CustomOpDomain& QuantizedDomain() {
    static const Domain ours;
    return ours.domain;
}

}  // namespace hyperline
