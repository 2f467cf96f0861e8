// Scores of one window, by onnxruntime's C interface and the native kernels.
//
//   predict BUNDLE/model.onnx edgesparse_kernels.so CHANNELS < window.txt
//
// window.txt has the values of the first channel, then those of the next one, and so on. With "-" for the library
// the function body in the model runs instead: the same answers, slower.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnxruntime_c_api.h"

// Version of the interface: onnxruntime 1.24 has it, and so has every newer one.
enum { API = 24, MOST_VALUES = 1 << 20 };

static const OrtApi* ort;

static void check(OrtStatus* status) {
  if (status == NULL) return;
  fprintf(stderr, "predict: %s\n", ort->GetErrorMessage(status));
  exit(1);
}

int main(int count, char** words) {
  if (count != 4 || atoi(words[3]) < 1) {
    fprintf(stderr, "usage: predict MODEL.onnx LIBRARY|- CHANNELS < window.txt\n");
    return 2;
  }
  static float values[MOST_VALUES];
  size_t read = 0;
  while (read < MOST_VALUES && scanf("%f", &values[read]) == 1) ++read;
  const int64_t channels = atoi(words[3]);
  if (read == 0 || read % (size_t)channels != 0) {
    fprintf(stderr, "predict: %zu values do not fill %lld channels\n", read, (long long)channels);
    return 2;
  }
  ort = OrtGetApiBase()->GetApi(API);
  if (ort == NULL) {
    fprintf(stderr, "predict: onnxruntime %s is older than 1.%d\n", OrtGetApiBase()->GetVersionString(), API);
    return 1;
  }

  OrtEnv* environment;
  OrtSessionOptions* options;
  OrtSession* session;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "predict", &environment));
  check(ort->DisableTelemetryEvents(environment));
  check(ort->CreateSessionOptions(&options));
  check(ort->SetIntraOpNumThreads(options, 1));
  if (strcmp(words[2], "-") != 0) check(ort->RegisterCustomOpsLibrary_V2(options, words[2]));
  check(ort->CreateSession(environment, words[1], options, &session));

  OrtMemoryInfo* memory;
  OrtValue *window, *scores = NULL;
  const int64_t shape[3] = {1, channels, (int64_t)read / channels};
  check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  check(ort->CreateTensorWithDataAsOrtValue(memory, values, read * sizeof(float), shape, 3,
                                            ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &window));
  const char *input = "window", *output = "scores";
  check(ort->Run(session, NULL, &input, (const OrtValue* const*)&window, 1, &output, 1, &scores));

  OrtTensorTypeAndShapeInfo* info;
  size_t outputs;
  float* score;
  check(ort->GetTensorTypeAndShape(scores, &info));
  check(ort->GetTensorShapeElementCount(info, &outputs));
  check(ort->GetTensorMutableData(scores, (void**)&score));
  for (size_t i = 0; i < outputs; ++i) printf("%.6f\n", score[i]);

  ort->ReleaseTensorTypeAndShapeInfo(info);
  ort->ReleaseValue(scores);
  ort->ReleaseValue(window);
  ort->ReleaseMemoryInfo(memory);
  ort->ReleaseSession(session);
  ort->ReleaseSessionOptions(options);
  ort->ReleaseEnv(environment);
  return 0;
}
