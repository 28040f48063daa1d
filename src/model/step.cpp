// GPT-2's step of one token for each of B texts: what gpt2.py computes for it, as one function.
//
// compiled.py compiles this file and calls the functions at its end. The weights stay where they are, in the order of
// oneDNN's kernels or of int8.py; every thread reads its share of them once, from the first layer to the last, and waits
// for the others only where it needs their numbers. All sums are in float32.
//
// Shapes: B texts, C = n_embd, V = vocab_size, S tokens so far, the new one included. Matrices are row by row.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t BLOCK = 64;  // outputs of a linear layer whose weights lie together
constexpr int64_t GROUP = 64;  // inputs of an output whose weights share a scale, in int8
constexpr int64_t HEAD = 64;   // numbers of a head, as in GPT-2 of any size
// How far ahead of its use memory is asked for: by itself, a processor reads ahead within a page only.
constexpr int64_t BYTES_AHEAD = 8192, TOKENS_AHEAD = 16;
#ifdef __AVX512F__
constexpr int LANES = 16;  // numbers in a register of the processor
constexpr int TILE = 6;    // texts that are computed together: as many as there are registers for
#else
constexpr int LANES = 8;
constexpr int TILE = 3;
#endif
constexpr int VECTORS = 4, STRIP = VECTORS * LANES;  // outputs of a block that are computed together

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef int32_t integers __attribute__((vector_size(4 * LANES)));

struct bfloat16 {
    uint16_t bits;
};

// The structures have the fields of those in compiled.py, in the same order.

struct Linear {
    const void* weight;  // (blocks, n_in / n, BLOCK, n), where n numbers fill four bytes
    const float* scale;  // (blocks, n_in / GROUP, BLOCK), in int8
    const float* bias;   // (n_out,), or null
    int64_t n_in, n_out;
    int64_t block_size;  // numbers from one block to the next
};

struct Norm {
    const float *weight, *bias;  // (C,)
};

struct Layer {
    Norm ln_1;
    Linear attn_c_attn, attn_c_proj;
    Norm ln_2;
    Linear mlp_c_fc, mlp_c_proj;
};

struct Cache {
    float *key, *value;         // of the first token in the first text
    int64_t text, head, token;  // numbers from one to the next
    int64_t length;             // tokens
};

struct LayerCache {
    Cache prefix, own;  // the prefix is the same for all texts, and may be empty; own has room for the new token
};

struct Model {
    int64_t n_layer, n_embd;
    float epsilon;
    const Layer* layers;
    Norm ln_f;
    Linear readout;    // its weight is the token embedding
    const float* wpe;  // (n_positions, C)
};

// e^x, vectorised by the compiler; the polynomial is that of expf in Moshier's Cephes library.
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float n = std::nearbyint(x * 1.44269504f);  // e^x = 2^n e^r
    const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = ((p * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f;
    p = (p * r + 5.0000001201e-1f) * r * r + r + 1.0f;
    const int32_t bits = (int32_t(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

// GELU in its tanh approximation, with tanh(z) = 2 / (1 + e^(-2z)) - 1 and 2 sqrt(2 / pi) = 1.5957691.
inline float gelu(float x) {
    return x / (1.0f + exponential(-1.5957691f * (x + 0.044715f * x * x * x)));
}

// Read a register's numbers from a long row of weights.
template <typename Register>
inline void read(const void* weight, Register& numbers) {
    std::memcpy(&numbers, weight, sizeof numbers);
    __builtin_prefetch(static_cast<const char*>(weight) + BYTES_AHEAD);
}

// Add the products of R rows of x (R, n_in) with the weights of a strip to sums.
template <int R>
inline void multiply(const float* weight, const float*, const float* x, int64_t n_in, floats (&sums)[R][VECTORS]) {
    for (int64_t i = 0; i < n_in; i++, weight += BLOCK)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            floats w;
            read(weight + v * LANES, w);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++)
                sums[r][v] += w * x[r * n_in + i];
        }
}

// The same in bfloat16, which is the upper half of a float32: four bytes hold the weights of two inputs.
template <int R>
inline void multiply(const bfloat16* weight, const float*, const float* x, int64_t n_in, floats (&sums)[R][VECTORS]) {
    for (int64_t i = 0; i < n_in; i += 2, weight += 2 * BLOCK)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            words both;
            read(weight + 2 * v * LANES, both);
            const floats even = floats(both << 16), odd = floats(both & 0xffff0000u);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++)
                sums[r][v] += even * x[r * n_in + i];
#pragma GCC unroll 6
            for (int r = 0; r < R; r++)
                sums[r][v] += odd * x[r * n_in + i + 1];
        }
}

// The same in int8, where GROUP inputs of an output share a scale: four bytes hold the weights of four inputs.
template <int R>
inline void multiply(const int8_t* weight, const float* scale, const float* x, int64_t n_in, floats (&sums)[R][VECTORS]) {
    for (int64_t group = 0; group < n_in; group += GROUP, scale += BLOCK) {
        floats scales[VECTORS];
        std::memcpy(scales, scale, sizeof scales);
        for (int64_t i = group; i < group + GROUP; i += 4, weight += 4 * BLOCK)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) {
                integers four;
                read(weight + 4 * v * LANES, four);
#pragma GCC unroll 4
                for (int k = 0; k < 4; k++) {
                    const floats w = __builtin_convertvector((four << (24 - 8 * k)) >> 24, floats) * scales[v];
#pragma GCC unroll 6
                    for (int r = 0; r < R; r++)
                        sums[r][v] += w * x[r * n_in + i + k];
                }
            }
    }
}

enum Then { STORE, GELU, ADD };  // what becomes of a product: y = product, y = gelu(product), y += product

template <int R, typename W>
void linear_block(const Linear& layer, int64_t block, const float* x, float* y, Then then) {
    constexpr int64_t n = 4 / sizeof(W);
    for (int64_t strip = 0; strip < BLOCK; strip += STRIP) {
        floats sums[R][VECTORS] = {};
        const W* weight = static_cast<const W*>(layer.weight) + block * layer.block_size + strip * n;
        const float* scale = layer.scale + block * (layer.n_in / GROUP) * BLOCK + strip;
        multiply<R>(weight, scale, x, layer.n_in, sums);
        const int64_t start = block * BLOCK + strip, size = std::min<int64_t>(STRIP, layer.n_out - start);
        for (int r = 0; r < R; r++) {
            float product[STRIP], *out = y + r * layer.n_out + start;
            std::memcpy(product, sums[r], sizeof product);
            for (int64_t i = 0; i < size && layer.bias; i++)
                product[i] += layer.bias[start + i];
            for (int64_t i = 0; i < size; i++)
                out[i] = then == GELU ? gelu(product[i]) : then == ADD ? out[i] + product[i] : product[i];
        }
    }
}

// Multiply rows of x (rows, n_in) by the layer's weight into y (rows, n_out). The threads share the blocks.
template <typename W>
void linear(const Linear& layer, const float* x, int64_t rows, float* y, Then then) {
    const int64_t blocks = (layer.n_out + BLOCK - 1) / BLOCK;
#pragma omp for schedule(static)
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t row = 0; row < rows; row += TILE) {
            const float* from = x + row * layer.n_in;
            float* to = y + row * layer.n_out;
            switch (std::min<int64_t>(rows - row, TILE)) {
                case 1: linear_block<1, W>(layer, block, from, to, then); break;
                case 2: linear_block<2, W>(layer, block, from, to, then); break;
                case 3: linear_block<3, W>(layer, block, from, to, then); break;
                case 4: linear_block<4, W>(layer, block, from, to, then); break;
                case 5: linear_block<5, W>(layer, block, from, to, then); break;
                case 6: linear_block<6, W>(layer, block, from, to, then); break;
            }
        }
}

void layer_norm(const Norm& norm, const float* x, int64_t rows, int64_t n, float epsilon, float* y) {
    for (const float* end = x + rows * n; x < end; x += n, y += n) {
        float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++)
            sum += x[i];
        const float mean = sum / n;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < n; i++)
            squares += (x[i] - mean) * (x[i] - mean);
        const float scale = 1 / std::sqrt(squares / n + epsilon);
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * scale * norm.weight[i] + norm.bias[i];
    }
}

inline float sum(const floats& numbers) {
    float lanes[LANES], total = 0;
    std::memcpy(lanes, &numbers, sizeof lanes);
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < LANES; i++)
        total += lanes[i];
    return total;
}

// softmax(query keys^T / sqrt(HEAD)) values for one head of one text, (HEAD,) -> (HEAD,); scores has room for S numbers.
void attend(const LayerCache& cache, int64_t text, int64_t head, const float* query, float* scores, float* y) {
    constexpr int N = HEAD / LANES;
    floats q[N], k[N], v[N], weighted[N] = {};
    std::memcpy(q, query, sizeof q);
    float* score = scores;
    for (const Cache* part : {&cache.prefix, &cache.own}) {
        const float* key = part->key + text * part->text + head * part->head;
        for (int64_t t = 0; t < part->length; t++, key += part->token) {
            floats product = {};
            for (int i = 0; i < N; i++)
                __builtin_prefetch(key + TOKENS_AHEAD * part->token + i * LANES);
            std::memcpy(k, key, sizeof k);
            for (int i = 0; i < N; i++)
                product += q[i] * k[i];
            *score++ = sum(product) / std::sqrt(float(HEAD));
        }
    }
    const float largest = *std::max_element(scores, score);
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (float* s = scores; s < score; s++)
        total += *s = exponential(*s - largest);

    score = scores;
    for (const Cache* part : {&cache.prefix, &cache.own}) {
        const float* value = part->value + text * part->text + head * part->head;
        for (int64_t t = 0; t < part->length; t++, value += part->token, score++) {
            std::memcpy(v, value, sizeof v);
            for (int i = 0; i < N; i++)
                __builtin_prefetch(value + TOKENS_AHEAD * part->token + i * LANES);
            for (int i = 0; i < N; i++)
                weighted[i] += *score * v[i];
        }
    }
    for (int i = 0; i < N; i++)
        weighted[i] /= total;
    std::memcpy(y, weighted, sizeof weighted);
}

// Attention of the new tokens, whose queries, keys and values are in qkv, (B, 3 C) -> (B, C).
void attention(const LayerCache& cache, const float* qkv, int64_t B, int64_t C, float* scores, float* y) {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < C / HEAD * B; i++) {  // a head's texts follow each other: they find its prefix in the cache
        const int64_t head = i / B, text = i % B;
        const float* query = qkv + text * 3 * C + head * HEAD;
        const Cache& own = cache.own;
        const int64_t place = text * own.text + head * own.head + (own.length - 1) * own.token;
        std::memcpy(own.key + place, query + C, HEAD * sizeof(float));
        std::memcpy(own.value + place, query + 2 * C, HEAD * sizeof(float));
        attend(cache, text, head, query, scores, y + text * C + head * HEAD);
    }
}

inline float to_float(float weight) {
    return weight;
}

inline float to_float(bfloat16 weight) {
    const uint32_t bits = uint32_t(weight.bits) << 16;
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
}

// The embeddings of tokens, (B,) -> (B, C).
template <typename W>
void embed(const Linear& readout, const int64_t* tokens, int64_t B, float* x) {
    constexpr int64_t n = 4 / sizeof(W);
    for (int64_t b = 0; b < B; b++, x += readout.n_in) {
        const int64_t block = tokens[b] / BLOCK, output = tokens[b] % BLOCK;
        const W* weight = static_cast<const W*>(readout.weight) + block * readout.block_size + output * n;
        for (int64_t i = 0; i < readout.n_in; i++)
            x[i] = to_float(weight[i / n * n * BLOCK + i % n]);
    }
}

// From the tokens' embeddings x (B, C), which are overwritten, to logits (B, V).
template <typename W>
void step(const Model& model, const LayerCache* caches, int64_t B, float* x, float* logits) {
    const int64_t C = model.n_embd, S = caches->prefix.length + caches->own.length;
    std::vector<float> qkv(B * 3 * C), attended(B * C), hidden(B * model.layers->mlp_c_fc.n_out);
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < C; i++)
            x[b * C + i] += model.wpe[(S - 1) * C + i];
#pragma omp parallel
    {
        std::vector<float> normed(B * C), scores(S);  // each thread has its own
        for (int64_t i = 0; i < model.n_layer; i++) {
            const Layer& layer = model.layers[i];
            layer_norm(layer.ln_1, x, B, C, model.epsilon, normed.data());
            linear<W>(layer.attn_c_attn, normed.data(), B, qkv.data(), STORE);
            attention(caches[i], qkv.data(), B, C, scores.data(), attended.data());
            linear<W>(layer.attn_c_proj, attended.data(), B, x, ADD);
            layer_norm(layer.ln_2, x, B, C, model.epsilon, normed.data());
            linear<W>(layer.mlp_c_fc, normed.data(), B, hidden.data(), GELU);
            linear<W>(layer.mlp_c_proj, hidden.data(), B, x, ADD);
        }
        layer_norm(model.ln_f, x, B, C, model.epsilon, normed.data());
        linear<W>(model.readout, normed.data(), B, logits, STORE);
    }
}

}  // namespace

// Append keys and values of tokens (B,) to the caches, one a layer, and write the logits (B, V) of those that follow.
// All tokens are below V; x (B, C) is scratch.
extern "C" void gpt2_step_float32(
    const Model* model, const LayerCache* caches, const int64_t* tokens, int64_t B, float* x, float* logits) {
    embed<float>(model->readout, tokens, B, x);
    step<float>(*model, caches, B, x, logits);
}

extern "C" void gpt2_step_bfloat16(
    const Model* model, const LayerCache* caches, const int64_t* tokens, int64_t B, float* x, float* logits) {
    embed<bfloat16>(model->readout, tokens, B, x);
    step<bfloat16>(*model, caches, B, x, logits);
}

// The same, but x holds the tokens' embeddings, which are not rounded to int8.
extern "C" void gpt2_step_int8(
    const Model* model, const LayerCache* caches, const int64_t*, int64_t B, float* x, float* logits) {
    step<int8_t>(*model, caches, B, x, logits);
}

// A linear layer in int8, (rows, n_in) -> (rows, n_out).
extern "C" void linear_int8(const Linear* layer, const float* x, int64_t rows, float* y) {
#pragma omp parallel
    linear<int8_t>(*layer, x, rows, y, STORE);
}
