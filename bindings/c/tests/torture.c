/* Wrong use of every function: null, wrong lengths, closed handles, damaged models, two threads. Run under AddressSanitizer. */
#include <heartlore.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;
static struct heartlore_error *error;

static void expect(int code, int wanted, const char *text, int line) {
    const char *message = heartlore_error_message(error);
    if (code != wanted || code != heartlore_error_code(error) || (text && !strstr(message, text))) {
        fprintf(stderr, "line %d: code %d, wanted %d '%s': %s\n", line, code, wanted, text ? text : "", message);
        failures++;
    }
    if ((code == 0) != (message[0] == 0)) {
        fprintf(stderr, "line %d: code %d with text '%s'\n", line, code, message);
        failures++;
    }
}
#define EXPECT(call, code, text) expect((call), (code), (text), __LINE__)

static unsigned char *read_file(const char *dir, const char *name, size_t *len) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    if (!file) exit(99);
    fseek(file, 0, SEEK_END);
    *len = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*len);
    if (!bytes || fread(bytes, 1, *len, file) != *len) exit(99);
    fclose(file);
    return bytes;
}

struct job {
    const struct heartlore_model *model;
    const float *windows;
    size_t len;
    float out[8];
};

static void *work(void *arg) {
    struct job *job = arg;
    struct heartlore_error *own = heartlore_error_new();
    for (int round = 0; round < 20; round++) {
        /* A failing call in between must not disturb the other thread's text. */
        heartlore_predict(job->model, job->windows, job->len - 1, job->out, 8, own);
        if (!strstr(heartlore_error_message(own), "whole windows")) failures++;
        if (heartlore_predict(job->model, job->windows, job->len, job->out, 8, own)) failures++;
    }
    heartlore_error_free(&own);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 2) return 99;
    error = heartlore_error_new();
    struct heartlore_model *model = NULL, *other = (struct heartlore_model *)1;
    struct heartlore_stream *stream = NULL;
    struct heartlore_prediction *prediction = NULL;
    float out[8];
    double samples[64] = {0};
    size_t found = 7;
    struct heartlore_quality quality;
    struct heartlore_window window;
    struct heartlore_event event;
    struct heartlore_stream_options options = {0};

    /* Null everywhere. */
    heartlore_error_free(NULL);
    heartlore_model_free(NULL);
    heartlore_model_free(&model);
    heartlore_stream_free(&stream);
    heartlore_prediction_free(&prediction);
    EXPECT(heartlore_model_load(NULL, 1, &model, error), HEARTLORE_USAGE, "dir is null");
    EXPECT(heartlore_model_load(argv[1], 1, NULL, error), HEARTLORE_USAGE, "out is null");
    EXPECT(heartlore_predict(NULL, out, 8, out, 8, error), HEARTLORE_USAGE, "model is null");
    EXPECT(heartlore_embed(NULL, out, 8, out, 8, error), HEARTLORE_USAGE, "model is null");
    EXPECT(heartlore_reconstruct(NULL, out, 8, NULL, out, 8, error), HEARTLORE_USAGE, "model is null");
    EXPECT(heartlore_predict_samples(NULL, samples, 64, 128, 1, 0, &prediction, error), HEARTLORE_USAGE, "model");
    EXPECT(heartlore_predict_recording(NULL, "a", NULL, NULL, 0, 0, &prediction, error), HEARTLORE_USAGE, "model");
    EXPECT(heartlore_prediction_window(NULL, 0, &window, error), HEARTLORE_USAGE, "prediction is null");
    EXPECT(heartlore_stream_new(NULL, &options, &stream, error), HEARTLORE_USAGE, "model is null");
    EXPECT(heartlore_stream_push(NULL, samples, 64, error), HEARTLORE_USAGE, "stream is null");
    EXPECT(heartlore_stream_push_int16(NULL, NULL, 0, 1, error), HEARTLORE_USAGE, "stream is null");
    EXPECT(heartlore_stream_lost(NULL, 1, error), HEARTLORE_USAGE, "stream is null");
    EXPECT(heartlore_stream_finish(NULL, error), HEARTLORE_USAGE, "stream is null");
    EXPECT(heartlore_stream_next(NULL, &event, error), HEARTLORE_USAGE, "stream is null");
    EXPECT(heartlore_beats(samples, 64, 128, NULL, 0, NULL, error), HEARTLORE_USAGE, "found is null");
    EXPECT(heartlore_beats(NULL, 64, 128, NULL, 0, &found, error), HEARTLORE_USAGE, "samples is null");
    EXPECT(heartlore_judge(samples, 64, 128, 1, NULL, error), HEARTLORE_USAGE, "out is null");
    if (heartlore_model_window(NULL) || heartlore_model_width(NULL) || heartlore_prediction_len(NULL)) failures++;
    if (!isnan(heartlore_prediction_mean(NULL)) || heartlore_model_rate_hz(NULL) != 0) failures++;
    if (heartlore_error_code(NULL) != HEARTLORE_USAGE || !heartlore_error_message(NULL)[0]) failures++;
    /* Without an error handle only the code is there. */
    if (heartlore_predict(NULL, out, 8, out, 8, NULL) != HEARTLORE_USAGE) failures++;

    /* What is not a model. */
    EXPECT(heartlore_model_load("/nowhere/at/all", 1, &other, error), HEARTLORE_IO, "/nowhere/at/all");
    if (other) failures++;
    EXPECT(heartlore_model_load("\xff\xfe", 1, &model, error), HEARTLORE_USAGE, "UTF-8");
    size_t config_len, weights_len, prep_len;
    unsigned char *config = read_file(argv[1], "config.json", &config_len);
    unsigned char *weights = read_file(argv[1], "model.safetensors", &weights_len);
    unsigned char *prep = read_file(argv[1], "preprocessor_config.json", &prep_len);
    for (size_t cut = 0; cut < weights_len; cut += 1 + weights_len / 97) {
        unsigned char *part = malloc(cut ? cut : 1);
        memcpy(part, weights, cut);
        int code = heartlore_model_from_memory(config, config_len, part, cut, prep, prep_len, 1, &model, error);
        if (code == 0 || model || !heartlore_error_message(error)[0]) failures++;
        free(part);
    }
    EXPECT(heartlore_model_from_memory(config, config_len / 2, weights, weights_len, prep, prep_len, 1, &model, error),
           HEARTLORE_FORMAT, "config.json");
    EXPECT(heartlore_model_from_memory(config, config_len, weights, SIZE_MAX, prep, prep_len, 1, &model, error),
           HEARTLORE_SHAPE, "longer than memory");
    EXPECT(heartlore_model_from_memory(config, config_len, NULL, 5, prep, prep_len, 1, &model, error),
           HEARTLORE_USAGE, "weights is null");
    EXPECT(heartlore_model_from_memory(config, config_len, weights, weights_len, prep, prep_len, 2, &model, error), 0, NULL);

    /* Wrong lengths. */
    size_t n = heartlore_model_window(model);
    float *windows = calloc(8 * n, sizeof(float));
    if (!windows) return 99;
    for (size_t i = 0; i < 8 * n; i++) windows[i] = sinf(0.05f * (float)i);
    EXPECT(heartlore_predict(model, windows, 8 * n, out, 7, error), HEARTLORE_SHAPE, "room for 7");
    EXPECT(heartlore_predict(model, windows, 8 * n - 1, out, 8, error), HEARTLORE_SHAPE, "whole windows");
    EXPECT(heartlore_predict(model, NULL, 8 * n, out, 8, error), HEARTLORE_USAGE, "windows is null");
    EXPECT(heartlore_predict(model, (const float *)((const char *)windows + 1), n, out, 1, error), HEARTLORE_USAGE, "aligned");
    EXPECT(heartlore_predict(model, windows, 0, NULL, 0, error), 0, NULL);
    EXPECT(heartlore_embed(model, windows, n, out, heartlore_model_width(model) + 1, error), HEARTLORE_SHAPE, "room");
    EXPECT(heartlore_reconstruct(model, windows, n, NULL, windows + n, n, error), HEARTLORE_USAGE, "classifier");
    windows[3] = NAN;
    EXPECT(heartlore_predict(model, windows, 8 * n, out, 8, error), HEARTLORE_DATA, "sample 3");
    windows[3] = 0;
    EXPECT(heartlore_predict_samples(model, samples, 64, 0, 1, 0, &prediction, error), HEARTLORE_USAGE, "rate");
    EXPECT(heartlore_predict_samples(model, samples, 64, NAN, 1, 0, &prediction, error), HEARTLORE_USAGE, "rate");
    EXPECT(heartlore_predict_samples(model, samples, 64, 128, -1, 0, &prediction, error), HEARTLORE_USAGE, "millivolts");
    EXPECT(heartlore_predict_samples(model, samples, 64, 128, 1, 0, &prediction, error), 0, NULL);
    if (heartlore_prediction_len(prediction)) failures++;
    EXPECT(heartlore_prediction_window(prediction, 0, &window, error), HEARTLORE_SHAPE, "window 0 of 0");
    heartlore_prediction_free(&prediction);
    EXPECT(heartlore_prediction_window(prediction, 0, &window, error), HEARTLORE_USAGE, "prediction is null");
    EXPECT(heartlore_beats(samples, 64, 3, NULL, 0, &found, error), HEARTLORE_USAGE, "Hz");
    EXPECT(heartlore_beats(samples, 0, 128, NULL, 0, &found, error), 0, NULL);
    EXPECT(heartlore_judge(samples, 64, 128, 1, &quality, error), 0, NULL);
    if (strcmp(heartlore_quality_name(quality.quality), "too short")) failures++;
    if (strcmp(heartlore_quality_name(-77), "unknown") || strcmp(heartlore_quality_name(1000), "unknown")) failures++;

    /* Streams. */
    EXPECT(heartlore_stream_new(model, NULL, &stream, error), HEARTLORE_USAGE, "options is null");
    EXPECT(heartlore_stream_new(model, &options, &stream, error), HEARTLORE_USAGE, "Hz");
    options.fs_hz = 130;
    EXPECT(heartlore_stream_new(model, &options, &stream, error), 0, NULL);
    samples[5] = NAN;
    EXPECT(heartlore_stream_push(stream, samples, 64, error), 0, NULL);
    EXPECT(heartlore_stream_push(stream, NULL, 3, error), HEARTLORE_USAGE, "samples is null");
    EXPECT(heartlore_stream_push(stream, NULL, 0, error), 0, NULL);
    EXPECT(heartlore_stream_lost(stream, 100, error), 0, NULL);
    EXPECT(heartlore_stream_finish(stream, error), 0, NULL);
    EXPECT(heartlore_stream_next(stream, NULL, error), HEARTLORE_USAGE, "out is null");
    int gaps = 0;
    do {
        EXPECT(heartlore_stream_next(stream, &event, error), 0, NULL);
        gaps += event.kind == HEARTLORE_EVENT_GAP;
    } while (event.kind);
    if (gaps != 2) failures++;
    heartlore_stream_free(&stream);
    heartlore_stream_free(&stream);
    EXPECT(heartlore_stream_finish(stream, error), HEARTLORE_USAGE, "stream is null");

    /* One model, two threads. */
    struct job jobs[2] = {{model, windows, 8 * n, {0}}, {model, windows, 8 * n, {0}}};
    pthread_t threads[2];
    for (int t = 0; t < 2; t++)
        if (pthread_create(&threads[t], NULL, work, &jobs[t])) return 99;
    for (int t = 0; t < 2; t++) pthread_join(threads[t], NULL);
    if (memcmp(jobs[0].out, jobs[1].out, sizeof out)) failures++;
    EXPECT(heartlore_predict(model, windows, 8 * n, out, 8, error), 0, NULL);
    if (memcmp(jobs[0].out, out, sizeof out)) failures++;

    heartlore_model_free(&model);
    EXPECT(heartlore_predict(model, windows, n, out, 1, error), HEARTLORE_USAGE, "model is null");
    heartlore_error_free(&error);
    free(windows);
    free(config);
    free(weights);
    free(prep);
    if (!failures) puts("torture: ok");
    return failures ? 1 : 0;
}
