// Tensors are where the CUDA provider keeps them, in device memory, and a launch joins the provider's stream: nothing
// here copies or waits, so that a session may capture its run as a CUDA graph.
#include "cuda_ops.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "hyperline/cuda_ops.h"

namespace hyperline {
namespace {

void Require(const char* name, int status) {
    if (status != HYPERLINE_CUDA_OK)
        throw Ort::Exception(std::string(name) + ": " + hyperline_cuda_status_text(status), ORT_FAIL);
}

template <ONNXTensorElementDataType kNumber>
struct OnCuda {
    static constexpr const char* kProvider = "CUDAExecutionProvider";
    static constexpr ONNXTensorElementDataType kType = kNumber;
    static constexpr int32_t kCudaType =
        kNumber == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 ? HYPERLINE_CUDA_FLOAT16 : HYPERLINE_CUDA_FLOAT32;
};

// Device memory for a last state that nobody reads: the C interface always writes one. Nobody reads it, so runs on
// several streams may write into it at once. It is kept as long as the kernel: freed after a launch it could be given
// to another stream while that launch still writes.
class UnreadState {
  public:
    explicit UnreadState(const OrtKernelInfo* info) {
        OrtAllocator* allocator = nullptr;
        Ort::ThrowOnError(Ort::GetApi().KernelInfoGetAllocator(info, OrtMemTypeDefault, &allocator));
        allocator_.reset(allocator);
    }
    ~UnreadState() {
        for (void* memory : memories_) allocator_->Free(allocator_.get(), memory);
    }
    UnreadState(const UnreadState&) = delete;
    UnreadState& operator=(const UnreadState&) = delete;

    float* OfAtLeast(int64_t numbers) {
        const std::lock_guard lock(mutex_);
        if (numbers > numbers_) {
            const int64_t size = std::max(numbers, 2 * numbers_);  // what smaller ones hold stays below what this holds
            memories_.reserve(memories_.size() + 1);
            void* memory = allocator_->Alloc(allocator_.get(), static_cast<size_t>(size) * sizeof(float));
            if (memory == nullptr) throw Ort::Exception("SelectiveScan: out of GPU memory", ORT_FAIL);
            memories_.push_back(memory);
            numbers_ = size;
        }
        return static_cast<float*>(memories_.back());
    }

  private:
    struct Release {
        void operator()(OrtAllocator* allocator) const { Ort::GetApi().ReleaseAllocator(allocator); }
    };

    std::mutex mutex_;
    std::unique_ptr<OrtAllocator, Release> allocator_;
    std::vector<void*> memories_;  // the last is the largest
    int64_t numbers_ = 0;          // that it holds
};

template <ONNXTensorElementDataType kNumber>
class CudaScan : public OnCuda<kNumber> {
  public:
    explicit CudaScan(const Ort::ConstKernelInfo& info) : reverse_(ReverseOf(info)), unread_(info) {}

    void Compute(const Ort::KernelContext& context) const {
        auto scan = ScanOf<hyperline_cuda_scan>(context, reverse_);
        scan.type = this->kCudaType;
        const auto [S, L, channels, N] = std::array{scan.sequences, scan.length, scan.channels, scan.states};
        const hyperline_cuda_output y{Output<void>(context, 0, {S, L, channels}), L * channels, channels};
        float* h = Output<float>(context, 1, {S, channels, N});
        if (S == 0) return;
        if (h == nullptr) h = unread_.OfAtLeast(S * channels * N);
        Require("SelectiveScan", hyperline_cuda_selective_scan(&scan, y, h, context.GetGPUComputeStream()));
    }

  private:
    bool reverse_;
    mutable UnreadState unread_;
};

template <ONNXTensorElementDataType kNumber>
class CudaGate : public OnCuda<kNumber> {
  public:
    explicit CudaGate(const Ort::ConstKernelInfo& info) : k_(KOf(info)) {}

    void Compute(const Ort::KernelContext& context) const {
        const Tensor logits = LogitsOf(context, k_);
        void* weights = Output<void>(context, 0, logits.shape);
        void* active = Output<void>(context, 1, logits.shape);
        if (logits.shape[0] == 0) return;
        Require("ExpertGate", hyperline_cuda_expert_gate(logits.shape[0], logits.shape[1], k_, this->kCudaType,
                                                         logits.data, weights, active, context.GetGPUComputeStream()));
    }

  private:
    int64_t k_;
};

template <ONNXTensorElementDataType kNumber>
void AddOps(Ort::CustomOpDomain& domain) {
    static const SelectiveScan<CudaScan<kNumber>> scan;
    static const ExpertGate<CudaGate<kNumber>> gate;
    domain.Add(&scan);
    domain.Add(&gate);
}

}  // namespace

void AddCudaOps(Ort::CustomOpDomain& domain) {
    AddOps<ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT>(domain);
    AddOps<ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16>(domain);
}

}  // namespace hyperline
