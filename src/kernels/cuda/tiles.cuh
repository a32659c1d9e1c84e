// The two products of attention, a strip of 16 rows for each warp.
//
// Results lie as tensor cores leave them. A tile has 16 rows and 8 columns; lane 4 g + t (g 0 to 7, t 0 to 3) holds row g at columns 2t
// and 2t + 1 in its first two values, row g + 8 at the same columns in the other two. As a left factor, lane 4 g + t holds in each of
// four words the pair of columns 2t and 2t + 1 of: row g, row g + 8, row g with eight columns more, row g + 8 with eight columns more.
// As a right factor it holds the pair of rows 2t and 2t + 1, and the pair eight rows further, of column g. So two neighbouring tiles of
// results are, rounded, a left factor of the next product.
//
// 16-bit types go through tensor cores. float32 is multiplied in float32: TF32 would keep 10 of its 23 bits.
#pragma once

#include "numbers.cuh"

// Columns of a tile.
constexpr int TILE = 8;

template <typename T>
struct Tiles {
    // Values from one row in shared memory to the next. The eight after the 32 channels put the rows that a warp reads at once into
    // different banks.
    static constexpr int STRIDE = 40;

    // sums [16, 8 COLUMNS] = left [16, DEPTH] x rightᵀ [8 COLUMNS, DEPTH], from rows in shared memory.
    template <int COLUMNS, int DEPTH>
    static __device__ __forceinline__ void multiply_rows(float (&sums)[COLUMNS][4], const T* left, const T* right, int lane) {
        const int group = lane / 4, pair = 2 * (lane % 4);
        const auto word = [](const T* rows, int row, int column) {
            return *reinterpret_cast<const uint32_t*>(rows + row * STRIDE + column);
        };
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += 16) {
            const uint32_t factor[4] = {
                word(left, group, depth + pair),
                word(left, group + 8, depth + pair),
                word(left, group, depth + pair + 8),
                word(left, group + 8, depth + pair + 8),
            };
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column) {
                const uint32_t other[2] = {
                    word(right, column * TILE + group, depth + pair),
                    word(right, column * TILE + group, depth + pair + 8),
                };
                T::multiply(sums[column], factor, other);
            }
        }
    }

    // sums [16, 8 COLUMNS] = left [16, 8 DEPTHS] x right [8 DEPTHS, 8 COLUMNS]; `left` are results, rounded here, `right` rows in shared
    // memory.
    template <int COLUMNS, int DEPTHS>
    static __device__ __forceinline__ void multiply_results(
        float (&sums)[COLUMNS][4], const float (&left)[DEPTHS][4], const T* right, int lane) {
        const int group = lane / 4, pair = 2 * (lane % 4);
        const auto word = [right](int row, int column) {
            const uint32_t low = right[row * STRIDE + column].bits;
            const uint32_t high = right[(row + 1) * STRIDE + column].bits;
            return low | high << 16;
        };
#pragma unroll
        for (int depth = 0; depth < DEPTHS; depth += 2) {
            const uint32_t factor[4] = {
                T::round(left[depth][0], left[depth][1]),
                T::round(left[depth][2], left[depth][3]),
                T::round(left[depth + 1][0], left[depth + 1][1]),
                T::round(left[depth + 1][2], left[depth + 1][3]),
            };
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column) {
                const int from = depth * TILE + pair;
                const uint32_t other[2] = {word(from, column * TILE + group), word(from + 8, column * TILE + group)};
                T::multiply(sums[column], factor, other);
            }
        }
    }

    static __device__ __forceinline__ float exp(float x) { return T::exp(x); }

    // Writes two neighbouring results.
    static __device__ __forceinline__ void write(T* to, float low, float high) {
        *reinterpret_cast<uint32_t*>(to) = T::round(low, high);
    }
};

template <>
struct Tiles<float> {
    // The four after the 32 channels have the same purpose as above.
    static constexpr int STRIDE = 36;

    template <int COLUMNS, int DEPTH>
    static __device__ __forceinline__ void multiply_rows(
        float (&sums)[COLUMNS][4], const float* left, const float* right, int lane) {
        const int group = lane / 4, pair = 2 * (lane % 4);
#pragma unroll 1
        for (int depth = 0; depth < DEPTH; depth += 4) {
            const auto upper = Chunk<float>::read(left + group * STRIDE + depth);
            const auto lower = Chunk<float>::read(left + (group + 8) * STRIDE + depth);
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column) {
                const auto first = Chunk<float>::read(right + (column * TILE + pair) * STRIDE + depth);
                const auto second = Chunk<float>::read(right + (column * TILE + pair + 1) * STRIDE + depth);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    sums[column][0] += upper.values[i] * first.values[i];
                    sums[column][1] += upper.values[i] * second.values[i];
                    sums[column][2] += lower.values[i] * first.values[i];
                    sums[column][3] += lower.values[i] * second.values[i];
                }
            }
        }
    }

    template <int COLUMNS, int DEPTHS>
    static __device__ __forceinline__ void multiply_results(
        float (&sums)[COLUMNS][4], const float (&left)[DEPTHS][4], const float* right, int lane) {
        const int group = lane / 4, pair = 2 * (lane % 4);
#pragma unroll
        for (int depth = 0; depth < DEPTHS; ++depth) {
#pragma unroll
            for (int row = 0; row < TILE; ++row) {
                // The lane that holds this value of the lane's own row.
                const int holder = 4 * group + row / 2;
                const float upper = shuffle(left[depth][row % 2], holder);
                const float lower = shuffle(left[depth][2 + row % 2], holder);
#pragma unroll
                for (int column = 0; column < COLUMNS; ++column) {
                    const float2 values =
                        *reinterpret_cast<const float2*>(right + (depth * TILE + row) * STRIDE + column * TILE + pair);
                    sums[column][0] += upper * values.x;
                    sums[column][1] += upper * values.y;
                    sums[column][2] += lower * values.x;
                    sums[column][3] += lower * values.y;
                }
            }
        }
    }

    static __device__ __forceinline__ float exp(float x) { return expf(x); }

    static __device__ __forceinline__ void write(float* to, float low, float high) {
        *reinterpret_cast<float2*>(to) = make_float2(low, high);
    }
};
