#include "threads.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace hyperline {
namespace {

using Task = std::function<void(int64_t, int)>;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::microseconds kPatience{50};

class Pool {
  public:
    void run(int64_t units, int threads, const Task& task) {
        std::unique_lock<std::mutex> alone(one_call_, std::try_to_lock);
        const int helpers = alone ? hire(threads - 1) : 0;
        Job job{units, 1 + helpers, task};
        if (!helpers) return job.work(0);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            job_ = &job;
            invited_ = helpers;
        }
        for (int i = 0; i < helpers; i++) wake_.notify_one();
        job.work(0);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            job_ = nullptr;  // whoever has not come by now is not needed
            invited_ = 0;
        }
        // A helper is at its last unit, a few microseconds; waking from sleep would take ten times as long.
        const auto patience = Clock::now() + kPatience;
        while (at_work_ > 0 && Clock::now() < patience) {
        }
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [&] { return at_work_ == 0; });
        arrived_ = 0;
    }

  private:
    struct Job {
        int64_t units;
        int workers;
        const Task& task;
        std::atomic<int64_t> next{0};
        // Takes a share of what is left until nothing is. Large shares first: neighbouring units lie side by side in
        // memory, and where two cores take turns at them each fetches ahead what the other is writing. Small ones last,
        // for all to finish together.
        void work(int worker) {
            for (int64_t first = next.load(std::memory_order_relaxed); first < units;) {
                const int64_t end = first + 1 + (units - first) / (2 * workers);
                if (!next.compare_exchange_weak(first, end, std::memory_order_relaxed)) continue;
                for (int64_t unit = first; unit < end; unit++) task(unit, worker);
                first = next.load(std::memory_order_relaxed);
            }
        }
    };

    // Makes sure of `wanted` helpers, or as many as the system grants.
    int hire(int wanted) {
        try {
            for (; helpers_ < wanted; helpers_++) std::thread([this] { help(); }).detach();
        } catch (const std::system_error&) {
        }
        return helpers_ < wanted ? helpers_ : wanted;
    }

    void help() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return invited_ > 0; });
            invited_--;
            at_work_++;
            Job* job = job_;
            const int worker = ++arrived_;
            lock.unlock();
            job->work(worker);
            lock.lock();
            if (--at_work_ == 0) done_.notify_one();
        }
    }

    std::mutex one_call_;
    int helpers_ = 0;  // guarded by one_call_

    std::mutex mutex_;  // guards what follows
    std::condition_variable wake_, done_;
    Job* job_ = nullptr;
    int invited_ = 0, arrived_ = 0;
    std::atomic<int> at_work_{0};  // also read without it
};

// A fork takes no threads along, so a child starts a pool of its own. Pools are never destroyed: helpers sleep in them
// until the process ends.
Pool& pool_of_this_process() {
    struct Owned {
        const pid_t process = getpid();
        Pool pool;
    };
    static std::atomic<Owned*> current{nullptr};
    Owned* owned = current.load(std::memory_order_acquire);
    while (!owned || owned->process != getpid()) {
        Owned* fresh = new Owned;
        if (current.compare_exchange_strong(owned, fresh, std::memory_order_acq_rel)) return fresh->pool;
        delete fresh;
    }
    return owned->pool;
}

}  // namespace

void run_parallel(int64_t units, int threads, const Task& task) {
    if (threads <= 1 || units <= 1) {
        for (int64_t unit = 0; unit < units; unit++) task(unit, 0);
        return;
    }
    pool_of_this_process().run(units, threads, task);
}

}  // namespace hyperline
