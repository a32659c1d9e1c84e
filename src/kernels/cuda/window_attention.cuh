// Shifted-window cosine attention of Swin v2 in one pass: from the product of the map with the weights of queries, keys and values,
// [N, H, W, 3C], to what attention gathers, [N, H, W, C]. The map is never padded, rolled or cut into windows: every block works out
// where the tokens of its window lie. src/ops/window_attention.rs has the same in plain operations and is the reference.
//
// One block attends for one head of one window, one warp for 16 of its tokens. Queries and keys are multiplied as they are stored, which
// is exact in bfloat16 and float16; their lengths and the learned scale are applied to the sums, in float32. Softmax is in float32 too;
// its results are rounded to the type of the values before they weight them, as in the plain form.
#pragma once

#include "tiles.cuh"

// Most tokens of a window, and most channels of a head; smaller ones are filled up with zeros.
constexpr int MOST_TOKENS = 64;
constexpr int MOST_CHANNELS = 32;
constexpr int ATTENTION_THREADS = 128;

// What is added to the logits of two tokens that are neighbours only because of the shift.
constexpr float MASKED = -100.0f;
// The least length that a query or key is divided by.
constexpr float LEAST_NORM = 1e-12f;

struct MapShape {
    int height, width, window, shift_rows, shift_cols, heads, head_channels;
};

// Where the tokens of a window lie and what else softmax needs of each.
struct WindowTokens {
    // The pixel, counted over all maps; -1 in the padding.
    int pixel[MOST_TOKENS];
    // Position in the window, such that the difference of two names their entry in the table of position biases.
    int position[MOST_TOKENS];
    // The part of the shifted map; tokens of different parts do not see each other.
    int part[MOST_TOKENS];
    // The logits' scale over the length of the query, and one over the length of the key.
    float query_factor[MOST_TOKENS];
    float key_factor[MOST_TOKENS];
};

// After the shift, the last window of a side holds tokens from the end and from the start of the map.
__device__ __forceinline__ int part_of(int place, int side, int window, int shift) {
    if (shift == 0 || place < side - window) return 0;
    return place < side - shift ? 1 : 2;
}

__device__ __forceinline__ void locate_tokens(WindowTokens& tokens, const MapShape& map, int window_index) {
    const int rows = (map.height + map.window - 1) / map.window, cols = (map.width + map.window - 1) / map.window;
    const int padded_height = rows * map.window, padded_width = cols * map.window;
    const int image = window_index / (rows * cols), in_image = window_index % (rows * cols);
    const int top = in_image / cols * map.window, left = in_image % cols * map.window;
    for (int token = threadIdx.x; token < MOST_TOKENS; token += ATTENTION_THREADS) {
        const int row_in_window = token / map.window, col_in_window = token % map.window;
        const bool exists = row_in_window < map.window;
        const int place_row = top + row_in_window, place_col = left + col_in_window;
        int row = place_row + map.shift_rows, col = place_col + map.shift_cols;
        if (row >= padded_height) row -= padded_height;
        if (col >= padded_width) col -= padded_width;
        const bool inside = exists && row < map.height && col < map.width;
        tokens.pixel[token] = inside ? (image * map.height + row) * map.width + col : -1;
        tokens.position[token] = exists ? row_in_window * (2 * map.window - 1) + col_in_window : 0;
        tokens.part[token] = 3 * part_of(place_row, padded_height, map.window, map.shift_rows) +
                             part_of(place_col, padded_width, map.window, map.shift_cols);
    }
}

// Queries, keys and values of one head into three strips of MOST_TOKENS rows. Pixels of the padding are zero, so their tokens are the bias.
template <typename T>
__device__ __forceinline__ void load_tokens(
    T* strips, const T* qkv, const T* bias, const WindowTokens& tokens, const MapShape& map, int head) {
    constexpr int SIZE = Chunk<T>::SIZE, CHUNKS = MOST_CHANNELS / SIZE, STRIDE = Tiles<T>::STRIDE;
    const int channels = map.heads * map.head_channels, count = map.window * map.window;
#pragma unroll 6
    for (int item = threadIdx.x; item < 3 * MOST_TOKENS * CHUNKS; item += ATTENTION_THREADS) {
        const int channel = item % CHUNKS * SIZE, token = item / CHUNKS % MOST_TOKENS, strip = item / (CHUNKS * MOST_TOKENS);
        Chunk<T> chunk = zeros<T>();
        if (token < count && channel < map.head_channels) {
            const int from = strip * channels + head * map.head_channels + channel;
            const int pixel = tokens.pixel[token];
            if (pixel >= 0) chunk = Chunk<T>::read(qkv + size_t(pixel) * 3 * channels + from);
            chunk = chunk + Chunk<T>::read(bias + from);
        }
        chunk.write(strips + (strip * MOST_TOKENS + token) * STRIDE + channel);
    }
}

template <typename T>
__device__ __forceinline__ float length_of(const T* row) {
    float sum = 0.0f;
#pragma unroll
    for (int channel = 0; channel < MOST_CHANNELS; channel += Chunk<T>::SIZE) {
        const Chunk<T> chunk = Chunk<T>::read(row + channel);
#pragma unroll
        for (int i = 0; i < Chunk<T>::SIZE; ++i) sum += chunk.values[i] * chunk.values[i];
    }
    return fmaxf(sqrtf(sum), LEAST_NORM);
}

// Over the four lanes that hold one row of results.
__device__ __forceinline__ float row_max(float value) {
    value = fmaxf(value, shuffle_xor(value, 1));
    return fmaxf(value, shuffle_xor(value, 2));
}

__device__ __forceinline__ float row_sum(float value) {
    value += shuffle_xor(value, 1);
    return value + shuffle_xor(value, 2);
}

// Turns products of queries and keys into weights of values, for the lane's rows `first` and `first + 8`.
template <typename T, int COLUMNS>
__device__ __forceinline__ void softmax_rows(
    float (&sums)[COLUMNS][4], const WindowTokens& tokens, const float* position_bias, int window, int first, int lane) {
    const int count = window * window, centre = (window - 1) * (2 * window - 1) + window - 1;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int row = first + 8 * half;
        const float factor = tokens.query_factor[row];
        const float* bias = position_bias + tokens.position[row] + centre;
        const int part = tokens.part[row];
        float most = -INFINITY;
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int key = column * TILE + 2 * (lane % 4) + i;
                float& logit = sums[column][2 * half + i];
                logit = logit * factor * tokens.key_factor[key] + bias[-tokens.position[key]];
                if (part != tokens.part[key]) logit += MASKED;
                if (key >= count) logit = -INFINITY;
                most = fmaxf(most, logit);
            }
        }
        most = row_max(most);
        float sum = 0.0f;
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                float& weight = sums[column][2 * half + i];
                weight = Tiles<T>::exp(weight - most);
                sum += weight;
            }
        }
        const float share = 1.0f / row_sum(sum);
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            sums[column][2 * half] *= share;
            sums[column][2 * half + 1] *= share;
        }
    }
}

// `out` is [N, H, W, C], `qkv` [N, H, W, 3C] without its bias, which is `bias` [3C]; `scale` is [heads], `position_bias`
// [heads, 2 window - 1, 2 window - 1], the bias of a query and a key by the query's rows and columns after the key.
template <typename T>
__device__ void window_attention(
    T* out, const T* qkv, const T* bias, const float* scale, const float* position_bias, const MapShape& map) {
    constexpr int STRIDE = Tiles<T>::STRIDE, STRIP = MOST_TOKENS * STRIDE;
    T* const strips = reinterpret_cast<T*>(shared_memory());
    WindowTokens& tokens = *reinterpret_cast<WindowTokens*>(strips + 3 * STRIP);
    float* const head_bias = reinterpret_cast<float*>(&tokens + 1);
    const int thread = threadIdx.x, lane = thread % 32;
    const int head = blockIdx.x % map.heads, window_index = blockIdx.x / map.heads;
    const int biases = (2 * map.window - 1) * (2 * map.window - 1);

    locate_tokens(tokens, map, window_index);
    for (int i = thread; i < biases; i += ATTENTION_THREADS) head_bias[i] = position_bias[size_t(head) * biases + i];
    block_barrier();
    load_tokens(strips, qkv, bias, tokens, map, head);
    block_barrier();
    // The first half of the threads measures queries, the second half keys.
    if (thread < MOST_TOKENS) {
        tokens.query_factor[thread] = scale[head] / length_of(strips + thread * STRIDE);
    } else {
        tokens.key_factor[thread - MOST_TOKENS] = 1.0f / length_of(strips + thread * STRIDE);
    }
    block_barrier();

    const int strip_row = thread / 32 * 16;
    if (strip_row >= map.window * map.window) return;
    float weights[MOST_TOKENS / TILE][4] = {};
    Tiles<T>::template multiply_rows<MOST_TOKENS / TILE, MOST_CHANNELS>(weights, strips + strip_row * STRIDE, strips + STRIP, lane);
    softmax_rows<T>(weights, tokens, head_bias, map.window, strip_row + lane / 4, lane);
    float gathered[MOST_CHANNELS / TILE][4] = {};
    Tiles<T>::template multiply_results<MOST_CHANNELS / TILE, MOST_TOKENS / TILE>(gathered, weights, strips + 2 * STRIP, lane);

#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int pixel = tokens.pixel[strip_row + lane / 4 + 8 * half];
        if (pixel < 0) continue;
        T* const to = out + (size_t(pixel) * map.heads + head) * map.head_channels + 2 * (lane % 4);
#pragma unroll
        for (int column = 0; column < MOST_CHANNELS / TILE; ++column) {
            if (column * TILE < map.head_channels) {
                Tiles<T>::write(to + column * TILE, gathered[column][2 * half], gathered[column][2 * half + 1]);
            }
        }
    }
}
