// The end of a residual branch as Swin v2 has it ("res-post-norm"): residual + norm(branch + bias) over the rows of a matrix, in one
// pass. Without a residual, the norm alone.
#pragma once

#include "numbers.cuh"

// Values of a row that one lane keeps; 32 lanes hold rows of up to 1024.
constexpr int VALUES_PER_LANE = 32;

__device__ __forceinline__ float sum_over_lanes(float value, int lanes) {
    for (int distance = lanes / 2; distance > 0; distance /= 2) value += shuffle_xor(value, distance);
    return value;
}

// All matrices are [rows, width]. `bias` [width] is added to `branch`; `bias` and `residual` may be null. `lanes`, a power of two up to
// 32, work on a row together.
template <typename T>
__device__ void residual_norm(
    T* out, const T* branch, const T* bias, const T* residual, const T* weight, const T* offset, int rows, int width, int lanes,
    float epsilon) {
    constexpr int SIZE = Chunk<T>::SIZE, CHUNKS = VALUES_PER_LANE / SIZE;
    const int lane = threadIdx.x % lanes;
    const int row = (blockIdx.x * blockDim.x + threadIdx.x) / lanes;
    // Lanes without a row take part in the sums, which all lanes of a warp share.
    const bool exists = row < rows;
    const size_t start = size_t(row) * width;

    Chunk<T> chunks[CHUNKS];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
        const int column = (i * lanes + lane) * SIZE;
        chunks[i] = zeros<T>();
        if (exists && column < width) {
            chunks[i] = Chunk<T>::read(branch + start + column);
            if (bias != nullptr) chunks[i] = chunks[i] + Chunk<T>::read(bias + column);
        }
#pragma unroll
        for (int j = 0; j < SIZE; ++j) sum += chunks[i].values[j];
    }
    const float mean = sum_over_lanes(sum, lanes) / width;

    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
        const int column = (i * lanes + lane) * SIZE;
        if (column < width) {
#pragma unroll
            for (int j = 0; j < SIZE; ++j) squares += (chunks[i].values[j] - mean) * (chunks[i].values[j] - mean);
        }
    }
    const float factor = 1.0f / sqrtf(sum_over_lanes(squares, lanes) / width + epsilon);

#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
        const int column = (i * lanes + lane) * SIZE;
        if (!exists || column >= width) continue;
        const Chunk<T> gain = Chunk<T>::read(weight + column), shift = Chunk<T>::read(offset + column);
#pragma unroll
        for (int j = 0; j < SIZE; ++j) {
            chunks[i].values[j] = (chunks[i].values[j] - mean) * factor * gain.values[j] + shift.values[j];
        }
        if (residual != nullptr) chunks[i] = chunks[i] + Chunk<T>::read(residual + start + column);
        chunks[i].write(out + start + column);
    }
}
