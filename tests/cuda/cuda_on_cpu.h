// Runs CUDA kernels on the CPU, to test their logic: indices, bounds, barriers. No warp intrinsics, no real concurrency.
//
// The threads of a block are fibers of one OS thread. Each runs to its next barrier, then the next one runs; their order can
// be reversed or shuffled, so that a missing barrier shows.
#pragma once
#include <math.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __shared__ static

struct Dim { unsigned x; };
static Dim threadIdx, blockIdx, blockDim, gridDim;

namespace fibers {

enum { STACK = 1 << 16, FORWARD = 0, REVERSED = 1, SHUFFLED = 2, LEFT_A_BARRIER = 1 };

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK);
    unsigned thread;
    bool finished;
};

static ucontext_t scheduler;
static Fiber* running;
static std::function<void()> kernel;

static void begin() {
    kernel();
    running->finished = true;
    setcontext(&scheduler);
}

static void resume(Fiber& fiber) {
    running = &fiber;
    threadIdx.x = fiber.thread;
    swapcontext(&scheduler, &fiber.context);
}

// Run the threads from barrier to barrier, until all have finished; some at a barrier while others have finished is an error.
static int run_block(std::vector<Fiber>& block) {
    for (Fiber& fiber : block) {
        fiber.finished = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        makecontext(&fiber.context, begin, 0);
    }
    for (;;) {
        for (Fiber& fiber : block) resume(fiber);
        const auto finished = std::count_if(block.begin(), block.end(), [](const Fiber& f) { return f.finished; });
        if (finished) return finished == (long)block.size() ? 0 : LEFT_A_BARRIER;
    }
}

template <typename... A, size_t... I> void call(void (*k)(A...), void** arguments, std::index_sequence<I...>) {
    k(*(A*)arguments[I]...);
}

template <typename... A> int launch(void (*k)(A...), unsigned blocks, unsigned threads, void** arguments, int order) {
    std::vector<Fiber> block(threads);
    for (unsigned t = 0; t < threads; ++t) block[t].thread = order == REVERSED ? threads - 1 - t : t;
    unsigned seed = 1;
    if (order == SHUFFLED)
        for (unsigned t = threads; t > 1; --t) {
            seed = seed * 1664525u + 1013904223u;
            std::swap(block[t - 1].thread, block[seed % t].thread);
        }
    kernel = [=] { call(k, arguments, std::index_sequence_for<A...>()); };
    gridDim.x = blocks;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        if (int error = run_block(block)) return error;
    return 0;
}

template <typename... A> int sizes(void (*)(A...), int* bytes) {
    const int all[] = {(int)sizeof(A)...};
    std::copy(std::begin(all), std::end(all), bytes);
    return sizeof...(A);
}

}  // namespace fibers

inline void __syncthreads() { swapcontext(&fibers::running->context, &fibers::scheduler); }

#define EXPORT(name)                                                                                       \
    extern "C" int launch_##name(unsigned blocks, unsigned threads, void** arguments, int order) {         \
        return fibers::launch(name, blocks, threads, arguments, order);                                    \
    }                                                                                                      \
    extern "C" int sizes_##name(int* bytes) { return fibers::sizes(name, bytes); }
