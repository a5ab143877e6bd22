#include "report.h"

#include <NvInferRuntime.h>

#include <atomic>
#include <cstdio>

namespace hyperline {
namespace {

// TensorRT names its logger once for the whole library, so there is one for the whole library.
std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

}  // namespace

void Report(const std::string& message) noexcept {
    nvinfer1::ILoggerFinder* finder = logger_finder.load();
    nvinfer1::ILogger* logger = finder ? finder->findLogger() : nullptr;
    if (logger)
        logger->log(nvinfer1::ILogger::Severity::kERROR, message.c_str());
    else
        std::fprintf(stderr, "%s\n", message.c_str());
}

}  // namespace hyperline

// TensorRT calls it when it loads this library.
extern "C" __attribute__((visibility("default"))) void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
    hyperline::logger_finder.store(finder);
}
