// The names of device.cuh on a CPU, for tests. Every thread of a block is a fibre that runs until it waits at a barrier, so a launch is
// the same on every run; emulator.cpp has the scheduler.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(threads)

struct Index {
    unsigned x;
};
extern Index threadIdx, blockIdx, blockDim;

struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }

unsigned char* shared_memory();
void block_barrier();
// What the lanes of a warp show each other: six words each.
using Words = uint32_t[6];
// Shows the words to the warp's other lanes, waits for theirs, and returns those of all 32. They last until the next exchange.
const Words* warp_exchange(const Words& words);

inline float as_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t as_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float shuffle(float value, int lane) {
    const Words words = {as_bits(value)};
    return as_float(warp_exchange(words)[lane][0]);
}

float shuffle_xor(float value, int mask);

inline float quick_exp(float x) { return expf(x); }

inline uint32_t nearest_bf16(float value) {
    const uint32_t bits = as_bits(value);
    if (std::isnan(value)) return 0x7fff;
    // To nearest, ties to even.
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline uint32_t nearest_f16(float value) {
    const _Float16 half = static_cast<_Float16>(value);
    uint16_t bits;
    std::memcpy(&bits, &half, sizeof bits);
    return bits;
}

inline float float_of_f16(uint32_t low_bits) {
    const uint16_t bits = static_cast<uint16_t>(low_bits);
    _Float16 half;
    std::memcpy(&half, &bits, sizeof half);
    return static_cast<float>(half);
}

inline uint32_t round_bf16(float low, float high) { return nearest_bf16(low) | nearest_bf16(high) << 16; }
inline uint32_t round_f16(float low, float high) { return nearest_f16(low) | nearest_f16(high) << 16; }
inline float2 widen_bf16(uint32_t pair) { return {as_float(pair << 16), as_float(pair & 0xffff0000u)}; }
inline float2 widen_f16(uint32_t pair) { return {float_of_f16(pair), float_of_f16(pair >> 16)}; }

int lane_number();

// A tile product from the fragments of all lanes, after the layout in the manual of PTX (mma.m16n8k16).
template <typename Widen>
void multiply(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2], Widen widen) {
    const Words words = {left[0], left[1], left[2], left[3], right[0], right[1]};
    const Words* lanes = warp_exchange(words);
    const auto half_of = [widen](uint32_t pair, int k) { return k % 2 == 0 ? widen(pair).x : widen(pair).y; };
    for (int i = 0; i < 4; ++i) {
        const int row = lane_number() / 4 + (i < 2 ? 0 : 8), column = 2 * (lane_number() % 4) + i % 2;
        for (int k = 0; k < 16; ++k) {
            const uint32_t a = lanes[row % 8 * 4 + k % 8 / 2][(row < 8 ? 0 : 1) + (k < 8 ? 0 : 2)];
            const uint32_t b = lanes[column * 4 + k % 8 / 2][4 + (k < 8 ? 0 : 1)];
            sums[i] += half_of(a, k) * half_of(b, k);
        }
    }
}

inline void multiply_bf16(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
    multiply(sums, left, right, widen_bf16);
}

inline void multiply_f16(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
    multiply(sums, left, right, widen_f16);
}
