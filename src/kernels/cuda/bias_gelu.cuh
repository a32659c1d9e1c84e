// What follows the product of a block's wide layer: its bias, and GELU in the exact form with erf. (The one that cuBLAS can append to a
// product is the approximation by tanh.)
#pragma once

#include "numbers.cuh"

__device__ __forceinline__ float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }

// `out` and `x` are [rows, width], `bias` [width]; `chunks` is their number of chunks of 16 bytes.
template <typename T>
__device__ void bias_gelu(T* out, const T* x, const T* bias, int chunks, int width) {
    constexpr int SIZE = Chunk<T>::SIZE;
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= chunks) return;
    const int column = index % (width / SIZE) * SIZE;
    Chunk<T> chunk = Chunk<T>::read(x + size_t(index) * SIZE) + Chunk<T>::read(bias + column);
#pragma unroll
    for (int i = 0; i < SIZE; ++i) chunk.values[i] = gelu(chunk.values[i]);
    chunk.write(out + size_t(index) * SIZE);
}
