// A libcudnn.so.9 that convolves on the CPU: the entry points that kernels_gpu/cudnn_backend.py uses, strict about their use.
//
// It checks what the real library checks (finalized references, sizes that fit, nothing set afterwards) and computes in
// double, through the strides it was told. So everything of ours is tested but the numbers of the interface itself.
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

typedef std::vector<int64_t> Ints;

enum Kind { POINTWISE = 0, CONVOLUTION = 1, ENGINE, CONFIG, HEURISTIC, PLAN, FORWARD = 10, WEIGHTS, INPUTS, OPERATION_POINTWISE, GRAPH = 15, PACK, TENSOR };
enum Status { OK = 0, BAD_PARAMETER = 2000, NOT_FINALIZED = 2004, NULL_POINTER = 2002, NOT_SUPPORTED = 3000 };
enum Type { DATA_TYPE = 1, BOOLEAN = 2, INT64 = 3, FLOAT = 4, DOUBLE = 5, POINTER = 6, DESCRIPTOR = 15 };

struct Descriptor {
    int kind;
    bool finalized = false;
    int engine = 0;  // of a configuration
    std::map<int, std::vector<char>> bytes;
    std::map<int, std::vector<Descriptor*>> references;

    template <typename T> std::vector<T> get(int attribute) {
        const auto& raw = bytes[attribute];
        std::vector<T> values(raw.size() / sizeof(T));
        memcpy(values.data(), raw.data(), raw.size());
        return values;
    }
    Descriptor* to(int attribute) { return references[attribute].at(0); }
};

// The half types: computed in double, rounded once (to nearest, ties to even).
typedef _Float16 float16;
struct bfloat16 {
    uint16_t bits;
    bfloat16() = default;
    bfloat16(double value) {
        const float narrow = (float)value;
        uint32_t wide;
        memcpy(&wide, &narrow, 4);
        if (narrow == narrow) wide += 0x7fffu + (wide >> 16 & 1u);
        bits = (uint16_t)(wide >> 16);
    }
    operator double() const {
        const uint32_t wide = (uint32_t)bits << 16;
        float value;
        memcpy(&value, &wide, 4);
        return value;
    }
};

static std::string last;
static int fail(int status, const char* message) {
    last = message;
    return status;
}

// The roles of an operation's descriptors, from its first attribute: alpha, beta, convolution, then its three tensors.
struct Operation {
    Descriptor *x, *w, *y, *convolution;
    explicit Operation(Descriptor* d) {
        const int base = d->kind == FORWARD ? 700 : d->kind == INPUTS ? 706 : 712;
        convolution = d->to(base + 2);
        w = d->to(base + 3);
        x = d->to(base + 4);
        y = d->to(base + 5);
    }
};

static int check_operation(Descriptor* d) {
    Operation op(d);
    const Ints x = op.x->get<int64_t>(902), w = op.w->get<int64_t>(902), y = op.y->get<int64_t>(902);
    const Ints before = op.convolution->get<int64_t>(105), after = op.convolution->get<int64_t>(104);
    const Ints stride = op.convolution->get<int64_t>(103), dilation = op.convolution->get<int64_t>(102);
    if (x[0] != y[0] || w[0] != y[1] || x[1] % w[1] || w[0] % (x[1] / w[1])) return fail(BAD_PARAMETER, "channels do not fit");
    for (size_t a = 0; a < stride.size(); ++a) {
        if (before[a] < 0 || after[a] < 0) return fail(BAD_PARAMETER, "negative padding");
        if ((x[a + 2] + before[a] + after[a] - dilation[a] * (w[a + 2] - 1) - 1) / stride[a] + 1 != y[a + 2])
            return fail(BAD_PARAMETER, "spatial sizes do not fit");
    }
    return OK;
}

template <typename T> static int convolve(Descriptor* d, std::map<int64_t, char*>& arrays) {
    Operation op(d);
    T *x = (T*)arrays[op.x->get<int64_t>(906)[0]], *w = (T*)arrays[op.w->get<int64_t>(906)[0]], *y = (T*)arrays[op.y->get<int64_t>(906)[0]];
    Descriptor* tensors[] = {op.x, op.w, op.y};
    T* data[] = {x, w, y};
    for (int t = 0; t < 3; ++t)
        if (tensors[t]->bytes.count(907) == 0 && (uintptr_t)data[t] % tensors[t]->get<int64_t>(900)[0]) return fail(BAD_PARAMETER, "an array is not aligned as promised");
    const Ints xn = op.x->get<int64_t>(902), wn = op.w->get<int64_t>(902), yn = op.y->get<int64_t>(902);
    const Ints xs = op.x->get<int64_t>(903), ws = op.w->get<int64_t>(903), ys = op.y->get<int64_t>(903);
    const Ints before = op.convolution->get<int64_t>(105), stride = op.convolution->get<int64_t>(103);
    const Ints dilation = op.convolution->get<int64_t>(102);
    const bool flipped = op.convolution->get<int>(101)[0] == 0;
    const size_t nd = stride.size();
    const int64_t per_group = yn[1] / (xn[1] / wn[1]);

    // Every product of the convolution once, added to the place of the result in the order of the result's own index.
    std::map<int64_t, double> sums;
    Ints sizes = {yn[0], yn[1]}, index;
    sizes.insert(sizes.end(), yn.begin() + 2, yn.end());
    sizes.push_back(wn[1]);
    sizes.insert(sizes.end(), wn.begin() + 2, wn.end());
    index.assign(sizes.size(), 0);
    const Ints& rn = d->kind == FORWARD ? yn : d->kind == INPUTS ? xn : wn;
    const Ints& rs = d->kind == FORWARD ? ys : d->kind == INPUTS ? xs : ws;
    Ints r(rn.size(), 0);
    for (bool more = true; more;) {  // results without any product are zero
        int64_t at = 0;
        for (size_t a = 0; a < r.size(); ++a) at += r[a] * rs[a];
        sums[at] = 0;
        more = false;
        for (size_t a = 0; a < r.size() && !more; ++a)
            if (++r[a] < rn[a]) more = true;
            else r[a] = 0;
    }
    for (bool more = true; more;) {
        const int64_t n = index[0], f = index[1], c = index[2 + nd];
        int64_t xi = n * xs[0] + (f / per_group * wn[1] + c) * xs[1], wi = f * ws[0] + c * ws[1], yi = n * ys[0] + f * ys[1];
        bool inside = true;
        for (size_t a = 0; a < nd; ++a) {
            const int64_t o = index[2 + a], k = index[3 + nd + a], i = o * stride[a] - before[a] + k * dilation[a];
            inside = inside && i >= 0 && i < xn[a + 2];
            xi += i * xs[a + 2];
            yi += o * ys[a + 2];
            wi += (flipped ? wn[a + 2] - 1 - k : k) * ws[a + 2];
        }
        if (inside) {
            if (d->kind == FORWARD) sums[yi] += (double)x[xi] * (double)w[wi];
            if (d->kind == INPUTS) sums[xi] += (double)y[yi] * (double)w[wi];
            if (d->kind == WEIGHTS) sums[wi] += (double)x[xi] * (double)y[yi];
        }
        more = false;
        for (size_t a = 0; a < index.size() && !more; ++a)
            if (++index[a] < sizes[a]) more = true;
            else index[a] = 0;
    }
    T* result = d->kind == FORWARD ? y : d->kind == INPUTS ? x : w;
    for (const auto& sum : sums) result[sum.first] = (T)sum.second;
    return OK;
}

// y = x + b, b one number for each channel, or y = max(x, 0).
template <typename T> static int combine(Descriptor* d, std::map<int64_t, char*>& arrays) {
    Descriptor *x = d->to(751), *y = d->to(753), *b = d->references.count(752) ? d->to(752) : nullptr;
    const Ints n = y->get<int64_t>(902), xs = x->get<int64_t>(903), ys = y->get<int64_t>(903);
    const T *from = (T*)arrays[x->get<int64_t>(906)[0]], *more = b ? (T*)arrays[b->get<int64_t>(906)[0]] : nullptr;
    T* to = (T*)arrays[y->get<int64_t>(906)[0]];
    const int mode = d->to(750)->get<int>(0)[0];
    if (mode != (b ? 0 : 100)) return fail(NOT_SUPPORTED, "mode of a pointwise operation");
    Ints i(n.size(), 0);
    for (bool go = true; go;) {
        int64_t xi = 0, yi = 0;
        for (size_t a = 0; a < n.size(); ++a) xi += i[a] * xs[a], yi += i[a] * ys[a];
        const double value = (double)from[xi];
        to[yi] = (T)(b ? value + (double)more[i[1] * b->get<int64_t>(903)[1]] : value < 0 ? 0 : value);
        go = false;
        for (size_t a = 0; a < n.size() && !go; ++a)
            if (++i[a] < n[a]) go = true;
            else i[a] = 0;
    }
    return OK;
}

static int check_pointwise(Descriptor* d) {
    const Ints x = d->to(751)->get<int64_t>(902), y = d->to(753)->get<int64_t>(902);
    if (x != y) return fail(BAD_PARAMETER, "sizes of a pointwise operation differ");
    if (d->references.count(752)) {
        const Ints b = d->to(752)->get<int64_t>(902);
        for (size_t a = 0; a < b.size(); ++a)
            if (b[a] != (a == 1 ? x[a] : 1)) return fail(BAD_PARAMETER, "a bias is not one number for each channel");
    }
    return OK;
}

// A graph's operations one after the other; what is virtual gets memory for as long.
template <typename T> static int run_all(std::vector<Descriptor*>& operations, std::map<int64_t, char*>& arrays) {
    std::vector<std::vector<T>> between(operations.size());
    for (size_t o = 0; o < operations.size(); ++o) {
        Descriptor* d = operations[o];
        Descriptor* y = o == 0 ? Operation(d).y : d->to(753);
        if (y->bytes.count(907)) {
            const Ints n = y->get<int64_t>(902), s = y->get<int64_t>(903);
            int64_t last_element = 0;
            for (size_t a = 0; a < n.size(); ++a) last_element += (n[a] - 1) * s[a];
            between[o].resize(last_element + 1);
            arrays[y->get<int64_t>(906)[0]] = (char*)between[o].data();
        }
        if (int status = o == 0 ? convolve<T>(d, arrays) : combine<T>(d, arrays)) return status;
    }
    return OK;
}

extern "C" {

int fusing = 1;         // whether there are engines for graphs of several operations
long live_descriptors = 0, executions = 0, stream_changes = 0;
int64_t workspace_bytes = 64;
int engines = 1;        // the n-th needs 1/n of the workspace
int failing = -1;       // the engine that cannot be executed
int last_engine = -1;   // the one that was executed
int engine_note = -1;   // what engines say of their numbers
int idle = 0;           // whether nothing is computed, so that what is timed is not the CPU's arithmetic

size_t cudnnGetVersion() { return 91900; }

void cudnnGetLastErrorString(char* text, size_t size) {
    strncpy(text, last.c_str(), size - 1);
    text[size - 1] = 0;
}

int cudnnCreate(void** handle) {
    *handle = (void*)1;
    return OK;
}

int cudnnSetStream(void*, void*) {
    ++stream_changes;
    return OK;
}

int cudnnBackendCreateDescriptor(int kind, Descriptor** made) {
    *made = new Descriptor{kind};
    ++live_descriptors;
    return OK;
}

int cudnnBackendDestroyDescriptor(Descriptor* d) {
    delete d;
    --live_descriptors;
    return OK;
}

int cudnnBackendSetAttribute(Descriptor* d, int attribute, int type, int64_t count, const void* values) {
    if (d->finalized) return fail(BAD_PARAMETER, "an attribute was set after finalizing");
    if (type == DESCRIPTOR) {
        auto& references = d->references[attribute];
        references.assign((Descriptor**)values, (Descriptor**)values + count);
        for (Descriptor* other : references)
            if (!other->finalized && other->kind != CONFIG) return fail(NOT_FINALIZED, "a reference is not finalized");
        return OK;
    }
    const size_t width = type == INT64 || type == DOUBLE || type == POINTER ? 8 : type == BOOLEAN ? 1 : 4;
    d->bytes[attribute].assign((const char*)values, (const char*)values + count * width);
    return OK;
}

int cudnnBackendFinalize(Descriptor* d) {
    if (d->kind == TENSOR) {
        const Ints sizes = d->get<int64_t>(902), strides = d->get<int64_t>(903);
        if (sizes.size() != strides.size()) return fail(BAD_PARAMETER, "sizes and strides differ in number");
        for (size_t a = 0; a < sizes.size(); ++a)
            if (sizes[a] <= 0 || strides[a] <= 0) return fail(BAD_PARAMETER, "a size or stride is not positive");
    }
    if (d->kind >= FORWARD && d->kind <= INPUTS)
        if (int status = check_operation(d)) return status;
    if (d->kind == OPERATION_POINTWISE)
        if (int status = check_pointwise(d)) return status;
    if (d->kind == HEURISTIC && !fusing && d->to(201)->references[801].size() > 1)
        return fail(NOT_SUPPORTED, "no engine fuses");
    d->finalized = true;
    return OK;
}

int cudnnBackendGetAttribute(Descriptor* d, int attribute, int, int64_t, int64_t* count, void* values) {
    *count = 1;
    if (attribute == 202) {  // a heuristic's configurations
        *count = engines;
        for (int e = 0; values && e < engines; ++e) {
            ((Descriptor**)values)[e]->references[201] = d->references[201];
            ((Descriptor**)values)[e]->engine = e;
        }
    } else if (attribute == 300) {  // the engine of a configuration
    } else if (attribute == 1303) {
        *count = engine_note >= 0;
        if (*count) *(int*)values = engine_note;
    } else if (attribute == 402) {
        *(int64_t*)values = workspace_bytes / (d->to(401)->engine + 1);
    } else if (attribute == 2702) {  // what there is to know of the device
        static const char text[] = "{\"name\": \"the CPU\"}";
        *count = sizeof(text);
        if (values) memcpy(values, text, sizeof(text));
    } else {
        return fail(BAD_PARAMETER, "unknown attribute");
    }
    return OK;
}

int cudnnBackendExecute(void* handle, Descriptor* plan, Descriptor* pack) {
    if (!handle || !plan->finalized || !pack->finalized || plan->kind != PLAN || pack->kind != PACK)
        return fail(BAD_PARAMETER, "arguments of execute");
    if (idle) return OK;
    const Ints ids = pack->get<int64_t>(1000), addresses = pack->get<int64_t>(1001), scratch = pack->get<int64_t>(1003);
    if (ids.size() != addresses.size()) return fail(BAD_PARAMETER, "ids and addresses differ in number");
    if (scratch.empty() || !scratch[0]) return fail(NULL_POINTER, "there is no workspace");
    std::map<int64_t, char*> arrays;
    for (size_t i = 0; i < ids.size(); ++i) arrays[ids[i]] = (char*)addresses[i];
    auto& operations = plan->to(401)->to(201)->references[801];
    ++executions;
    last_engine = plan->to(401)->engine;
    if (last_engine == failing) return fail(5000, "it failed");
    const int type = Operation(operations[0]).x->get<int>(901)[0];
    if (type == 0) return run_all<float>(operations, arrays);
    if (type == 1) return run_all<double>(operations, arrays);
    if (type == 2) return run_all<float16>(operations, arrays);
    if (type == 9) return run_all<bfloat16>(operations, arrays);
    return fail(NOT_SUPPORTED, "data type");
}
}
