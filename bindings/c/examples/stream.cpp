// Beats and probabilities of a live signal, here read from a file in blocks of 73 samples.
//
//   stream MODEL_DIR SAMPLES FS_HZ
//
// SAMPLES is a file of doubles in mV. Prints one line per event.
#include <heartlore.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// A handle that frees itself.
template <typename T, void (*Free)(T **)> struct Closer {
    void operator()(T *handle) const { Free(&handle); }
};
using Error = std::unique_ptr<heartlore_error, Closer<heartlore_error, heartlore_error_free>>;
using Model = std::unique_ptr<heartlore_model, Closer<heartlore_model, heartlore_model_free>>;
using Stream = std::unique_ptr<heartlore_stream, Closer<heartlore_stream, heartlore_stream_free>>;

void check(int code, const Error &error) {
    if (code != HEARTLORE_OK) throw std::runtime_error(heartlore_error_message(error.get()));
}

void report(const Stream &stream, const Error &error) {
    for (;;) {
        heartlore_event event;
        check(heartlore_stream_next(stream.get(), &event, error.get()), error);
        unsigned bits;
        switch (event.kind) {
        case HEARTLORE_EVENT_BEAT:
            std::printf("beat %.6f\n", event.time_s);
            break;
        case HEARTLORE_EVENT_WINDOW:
            std::memcpy(&bits, &event.probability, sizeof bits);
            std::printf("window %.3f %.3f %08x %s\n", event.time_s, event.end_s, bits,
                        heartlore_quality_name(event.quality));
            break;
        case HEARTLORE_EVENT_GAP:
            std::printf("gap %.3f %.3f\n", event.time_s, event.end_s);
            break;
        case 0:
            return;
        default:
            std::printf("event %d %.3f\n", event.kind, event.time_s);
        }
    }
}

} // namespace

int main(int argc, char **argv) try {
    if (argc != 4) throw std::runtime_error("usage: stream MODEL_DIR SAMPLES FS_HZ");
    std::ifstream file(argv[2], std::ios::binary);
    if (!file) throw std::runtime_error(std::string(argv[2]) + " cannot be read");
    Error error(heartlore_error_new());
    heartlore_model *opened = nullptr;
    check(heartlore_model_load(argv[1], 1, &opened, error.get()), error);
    Model model(opened);
    heartlore_stream_options options = {};
    options.fs_hz = std::atof(argv[3]);
    options.mv_per_unit = 1.0;
    heartlore_stream *started = nullptr;
    check(heartlore_stream_new(model.get(), &options, &started, error.get()), error);
    Stream stream(started);
    model.reset(); // the stream has what it needs
    std::vector<double> block(73);
    while (file) {
        file.read(reinterpret_cast<char *>(block.data()),
                  static_cast<std::streamsize>(block.size() * sizeof(double)));
        const auto n = static_cast<std::size_t>(file.gcount()) / sizeof(double);
        check(heartlore_stream_push(stream.get(), block.data(), n, error.get()), error);
        report(stream, error);
    }
    check(heartlore_stream_finish(stream.get(), error.get()), error);
    report(stream, error);
    return 0;
} catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
