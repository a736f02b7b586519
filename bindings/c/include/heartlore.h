/* heartlore: emotion from ECG. Generated from bindings/c/src by cbindgen; do not edit.
 *
 * Every function that can fail returns 0 or an error code (heartlore_code) and, where an error handle is given, leaves code and
 * text there. Null pointers, wrong lengths and closed handles are errors, never undefined. A model may be used from several
 * threads at once; a stream, a prediction and an error handle from one at a time. */

#ifndef HEARTLORE_H
#define HEARTLORE_H

#include <stddef.h>
#include <stdint.h>

// No error.
#define HEARTLORE_OK 0

// An argument makes no sense: null, closed, a setting, a combination.
#define HEARTLORE_USAGE 2

// Lengths that do not fit.
#define HEARTLORE_SHAPE 3

// The content of a file (or of memory) is not what it should be.
#define HEARTLORE_FORMAT 4

// Readable, but of no use for the purpose.
#define HEARTLORE_DATA 5

// The operating system refused.
#define HEARTLORE_IO 6

// The computation went wrong.
#define HEARTLORE_NUMERIC 7

// A fault in the library itself: please report it.
#define HEARTLORE_INTERNAL 99

// Grows when a function or a struct of this header changes in a way that needs a new compilation.
#define HEARTLORE_ABI 1

// Passed the quality gate.
#define HEARTLORE_QUALITY_OK 0

// There was no gate.
#define HEARTLORE_QUALITY_UNCHECKED -1

// An R peak: `time_s`, `rr_s`.
#define HEARTLORE_EVENT_BEAT 1

// A complete window: `time_s`, `end_s`, `probability`, `quality`, `index`.
#define HEARTLORE_EVENT_WINDOW 2

// Samples were missing: `time_s`, `end_s`, `samples`.
#define HEARTLORE_EVENT_GAP 3

// The samples stopped changing at `time_s`: an electrode is off.
#define HEARTLORE_EVENT_LEAD_OFF 4

// They change again since `time_s`.
#define HEARTLORE_EVENT_LEAD_ON 5

// Code and text of the last call that was given this handle. One thread at a time.
struct heartlore_error;

// A trained model. May be used from several threads at once.
struct heartlore_model;

// A recording in windows with their probabilities.
struct heartlore_prediction;

// A model on a live signal. One thread at a time. It keeps what it needs of the model, which may be freed before it.
struct heartlore_stream;

// One window of a recording.
struct heartlore_window {
  // Seconds from the first sample of the recording.
  double start_s;
  // Time just after the last sample, in seconds.
  double end_s;
  // Probability of the positive state.
  float probability;
  // HEARTLORE_QUALITY_OK or another code: see heartlore_quality_name.
  int32_t quality;
};

// The quality gate's judgement of one stretch of signal.
struct heartlore_quality {
  // HEARTLORE_QUALITY_OK or the first reason against it: see heartlore_quality_name.
  int32_t quality;
  // From 0 (no ECG) to 1 (clean).
  double index;
  // Median heart rate in beats per minute; NaN if it could not be taken.
  double heart_rate_bpm;
  // R peaks that were found.
  size_t beats;
  // Samples that are missing.
  size_t missing;
};

// Heart rate and heart-rate variability in the time domain (Task Force 1996). NaN where there are too few beats.
struct heartlore_hrv {
  // 60000 over the mean normal interval in ms: beats per minute.
  double mean_bpm;
  // Standard deviation of the normal intervals, ms.
  double sdnn_ms;
  // Root of the mean squared difference of successive normal intervals, ms.
  double rmssd_ms;
  // Successive differences of more than 50 ms, percent.
  double pnn50_percent;
  // Normal intervals.
  size_t intervals;
  // Intervals left out as not normal.
  size_t dropped;
};

// What a stream is told. Fill it with zeros for the usual.
struct heartlore_stream_options {
  // Samples per second.
  double fs_hz;
  // Millivolts per unit of the samples; 0 if nobody knows.
  double mv_per_unit;
  // Seconds from one window's start to the next; 0 for the model's own.
  double hop_s;
  // Seconds without any change after which an electrode counts as off; 0 for 1.
  double lead_off_s;
  // Not 0: a model trained on zero-phase windows may run with the causal filter of the same edges.
  uint8_t causal;
};

// What a stream reports. Numbers that the kind does not have are NaN or 0. Times are seconds of signal since the first sample.
struct heartlore_event {
  // HEARTLORE_EVENT_BEAT, ...
  int32_t kind;
  // Quality of a window: see heartlore_quality_name.
  int32_t quality;
  // When, or since when.
  double time_s;
  // Until when.
  double end_s;
  // Seconds since the beat before.
  double rr_s;
  // From 0 (no ECG) to 1 (clean).
  double index;
  // How many samples were missing.
  uint64_t samples;
  // Probability of the positive state.
  float probability;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// A new error handle, to be freed by heartlore_error_free.
struct heartlore_error *heartlore_error_new(void);

// Frees *error and sets it to null. Null, and a pointer to null, are fine.
void heartlore_error_free(struct heartlore_error **error);

// The code of the last call with this handle; HEARTLORE_USAGE for null.
int32_t heartlore_error_code(const struct heartlore_error *error);

// What happened, where, and what to do about it; empty after a success. Valid until the next call with this handle.
const char *heartlore_error_message(const struct heartlore_error *error);

// HEARTLORE_ABI of the library in use: compare it with the header's.
uint32_t heartlore_abi(void);

// Version of the library, such as "0.2.0".
const char *heartlore_version(void);

// A quality code in words: "ok", "unchecked", or why the quality gate drops the window. Never freed; "unknown" for a code
// that there is not.
const char *heartlore_quality_name(int32_t quality);

// A new error handle, to be freed by heartlore_error_free.
struct heartlore_error *heartlore_error_new(void);

// Frees *error and sets it to null. Null, and a pointer to null, are fine.
void heartlore_error_free(struct heartlore_error **error);

// The code of the last call with this handle; HEARTLORE_USAGE for null.
int32_t heartlore_error_code(const struct heartlore_error *error);

// What happened, where, and what to do about it; empty after a success. Valid until the next call with this handle.
const char *heartlore_error_message(const struct heartlore_error *error);

// `len` bytes, aligned to 8; null if there is no such memory.
uint8_t *heartlore_alloc(size_t len);

// Gives back what heartlore_alloc gave for the same `len`. Null is fine.
void heartlore_dealloc(uint8_t *bytes, size_t len);

// Loads the model in directory `dir` (UTF-8). `n_threads` threads compute; 0 takes one per core, and the numbers do not
// change.
int32_t heartlore_model_load(const char *dir,
                             uint32_t n_threads,
                             struct heartlore_model **out,
                             struct heartlore_error *error);

// A model from the content of its files in memory, which is not needed afterwards. `preprocessor` may be null (then the model
// takes windows, not recordings).
int32_t heartlore_model_from_memory(const uint8_t *config,
                                    size_t config_len,
                                    const uint8_t *weights,
                                    size_t weights_len,
                                    const uint8_t *preprocessor,
                                    size_t preprocessor_len,
                                    uint32_t n_threads,
                                    struct heartlore_model **out,
                                    struct heartlore_error *error);

// Frees *model and sets it to null. Null, and a pointer to null, are fine. No call with it may be running.
void heartlore_model_free(struct heartlore_model **model);

// Samples per window; 0 for null.
size_t heartlore_model_window(const struct heartlore_model *model);

// Features per window of heartlore_embed; 0 for null.
size_t heartlore_model_width(const struct heartlore_model *model);

// Samples per second of the model's windows; 0 for null or if the model does not say.
double heartlore_model_rate_hz(const struct heartlore_model *model);

// Probability from which a window counts as positive; 0 for null or a model without a classifier.
double heartlore_model_threshold(const struct heartlore_model *model);

// The probability of the positive state for each window. `windows` holds `windows_len` samples, window after window,
// prepared as the model wants them; `out` has room for `out_len` = windows_len / heartlore_model_window() values.
int32_t heartlore_predict(const struct heartlore_model *model,
                          const float *windows,
                          size_t windows_len,
                          float *out,
                          size_t out_len,
                          struct heartlore_error *error);

// The pooled features of each window: heartlore_model_width() values each.
int32_t heartlore_embed(const struct heartlore_model *model,
                        const float *windows,
                        size_t windows_len,
                        float *out,
                        size_t out_len,
                        struct heartlore_error *error);

// The reconstruction of each window, as long as the windows. `mask` (null, or `windows_len` bytes) is not 0 where a sample is
// hidden from the model.
int32_t heartlore_reconstruct(const struct heartlore_model *model,
                              const float *windows,
                              size_t windows_len,
                              const uint8_t *mask,
                              float *out,
                              size_t out_len,
                              struct heartlore_error *error);

// Filters, resamples, cuts and normalises `samples` (NaN where one is missing) as the model was trained on, and predicts each
// window. `mv_per_unit`: millivolts per unit of the samples, 0 if nobody knows. `hop_s`: seconds from one window's start to the
// next, 0 for the model's own.
int32_t heartlore_predict_samples(const struct heartlore_model *model,
                                  const double *samples,
                                  size_t samples_len,
                                  double fs_hz,
                                  double mv_per_unit,
                                  double hop_s,
                                  struct heartlore_prediction **out,
                                  struct heartlore_error *error);

// As heartlore_predict_samples, for a recording in a file of any known format. `channel` and `unit` may be null; `fs_hz` is 0
// for files that say their rate. A library built without the feature `formats` answers HEARTLORE_USAGE.
int32_t heartlore_predict_recording(const struct heartlore_model *model,
                                    const char *file,
                                    const char *channel,
                                    const char *unit,
                                    double fs_hz,
                                    double hop_s,
                                    struct heartlore_prediction **out,
                                    struct heartlore_error *error);

// Number of windows; 0 for null.
size_t heartlore_prediction_len(const struct heartlore_prediction *prediction);

// Copies window number `index` to `out`.
int32_t heartlore_prediction_window(const struct heartlore_prediction *prediction,
                                    size_t index,
                                    struct heartlore_window *out,
                                    struct heartlore_error *error);

// Mean probability over the windows that passed the quality gate; NaN without one, or for null.
double heartlore_prediction_mean(const struct heartlore_prediction *prediction);

// Frees *prediction and sets it to null.
void heartlore_prediction_free(struct heartlore_prediction **prediction);

// R peaks of `samples` (NaN where one is missing): their sample numbers, ascending, in `out`, and how many there are in
// `found`. If there are more than `out_len`, the first `out_len` are written and `found` says how much room it takes; `out` may
// be null when `out_len` is 0.
int32_t heartlore_beats(const double *samples,
                        size_t samples_len,
                        double fs_hz,
                        size_t *out,
                        size_t out_len,
                        size_t *found,
                        struct heartlore_error *error);

// Judges `samples`. `mv_per_unit`: millivolts per unit of the samples, 0 if nobody knows (amplitudes are then not judged).
int32_t heartlore_judge(const double *samples,
                        size_t samples_len,
                        double fs_hz,
                        double mv_per_unit,
                        struct heartlore_quality *out,
                        struct heartlore_error *error);

// Measures of the beats at `beats_s` (seconds, ascending).
int32_t heartlore_measure_hrv(const double *beats_s,
                              size_t beats_len,
                              struct heartlore_hrv *out,
                              struct heartlore_error *error);

// A stream through `model`.
int32_t heartlore_stream_new(const struct heartlore_model *model,
                             const struct heartlore_stream_options *options,
                             struct heartlore_stream **out,
                             struct heartlore_error *error);

// A stream that reports beats and the quality of windows of 10 s, without probabilities. `causal` is not looked at.
int32_t heartlore_stream_without_model(const struct heartlore_stream_options *options,
                                       struct heartlore_stream **out,
                                       struct heartlore_error *error);

// Takes the next samples, in a block of any size; one that is not finite is missing.
int32_t heartlore_stream_push(struct heartlore_stream *stream,
                              const double *samples,
                              size_t samples_len,
                              struct heartlore_error *error);

// Takes the next samples as integers of a converter, `scale` units each.
int32_t heartlore_stream_push_int16(struct heartlore_stream *stream,
                                    const int16_t *samples,
                                    size_t samples_len,
                                    double scale,
                                    struct heartlore_error *error);

// `samples` samples were lost.
int32_t heartlore_stream_lost(struct heartlore_stream *stream,
                              uint64_t samples,
                              struct heartlore_error *error);

// The signal has ended: reports what was waiting for more. The stream can go on afterwards.
int32_t heartlore_stream_finish(struct heartlore_stream *stream, struct heartlore_error *error);

// Copies the oldest event that was not yet taken to `out`; its kind is 0 when there is none.
int32_t heartlore_stream_next(struct heartlore_stream *stream,
                              struct heartlore_event *out,
                              struct heartlore_error *error);

// Frees *stream and sets it to null.
void heartlore_stream_free(struct heartlore_stream **stream);

// Loads the model in directory `dir` (UTF-8). `n_threads` threads compute; 0 takes one per core, and the numbers do not
// change.
int32_t heartlore_model_load(const char *dir,
                             uint32_t n_threads,
                             struct heartlore_model **out,
                             struct heartlore_error *error);

// A model from the content of its files in memory, which is not needed afterwards. `preprocessor` may be null (then the model
// takes windows, not recordings).
int32_t heartlore_model_from_memory(const uint8_t *config,
                                    size_t config_len,
                                    const uint8_t *weights,
                                    size_t weights_len,
                                    const uint8_t *preprocessor,
                                    size_t preprocessor_len,
                                    uint32_t n_threads,
                                    struct heartlore_model **out,
                                    struct heartlore_error *error);

// Frees *model and sets it to null. Null, and a pointer to null, are fine. No call with it may be running.
void heartlore_model_free(struct heartlore_model **model);

// Samples per window; 0 for null.
size_t heartlore_model_window(const struct heartlore_model *model);

// Features per window of heartlore_embed; 0 for null.
size_t heartlore_model_width(const struct heartlore_model *model);

// Samples per second of the model's windows; 0 for null or if the model does not say.
double heartlore_model_rate_hz(const struct heartlore_model *model);

// Probability from which a window counts as positive; 0 for null or a model without a classifier.
double heartlore_model_threshold(const struct heartlore_model *model);

// The probability of the positive state for each window. `windows` holds `windows_len` samples, window after window,
// prepared as the model wants them; `out` has room for `out_len` = windows_len / heartlore_model_window() values.
int32_t heartlore_predict(const struct heartlore_model *model,
                          const float *windows,
                          size_t windows_len,
                          float *out,
                          size_t out_len,
                          struct heartlore_error *error);

// The pooled features of each window: heartlore_model_width() values each.
int32_t heartlore_embed(const struct heartlore_model *model,
                        const float *windows,
                        size_t windows_len,
                        float *out,
                        size_t out_len,
                        struct heartlore_error *error);

// The reconstruction of each window, as long as the windows. `mask` (null, or `windows_len` bytes) is not 0 where a sample is
// hidden from the model.
int32_t heartlore_reconstruct(const struct heartlore_model *model,
                              const float *windows,
                              size_t windows_len,
                              const uint8_t *mask,
                              float *out,
                              size_t out_len,
                              struct heartlore_error *error);

// Filters, resamples, cuts and normalises `samples` (NaN where one is missing) as the model was trained on, and predicts each
// window. `mv_per_unit`: millivolts per unit of the samples, 0 if nobody knows. `hop_s`: seconds from one window's start to the
// next, 0 for the model's own.
int32_t heartlore_predict_samples(const struct heartlore_model *model,
                                  const double *samples,
                                  size_t samples_len,
                                  double fs_hz,
                                  double mv_per_unit,
                                  double hop_s,
                                  struct heartlore_prediction **out,
                                  struct heartlore_error *error);

// As heartlore_predict_samples, for a recording in a file of any known format. `channel` and `unit` may be null; `fs_hz` is 0
// for files that say their rate. A library built without the feature `formats` answers HEARTLORE_USAGE.
int32_t heartlore_predict_recording(const struct heartlore_model *model,
                                    const char *file,
                                    const char *channel,
                                    const char *unit,
                                    double fs_hz,
                                    double hop_s,
                                    struct heartlore_prediction **out,
                                    struct heartlore_error *error);

// Number of windows; 0 for null.
size_t heartlore_prediction_len(const struct heartlore_prediction *prediction);

// Copies window number `index` to `out`.
int32_t heartlore_prediction_window(const struct heartlore_prediction *prediction,
                                    size_t index,
                                    struct heartlore_window *out,
                                    struct heartlore_error *error);

// Mean probability over the windows that passed the quality gate; NaN without one, or for null.
double heartlore_prediction_mean(const struct heartlore_prediction *prediction);

// Frees *prediction and sets it to null.
void heartlore_prediction_free(struct heartlore_prediction **prediction);

// R peaks of `samples` (NaN where one is missing): their sample numbers, ascending, in `out`, and how many there are in
// `found`. If there are more than `out_len`, the first `out_len` are written and `found` says how much room it takes; `out` may
// be null when `out_len` is 0.
int32_t heartlore_beats(const double *samples,
                        size_t samples_len,
                        double fs_hz,
                        size_t *out,
                        size_t out_len,
                        size_t *found,
                        struct heartlore_error *error);

// Judges `samples`. `mv_per_unit`: millivolts per unit of the samples, 0 if nobody knows (amplitudes are then not judged).
int32_t heartlore_judge(const double *samples,
                        size_t samples_len,
                        double fs_hz,
                        double mv_per_unit,
                        struct heartlore_quality *out,
                        struct heartlore_error *error);

// Measures of the beats at `beats_s` (seconds, ascending).
int32_t heartlore_measure_hrv(const double *beats_s,
                              size_t beats_len,
                              struct heartlore_hrv *out,
                              struct heartlore_error *error);

// A stream through `model`.
int32_t heartlore_stream_new(const struct heartlore_model *model,
                             const struct heartlore_stream_options *options,
                             struct heartlore_stream **out,
                             struct heartlore_error *error);

// A stream that reports beats and the quality of windows of 10 s, without probabilities. `causal` is not looked at.
int32_t heartlore_stream_without_model(const struct heartlore_stream_options *options,
                                       struct heartlore_stream **out,
                                       struct heartlore_error *error);

// Takes the next samples, in a block of any size; one that is not finite is missing.
int32_t heartlore_stream_push(struct heartlore_stream *stream,
                              const double *samples,
                              size_t samples_len,
                              struct heartlore_error *error);

// Takes the next samples as integers of a converter, `scale` units each.
int32_t heartlore_stream_push_int16(struct heartlore_stream *stream,
                                    const int16_t *samples,
                                    size_t samples_len,
                                    double scale,
                                    struct heartlore_error *error);

// `samples` samples were lost.
int32_t heartlore_stream_lost(struct heartlore_stream *stream,
                              uint64_t samples,
                              struct heartlore_error *error);

// The signal has ended: reports what was waiting for more. The stream can go on afterwards.
int32_t heartlore_stream_finish(struct heartlore_stream *stream, struct heartlore_error *error);

// Copies the oldest event that was not yet taken to `out`; its kind is 0 when there is none.
int32_t heartlore_stream_next(struct heartlore_stream *stream,
                              struct heartlore_event *out,
                              struct heartlore_error *error);

// Frees *stream and sets it to null.
void heartlore_stream_free(struct heartlore_stream **stream);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HEARTLORE_H */
