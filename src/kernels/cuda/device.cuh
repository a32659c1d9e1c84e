// What the kernels take from the device: barriers, shuffles, rounding and tile products. emulator.hpp has the same names for a CPU, so
// that the kernels themselves are compiled for both from one text.
#pragma once

#ifdef SATLAS_EMULATED
#include "emulator.hpp"
#else

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern __shared__ __align__(16) unsigned char launched_shared[];

// The block's shared memory, as many bytes as the launch asked for.
__device__ __forceinline__ unsigned char* shared_memory() { return launched_shared; }

__device__ __forceinline__ void block_barrier() { __syncthreads(); }

// The value of the lane whose number differs in the bits of `mask`. All lanes of the warp take part.
__device__ __forceinline__ float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

// The value of a lane. All lanes of the warp take part.
__device__ __forceinline__ float shuffle(float value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }

// e^x, to a few units in the last place of a float.
__device__ __forceinline__ float quick_exp(float x) { return __expf(x); }

// Two values rounded to the nearest bfloat16, the low one in the low half.
__device__ __forceinline__ uint32_t round_bf16(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
}

// Two values rounded to the nearest float16, the low one in the low half.
__device__ __forceinline__ uint32_t round_f16(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ __forceinline__ float2 widen_bf16(uint32_t pair) {
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

__device__ __forceinline__ float2 widen_f16(uint32_t pair) { return __half22float2(*reinterpret_cast<const __half2*>(&pair)); }

// sums [16, 8] += left [16, 16] x right [16, 8], in the fragments that tiles.cuh describes; factors in bfloat16, sums in float32.
__device__ __forceinline__ void multiply_bf16(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

// The same with factors in float16.
__device__ __forceinline__ void multiply_f16(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

#endif
