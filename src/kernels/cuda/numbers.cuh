// The types of activations, and chunks of 16 bytes of them, which kernels read and write at a time. All arithmetic is in float32;
// values are rounded where they are stored.
#pragma once

#include "device.cuh"

struct Bf16 {
    unsigned short bits;

    static __device__ __forceinline__ float2 widen(uint32_t pair) { return widen_bf16(pair); }
    static __device__ __forceinline__ uint32_t round(float low, float high) { return round_bf16(low, high); }
    static __device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
        multiply_bf16(sums, left, right);
    }
    static __device__ __forceinline__ float exp(float x) { return quick_exp(x); }
};

struct F16 {
    unsigned short bits;

    static __device__ __forceinline__ float2 widen(uint32_t pair) { return widen_f16(pair); }
    static __device__ __forceinline__ uint32_t round(float low, float high) { return round_f16(low, high); }
    static __device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
        multiply_f16(sums, left, right);
    }
    static __device__ __forceinline__ float exp(float x) { return quick_exp(x); }
};

// Sixteen bytes of values, widened. `from` and `to` must be multiples of 16 bytes.
template <typename T>
struct Chunk {
    static constexpr int SIZE = 8;
    float values[SIZE];

    static __device__ __forceinline__ Chunk read(const T* from) {
        const uint4 words = *reinterpret_cast<const uint4*>(from);
        const float2 pairs[4] = {T::widen(words.x), T::widen(words.y), T::widen(words.z), T::widen(words.w)};
        Chunk chunk;
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
            chunk.values[2 * pair] = pairs[pair].x;
            chunk.values[2 * pair + 1] = pairs[pair].y;
        }
        return chunk;
    }

    __device__ __forceinline__ void write(T* to) const {
        uint4 words;
        words.x = T::round(values[0], values[1]);
        words.y = T::round(values[2], values[3]);
        words.z = T::round(values[4], values[5]);
        words.w = T::round(values[6], values[7]);
        *reinterpret_cast<uint4*>(to) = words;
    }
};

template <>
struct Chunk<float> {
    static constexpr int SIZE = 4;
    float values[SIZE];

    static __device__ __forceinline__ Chunk read(const float* from) {
        const float4 words = *reinterpret_cast<const float4*>(from);
        return Chunk{{words.x, words.y, words.z, words.w}};
    }

    __device__ __forceinline__ void write(float* to) const {
        float4 words;
        words.x = values[0];
        words.y = values[1];
        words.z = values[2];
        words.w = values[3];
        *reinterpret_cast<float4*>(to) = words;
    }
};

template <typename T>
__device__ __forceinline__ Chunk<T> zeros() {
    Chunk<T> chunk;
#pragma unroll
    for (int i = 0; i < Chunk<T>::SIZE; ++i) chunk.values[i] = 0.0f;
    return chunk;
}

template <typename T>
__device__ __forceinline__ Chunk<T> operator+(Chunk<T> a, const Chunk<T>& b) {
#pragma unroll
    for (int i = 0; i < Chunk<T>::SIZE; ++i) a.values[i] += b.values[i];
    return a;
}
