// The operators as ONNX Runtime custom ops on the CPU, over the C interface of plugins/cpu, and their registration.
//
// A registered op wins over the model-local function of the same name. A model that carries its function bodies so
// runs on these kernels where this library is loaded, and on the bodies everywhere else.

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "half.h"
#include "hyperline/ops.h"
#include "op.h"
#include "quantized_ops.h"
#ifdef HYPERLINE_ORT_CUDA
#include "cuda_ops.h"
#endif

namespace hyperline {
namespace {

// A part of a scan is what one thread takes at once: about 10 µs of work. Smaller parts cost more to hand out than
// they balance, larger ones leave a thread idle at the end.
constexpr int64_t kUpdatesPerPart = 1 << 15;

void Require(int status) {
    if (status != HYPERLINE_OK) throw Ort::Exception(hyperline_status_text(status), ORT_FAIL);
}

template <typename Number>
struct OnCpu {
    static constexpr const char* kProvider = nullptr;  // ONNX Runtime's word for its own
    static constexpr ONNXTensorElementDataType kType =
        std::is_same_v<Number, float> ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
};

// One scan cut into parts of some sequences each, for the threads of the session. FP16 is converted part by part, so
// that what the kernel reads is still in cache.
template <typename Number>
struct ScanParts {
    hyperline_scan scan;  // u, delta, B and C point to Numbers, contiguous
    Number* y;
    float* h;  // null where nobody wants it
    int64_t sequences_per_part;
    std::atomic<int> status{HYPERLINE_OK};

    void Run(int64_t part) noexcept {
        const int result = Scan(part * sequences_per_part);
        if (result != HYPERLINE_OK) status = result;
    }

  private:
    int Scan(int64_t first) noexcept {
        constexpr bool kHalf = std::is_same_v<Number, Half>;
        hyperline_scan some = scan;
        some.sequences = std::min(sequences_per_part, scan.sequences - first);
        const int64_t rows = some.sequences * scan.length;
        const std::unique_ptr<float[]> scratch(
            kHalf ? new (std::nothrow) float[rows * (3 * scan.channels + 2 * scan.states)] : nullptr);
        // A state that nobody wants stays in cache: written out, that of 2048 pixels would be 2 MB a scan.
        const int64_t state = scan.channels * scan.states;
        const std::unique_ptr<float[]> unwanted(h ? nullptr : new (std::nothrow) float[some.sequences * state]);
        if ((kHalf && !scratch) || (!h && !unwanted)) return HYPERLINE_OUT_OF_MEMORY;

        float* free = scratch.get();
        for (hyperline_input* input : {&some.u, &some.delta, &some.B, &some.C}) {
            const int64_t count = some.sequences * input->sequence_stride;
            const Number* numbers = reinterpret_cast<const Number*>(input->data) + first * input->sequence_stride;
            if constexpr (kHalf) {
                ToFloat(numbers, count, free);
                input->data = std::exchange(free, free + count);
            } else {
                input->data = numbers;
            }
        }
        some.mask.data += first * some.mask.sequence_stride;
        some.h0 += first * some.h0_sequence_stride;
        const int64_t y_stride = scan.length * scan.channels;
        Number* const y_numbers = y + first * y_stride;
        float* const some_h = h ? h + first * state : unwanted.get();
        if constexpr (kHalf) {
            const int result = hyperline_selective_scan(&some, {free, y_stride, scan.channels}, some_h);
            if (result == HYPERLINE_OK) ToHalf(free, rows * scan.channels, y_numbers);
            return result;
        } else {
            return hyperline_selective_scan(&some, {y_numbers, y_stride, scan.channels}, some_h);
        }
    }
};

template <typename Number>
class CpuScan : public OnCpu<Number> {
  public:
    explicit CpuScan(const Ort::ConstKernelInfo& info) : reverse_(ReverseOf(info)) {}

    void Compute(const Ort::KernelContext& context) const {
        ScanParts<Number> parts{};
        parts.scan = ScanOf<hyperline_scan>(context, reverse_);
        const auto [S, L, channels, N] =
            std::array{parts.scan.sequences, parts.scan.length, parts.scan.channels, parts.scan.states};
        // the session's threads share out the parts; a second pool would fight them for the cores
        parts.scan.threads = 1;
        parts.y = Output<Number>(context, 0, {S, L, channels});
        parts.h = Output<float>(context, 1, {S, channels, N});
        if (S == 0) return;
        parts.sequences_per_part = std::max<int64_t>(1, kUpdatesPerPart / std::max<int64_t>(1, L * channels * N));
        const auto count = static_cast<size_t>((S + parts.sequences_per_part - 1) / parts.sequences_per_part);
        // as many batches as parts: a thread that is held up is overtaken, which an even split would wait for
        context.ParallelFor(
            [](void* self, size_t part) { static_cast<ScanParts<Number>*>(self)->Run(static_cast<int64_t>(part)); },
            count, count, &parts);
        Require(parts.status);
    }

  private:
    bool reverse_;
};

class CpuGate : public OnCpu<float> {
  public:
    explicit CpuGate(const Ort::ConstKernelInfo& info) : k_(KOf(info)) {}

    void Compute(const Ort::KernelContext& context) const {
        const Tensor logits = LogitsOf(context, k_);
        float* weights = Output<float>(context, 0, logits.shape);
        float* active = Output<float>(context, 1, logits.shape);
        Require(hyperline_expert_gate(logits.shape[0], logits.shape[1], k_, static_cast<const float*>(logits.data),
                                      weights, active));
    }

  private:
    int64_t k_;
};

// The runtime keeps pointers to both the domain and its ops for as long as a session lives, so they live as long as
// the library.
struct Domain {
    SelectiveScan<CpuScan<float>> scan;
    SelectiveScan<CpuScan<Half>> half_scan;
    ExpertGate<CpuGate> gate;
    Ort::CustomOpDomain domain{"hyperline"};

    Domain() {
        domain.Add(&scan);
        domain.Add(&gate);
        domain.Add(&half_scan);
#ifdef HYPERLINE_ORT_CUDA
        AddCudaOps(domain);
#endif
    }
};

}  // namespace
}  // namespace hyperline

// What onnxruntime looks for when it is told to register a library of custom ops.
extern "C" HYPERLINE_API OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
    const OrtApi* api = base->GetApi(ORT_API_VERSION);
    if (api == nullptr) {  // an older runtime than the headers; this much of the interface never changed
        return base->GetApi(1)->CreateStatus(
            ORT_FAIL, "the runtime is older than the headers that hyperline's operators were built with");
    }
    Ort::InitApi(api);
    return hyperline::WithStatus([&] {
        static const hyperline::Domain ours;
        Ort::UnownedSessionOptions(options).Add(ours.domain);
        Ort::UnownedSessionOptions(options).Add(hyperline::QuantizedDomain());
    });
}
