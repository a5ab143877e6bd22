// Tells TensorRT's logger what is wrong; TensorRT itself passes on only that something is.

#ifndef HYPERLINE_PLUGINS_TENSORRT_REPORT_H
#define HYPERLINE_PLUGINS_TENSORRT_REPORT_H

#include <stdexcept>
#include <string>

namespace hyperline {

// A message for a person: what was wrong, and what to do. Never leaves the library.
struct Refusal : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Sends the message to the logger that TensorRT named, or to stderr before it has named one.
void Report(const std::string& message) noexcept;

// What each entry point of the plugin wraps its work in: no exception crosses into TensorRT.
template <typename Result, typename Work>
Result Guarded(const char* where, Result otherwise, Work&& work) noexcept {
    try {
        return work();
    } catch (const std::exception& error) {
        try {
            Report("hyperline " + std::string(where) + ": " + error.what());
        } catch (...) {  // no memory for the message
        }
    }
    return otherwise;
}

}  // namespace hyperline

#endif
