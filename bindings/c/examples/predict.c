/* Probability of each window of a recording.
 *
 *   predict MODEL_DIR SAMPLES FS_HZ
 *
 * SAMPLES is a file of doubles in mV, NaN where one is missing. Prints start, end, probability (also as bits) and quality. */
#include <heartlore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what, const struct heartlore_error *error) {
    fprintf(stderr, "%s: %s\n", what, heartlore_error_message(error));
    return heartlore_error_code(error);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: predict MODEL_DIR SAMPLES FS_HZ\n");
        return HEARTLORE_USAGE;
    }
    if (heartlore_abi() != HEARTLORE_ABI) {
        fprintf(stderr, "library and header differ\n");
        return HEARTLORE_USAGE;
    }
    FILE *file = fopen(argv[2], "rb");
    if (!file) {
        perror(argv[2]);
        return HEARTLORE_IO;
    }
    fseek(file, 0, SEEK_END);
    size_t n = (size_t)ftell(file) / sizeof(double);
    rewind(file);
    double *samples = malloc(n * sizeof(double));
    if (!samples || fread(samples, sizeof(double), n, file) != n) {
        fprintf(stderr, "%s cannot be read\n", argv[2]);
        return HEARTLORE_IO;
    }
    fclose(file);

    struct heartlore_error *error = heartlore_error_new();
    struct heartlore_model *model = NULL;
    struct heartlore_prediction *prediction = NULL;
    int code = 0;
    if (heartlore_model_load(argv[1], 1, &model, error) ||
        heartlore_predict_samples(model, samples, n, atof(argv[3]), 1.0, 0.0, &prediction, error)) {
        code = fail("predict", error);
    }
    for (size_t i = 0; !code && i < heartlore_prediction_len(prediction); i++) {
        struct heartlore_window window;
        if (heartlore_prediction_window(prediction, i, &window, error)) {
            code = fail("window", error);
            break;
        }
        unsigned bits;
        memcpy(&bits, &window.probability, sizeof bits);
        printf("%.3f %.3f %.4f %08x %s\n", window.start_s, window.end_s, window.probability, bits,
               heartlore_quality_name(window.quality));
    }
    heartlore_prediction_free(&prediction);
    heartlore_model_free(&model);
    heartlore_error_free(&error);
    free(samples);
    return code;
}
