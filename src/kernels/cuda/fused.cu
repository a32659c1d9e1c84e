// The entry points, one of each kernel for each type of activations. Arguments come in the order of a launch in src/ops/fused/launch.rs:
// the output, the inputs, then the scalars.
#include "bias_gelu.cuh"
#include "residual_norm.cuh"
#include "window_attention.cuh"

#define ENTRY_POINTS(NAME, T)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) window_attention_##NAME(                                    \
        T* out, const T* qkv, const T* bias, const float* scale, const float* position_bias, int height, int width, int window, \
        int shift_rows, int shift_cols, int heads, int head_channels) {                                                         \
        const MapShape map{height, width, window, shift_rows, shift_cols, heads, head_channels};                                \
        window_attention<T>(out, qkv, bias, scale, position_bias, map);                                                         \
    }                                                                                                                           \
    extern "C" __global__ void __launch_bounds__(128) residual_norm_##NAME(                                                     \
        T* out, const T* branch, const T* bias, const T* residual, const T* weight, const T* offset, int rows, int width,       \
        int lanes, float epsilon) {                                                                                             \
        residual_norm<T>(out, branch, bias, residual, weight, offset, rows, width, lanes, epsilon);                             \
    }                                                                                                                           \
    extern "C" __global__ void __launch_bounds__(256) bias_gelu_##NAME(                                                         \
        T* out, const T* x, const T* bias, int chunks, int width) {                                                             \
        bias_gelu<T>(out, x, bias, chunks, width);                                                                              \
    }

ENTRY_POINTS(f32, float)
ENTRY_POINTS(bf16, Bf16)
ENTRY_POINTS(f16, F16)
