// Runs one launch of a kernel of fused.cu on the CPU: reads it from standard input, writes the output's bytes to standard output. Compiled
// with a sanitizer of addresses, it stops at the first access beyond an input, the output or shared memory.
//
// A block's threads take turns in their order, then the launch is repeated in the opposite order: where a barrier is missing, the two
// differ. Shared memory and the output begin as NaN, so that what nobody wrote shows.
#include "fused.cu"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else
static void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
static void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

Index threadIdx, blockIdx, blockDim;

namespace {

constexpr size_t STACK_BYTES = 64 << 10;
constexpr unsigned WARP = 32;

[[noreturn]] void fail(const std::string& why) {
    fprintf(stderr, "%s\n", why.c_str());
    exit(1);
}

enum class State { Running, AtBlockBarrier, AtWarpBarrier, Done };

struct Fibre {
    ucontext_t context;
    std::unique_ptr<unsigned char[]> stack{new unsigned char[STACK_BYTES]};
    void* shadow = nullptr;
    State state = State::Running;
    unsigned exchanges = 0;
};

std::vector<Fibre> fibres;
ucontext_t scheduler;
void* scheduler_shadow;
const void* scheduler_stack;
size_t scheduler_stack_bytes;
std::unique_ptr<unsigned char[]> shared;
// What the threads show, for every other exchange: nobody shows again before all lanes have come to the next exchange, so what they
// look at in this one lasts.
std::unique_ptr<Words[]> boards[2];
std::function<void()> kernel;

void yield(State state) {
    Fibre& fibre = fibres[threadIdx.x];
    fibre.state = state;
    // A fibre that is done gives up what the sanitizer keeps of its stack.
    __sanitizer_start_switch_fiber(state == State::Done ? nullptr : &fibre.shadow, scheduler_stack, scheduler_stack_bytes);
    swapcontext(&fibre.context, &scheduler);
    __sanitizer_finish_switch_fiber(fibre.shadow, &scheduler_stack, &scheduler_stack_bytes);
}

void enter() {
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
    kernel();
    yield(State::Done);
}

void resume(unsigned thread) {
    threadIdx.x = thread;
    __sanitizer_start_switch_fiber(&scheduler_shadow, fibres[thread].stack.get(), STACK_BYTES);
    swapcontext(&scheduler, &fibres[thread].context);
    __sanitizer_finish_switch_fiber(scheduler_shadow, nullptr, nullptr);
}

// Lets the threads from `first` on go on if all of them wait at this barrier.
bool release(unsigned first, unsigned count, State barrier) {
    for (unsigned thread = first; thread < first + count; ++thread) {
        if (fibres[thread].state != barrier) return false;
    }
    for (unsigned thread = first; thread < first + count; ++thread) fibres[thread].state = State::Running;
    return true;
}

void run_block(unsigned threads, bool backwards) {
    for (Fibre& fibre : fibres) {
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.get();
        fibre.context.uc_stack.ss_size = STACK_BYTES;
        fibre.context.uc_link = nullptr;
        makecontext(&fibre.context, enter, 0);
        fibre.state = State::Running;
        fibre.exchanges = 0;
    }
    for (unsigned done = 0; done < threads;) {
        done = 0;
        for (unsigned turn = 0; turn < threads; ++turn) {
            const unsigned thread = backwards ? threads - 1 - turn : turn;
            if (fibres[thread].state == State::Running) resume(thread);
            done += fibres[thread].state == State::Done;
        }
        bool released = release(0, threads, State::AtBlockBarrier);
        for (unsigned first = 0; first < threads; first += WARP) released |= release(first, WARP, State::AtWarpBarrier);
        if (!released && done < threads) fail("some threads wait at a barrier that others never reach");
    }
}

std::vector<unsigned char> run(unsigned grid, unsigned threads, size_t shared_bytes, size_t output_bytes, bool backwards,
                               const std::function<void(unsigned char*)>& call) {
    const std::unique_ptr<unsigned char[]> output(new unsigned char[output_bytes]);
    memset(output.get(), 0xff, output_bytes);
    kernel = [&] { call(output.get()); };
    fibres = std::vector<Fibre>(threads);
    for (auto& board : boards) board.reset(new Words[threads]);
    blockDim.x = threads;
    for (unsigned block = 0; block < grid; ++block) {
        blockIdx.x = backwards ? grid - 1 - block : block;
        shared.reset(new unsigned char[shared_bytes]);
        memset(shared.get(), 0xff, shared_bytes);
        run_block(threads, backwards);
    }
    return {output.get(), output.get() + output_bytes};
}

template <typename T>
T read() {
    T value;
    if (fread(&value, sizeof value, 1, stdin) != 1) fail("the launch is cut short");
    return value;
}

// Calls an entry point with the words that a launch on the device would copy into its parameters.
template <typename... Parameters, size_t... Places>
void call_with(void (*entry)(Parameters...), const std::vector<uint64_t>& words, std::index_sequence<Places...>) {
    if (words.size() != sizeof...(Parameters)) fail("the entry point has another number of parameters");
    std::tuple<Parameters...> values;
    (memcpy(&std::get<Places>(values), &words[Places], sizeof(Parameters)), ...);
    std::apply(entry, values);
}

template <typename... Parameters>
std::function<void(const std::vector<uint64_t>&)> entry(void (*function)(Parameters...)) {
    return [function](const auto& words) { call_with(function, words, std::index_sequence_for<Parameters...>{}); };
}

std::function<void(const std::vector<uint64_t>&)> entry_named(const std::string& name) {
#define NAMED(KERNEL, TYPE) \
    if (name == #KERNEL "_" #TYPE) return entry(KERNEL##_##TYPE);
#define NAMED_ALL(KERNEL) NAMED(KERNEL, f32) NAMED(KERNEL, bf16) NAMED(KERNEL, f16)
    NAMED_ALL(window_attention)
    NAMED_ALL(residual_norm)
    NAMED_ALL(bias_gelu)
    fail("no entry point is named " + name);
}

}  // namespace

unsigned char* shared_memory() { return shared.get(); }
int lane_number() { return threadIdx.x % WARP; }
void block_barrier() { yield(State::AtBlockBarrier); }

const Words* warp_exchange(const Words& words) {
    Fibre& fibre = fibres[threadIdx.x];
    std::unique_ptr<Words[]>& board = boards[fibre.exchanges++ % 2];
    memcpy(board[threadIdx.x], words, sizeof(Words));
    yield(State::AtWarpBarrier);
    return &board[threadIdx.x / WARP * WARP];
}

float shuffle_xor(float value, int mask) { return shuffle(value, lane_number() ^ mask); }

// The launch: entry point, blocks, threads, bytes of shared memory and of the output, inputs (an empty one is a null pointer), scalars.
int main() {
    std::string name(read<uint32_t>(), '\0');
    if (fread(name.data(), 1, name.size(), stdin) != name.size()) fail("the launch is cut short");
    const auto function = entry_named(name);
    const auto grid = read<uint32_t>(), threads = read<uint32_t>(), shared_bytes = read<uint32_t>();
    const auto output_bytes = read<uint64_t>();
    if (threads % WARP != 0) fail("a block has whole warps");

    std::vector<std::unique_ptr<unsigned char[]>> inputs;
    std::vector<uint64_t> words(1);
    for (auto left = read<uint32_t>(); left > 0; --left) {
        const auto bytes = read<uint64_t>();
        inputs.emplace_back(bytes == 0 ? nullptr : new unsigned char[bytes]);
        if (bytes > 0 && fread(inputs.back().get(), 1, bytes, stdin) != bytes) fail("the launch is cut short");
        words.push_back(reinterpret_cast<uint64_t>(inputs.back().get()));
    }
    for (auto left = read<uint32_t>(); left > 0; --left) words.push_back(read<uint32_t>());

    const auto call = [&](unsigned char* output) {
        std::vector<uint64_t> with_output = words;
        with_output[0] = reinterpret_cast<uint64_t>(output);
        function(with_output);
    };
    const auto forwards = run(grid, threads, shared_bytes, output_bytes, false, call);
    const auto backwards = run(grid, threads, shared_bytes, output_bytes, true, call);
    if (forwards != backwards) fail("the result depends on the order of the threads");
    fwrite(forwards.data(), 1, forwards.size(), stdout);
    return 0;
}
