// The trilinear form on the GPU: each slot by plain summation, and the two moves of the algorithm `gemm`.
//
//     T(x, w, y) = sum  x[n, g, c, i] * w[(o), g, f, c, k] * y[n, g, f, o]        i = o*stride + k*step + origin
//
// Before this source come the names of the entries of the table `g` (SIZE, KERNEL, ..., from kernels_cpu/table.py) and the
// types: ELEMENT_TYPE of the arrays, SUM_TYPE in which sums are kept. The source is for NVRTC and, in tests, for g++: no warp intrinsics,
// 64-bit offsets, loops that cover the problem whatever the grid, and barriers that every thread of a block reaches.

typedef long long i64;

// ----- Element types that C++ does not have -----

struct float16 {
    unsigned short bits;
    __device__ operator float() const {
#ifdef __CUDACC__
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
#else
        _Float16 value;
        memcpy(&value, &bits, 2);
        return value;
#endif
    }
};

struct bfloat16 {  // the upper half of a float32
    unsigned short bits;
    __device__ operator float() const {
        unsigned int wide = (unsigned int)bits << 16;
        float value;
        memcpy(&value, &wide, 4);
        return value;
    }
};

template <typename R> struct complex_of {
    R re, im;
    complex_of() = default;
    __device__ complex_of(R re, R im = R(0)) : re(re), im(im) {}
    __device__ complex_of& operator+=(complex_of b) { re += b.re; im += b.im; return *this; }
    __device__ friend complex_of operator*(complex_of a, complex_of b) {
        return complex_of(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re);
    }
};

template <typename E, typename S> __device__ inline void store(E* place, S sum) { *place = E(sum); }

__device__ inline void store(bool* place, int sum) { *place = sum != 0; }

__device__ inline void store(float16* place, float sum) {  // round to nearest, ties to even
#ifdef __CUDACC__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(place->bits) : "f"(sum));
#else
    _Float16 value = (_Float16)sum;
    memcpy(&place->bits, &value, 2);
#endif
}

__device__ inline void store(bfloat16* place, float sum) {
    unsigned int wide;
    memcpy(&wide, &sum, 4);
    if (sum != sum) wide |= 0x400000u;  // rounding must not turn a NaN into an infinity
    else wide += 0x7fffu + (wide >> 16 & 1u);
    place->bits = (unsigned short)(wide >> 16);
}

typedef ELEMENT_TYPE ELEMENT;
typedef SUM_TYPE SUM;

// ----- Index algebra -----

#define EVERY(t, total) (i64 t = (i64)blockIdx.x * blockDim.x + threadIdx.x; t < (total); t += (i64)gridDim.x * blockDim.x)

__device__ inline i64 product(const i64* n) { return n[0] * n[1] * n[2]; }

__device__ inline i64 dot(const i64* a, const i64* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// Write t, counted through an array of `sizes`, as three indices, and return what is left.
__device__ inline i64 split(i64 t, const i64* sizes, i64* index) {
#pragma unroll
    for (int a = 2; a >= 0; --a) {
        index[a] = t % sizes[a];
        t /= sizes[a];
    }
    return t;
}

// The input index under output o and tap k of one axis, or -1 in the padding.
__device__ inline i64 input_of(const i64* g, int axis, i64 o, i64 k) {
    const i64 i = o * g[STRIDE + axis] + k * g[STEP + axis] + g[ORIGIN + axis];
    return i >= 0 && i < g[SIZE + axis] ? i : -1;
}

// The output index that tap k ties to input i on one axis, or -1 if there is none.
__device__ inline i64 output_of(const i64* g, int axis, i64 i, i64 k) {
    const i64 t = i - k * g[STEP + axis] - g[ORIGIN + axis];
    if (t < 0 || t % g[STRIDE + axis]) return -1;
    const i64 o = t / g[STRIDE + axis];
    return o < g[OUT + axis] ? o : -1;
}

// ----- Plain summation -----

extern "C" __global__ void forward(const ELEMENT* x, const ELEMENT* w, ELEMENT* y, const i64* g) {
    const i64 maps = g[GROUPS] * g[COUT];
    for EVERY(t, g[BATCH] * maps * product(g + OUT)) {
        i64 o[3];
        const i64 nf = split(t, g + OUT, o), n = nf / maps, f = nf % maps;
        const ELEMENT* image = x + n * g[X_N] + f / g[COUT] * g[CIN] * g[X_C];
        const ELEMENT* filter = w + f * g[W_F] + dot(o, g + W_O);
        SUM sum = SUM(0);
        for (i64 c = 0; c < g[CIN]; ++c)
            for (i64 kz = 0; kz < g[KERNEL]; ++kz) {
                const i64 iz = input_of(g, 0, o[0], kz);
                if (iz < 0) continue;
                for (i64 ky = 0; ky < g[KERNEL + 1]; ++ky) {
                    const i64 iy = input_of(g, 1, o[1], ky);
                    if (iy < 0) continue;
                    const ELEMENT* row = image + c * g[X_C] + iz * g[X_I] + iy * g[X_I + 1];
                    const ELEMENT* taps = filter + c * g[W_C] + kz * g[W_K] + ky * g[W_K + 1];
                    for (i64 kx = 0; kx < g[KERNEL + 2]; ++kx) {
                        const i64 ix = input_of(g, 2, o[2], kx);
                        if (ix >= 0) sum += SUM(row[ix * g[X_I + 2]]) * SUM(taps[kx * g[W_K + 2]]);
                    }
                }
            }
        store(y + n * g[Y_N] + f * g[Y_F] + dot(o, g + Y_O), sum);
    }
}

extern "C" __global__ void inputs(ELEMENT* x, const ELEMENT* w, const ELEMENT* y, const i64* g) {
    const i64 maps = g[GROUPS] * g[CIN];
    for EVERY(t, g[BATCH] * maps * product(g + SIZE)) {
        i64 i[3], o[3];
        const i64 nc = split(t, g + SIZE, i), n = nc / maps, group = nc % maps / g[CIN], c = nc % g[CIN];
        const ELEMENT* image = y + n * g[Y_N] + group * g[COUT] * g[Y_F];
        const ELEMENT* filter = w + group * g[COUT] * g[W_F] + c * g[W_C];
        SUM sum = SUM(0);
        for (i64 f = 0; f < g[COUT]; ++f)
            for (i64 kz = 0; kz < g[KERNEL]; ++kz) {
                if ((o[0] = output_of(g, 0, i[0], kz)) < 0) continue;
                for (i64 ky = 0; ky < g[KERNEL + 1]; ++ky) {
                    if ((o[1] = output_of(g, 1, i[1], ky)) < 0) continue;
                    for (i64 kx = 0; kx < g[KERNEL + 2]; ++kx) {
                        if ((o[2] = output_of(g, 2, i[2], kx)) < 0) continue;
                        const i64 tap = kz * g[W_K] + ky * g[W_K + 1] + kx * g[W_K + 2] + dot(o, g + W_O);
                        sum += SUM(image[f * g[Y_F] + dot(o, g + Y_O)]) * SUM(filter[f * g[W_F] + tap]);
                    }
                }
            }
        store(x + n * g[X_N] + (group * g[CIN] + c) * g[X_C] + dot(i, g + X_I), sum);
    }
}

// One block per weight: its threads share the sum, which is added up as a tree, in the same order every time.
extern "C" __global__ void __launch_bounds__(128)
weights(const ELEMENT* x, ELEMENT* w, const ELEMENT* y, const i64* g, i64 unshared) {
    __shared__ SUM parts[128];
    i64 own[3], summed[3];  // the outputs that a weight has to itself, and those it is the sum over
    for (int a = 0; a < 3; ++a) {
        own[a] = unshared ? g[OUT + a] : 1;
        summed[a] = unshared ? 1 : g[OUT + a];
    }
    const i64 total = g[GROUPS] * g[COUT] * g[CIN] * product(g + KERNEL) * product(own);
    for (i64 t = blockIdx.x; t < total; t += gridDim.x) {
        i64 o[3], k[3], place[3], i[3];
        const i64 fc = split(split(t, own, place), g + KERNEL, k), f = fc / g[CIN], c = fc % g[CIN];
        const ELEMENT* image = x + (f / g[COUT] * g[CIN] + c) * g[X_C];
        SUM sum = SUM(0);
        for (i64 s = threadIdx.x; s < g[BATCH] * product(summed); s += blockDim.x) {
            const i64 n = split(s, summed, o);
            bool inside = true;
            for (int a = 0; a < 3; ++a) {
                if (unshared) o[a] = place[a];
                inside = inside && (i[a] = input_of(g, a, o[a], k[a])) >= 0;
            }
            if (inside) sum += SUM(image[n * g[X_N] + dot(i, g + X_I)]) * SUM(y[n * g[Y_N] + f * g[Y_F] + dot(o, g + Y_O)]);
        }
        parts[threadIdx.x] = sum;
        for (unsigned half = blockDim.x / 2; half; half /= 2) {
            __syncthreads();
            if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
        }
        if (threadIdx.x == 0) store(w + f * g[W_F] + c * g[W_C] + dot(k, g + W_K) + dot(place, g + W_O), parts[0]);
        __syncthreads();
    }
}

// ----- The moves of gemm: column (n, o), row (channel, tap) -----

// columns[n, row, o] = x[first + n, channel, i(o, k)], zero in the padding
extern "C" __global__ void im2col(const ELEMENT* x, ELEMENT* columns, const i64* g, i64 first, i64 count, i64 step_n, i64 step_row) {
    const i64 places = product(g + OUT), rows = g[GROUPS] * g[CIN] * product(g + KERNEL);
    for EVERY(t, count * rows * places) {
        i64 o[3], k[3], i[3];
        const i64 nr = split(t, g + OUT, o), n = nr / rows, row = nr % rows, c = split(row, g + KERNEL, k);
        bool inside = true;
        for (int a = 0; a < 3; ++a) inside = inside && (i[a] = input_of(g, a, o[a], k[a])) >= 0;
        ELEMENT value = ELEMENT();
        if (inside) value = x[(first + n) * g[X_N] + c * g[X_C] + dot(i, g + X_I)];
        columns[n * step_n + row * step_row + t % places] = value;
    }
}

// The transpose: every input gathers the columns it went to, so that no two threads add to the same place.
extern "C" __global__ void col2im(const SUM* columns, ELEMENT* x, const i64* g, i64 first, i64 count, i64 step_n, i64 step_row) {
    const i64 channels = g[GROUPS] * g[CIN], taps = product(g + KERNEL);
    for EVERY(t, count * channels * product(g + SIZE)) {
        i64 i[3], o[3];
        const i64 nc = split(t, g + SIZE, i), n = nc / channels, c = nc % channels;
        const SUM* source = columns + n * step_n + c * taps * step_row;
        SUM sum = SUM(0);
        for (i64 kz = 0; kz < g[KERNEL]; ++kz) {
            if ((o[0] = output_of(g, 0, i[0], kz)) < 0) continue;
            for (i64 ky = 0; ky < g[KERNEL + 1]; ++ky) {
                if ((o[1] = output_of(g, 1, i[1], ky)) < 0) continue;
                for (i64 kx = 0; kx < g[KERNEL + 2]; ++kx) {
                    if ((o[2] = output_of(g, 2, i[2], kx)) < 0) continue;
                    const i64 row = (kz * g[KERNEL + 1] + ky) * g[KERNEL + 2] + kx;
                    sum += source[row * step_row + (o[0] * g[OUT + 1] + o[1]) * g[OUT + 2] + o[2]];
                }
            }
        }
        store(x + (first + n) * g[X_N] + c * g[X_C] + dot(i, g + X_I), sum);
    }
}
