/* Reading what `fedlane bench export` wrote, memory and time. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plain.h"

_Noreturn void die(const char *format, ...) {
  va_list arg;
  va_start(arg, format);
  vfprintf(stderr, format, arg);
  va_end(arg);
  fputc('\n', stderr);
  exit(1);
}

void *make(size_t bytes) {
  void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!p) die("no memory");
  return memset(p, 0, bytes);
}

float *floats(size_t n) { return make(n * sizeof(float)); }

double now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The bytes of a tensor in a safetensors file. */
static void *read_tensor(const char *folder, const char *file, const char *name, int64_t *bytes) {
  char path[4096], key[64];
  uint64_t size;
  int64_t begin, end;
  snprintf(path, sizeof path, "%s/%s", folder, file);
  snprintf(key, sizeof key, "\"%s\":", name);
  FILE *in = fopen(path, "rb");
  if (!in || fread(&size, sizeof size, 1, in) != 1) die("%s cannot be read", path);
  char *header = make(size + 1), *at;
  if (fread(header, 1, size, in) != size || !(at = strstr(header, key)) ||
      !(at = strstr(at, "\"data_offsets\"")) || !(at = strchr(at, '[')) ||
      sscanf(at, "[%" SCNd64 ",%" SCNd64, &begin, &end) != 2)
    die("%s has no tensor %s", path, name);
  void *out = make((size_t)(end - begin));
  *bytes = end - begin;
  if (fseek(in, (long)size + 8 + (long)begin, SEEK_SET) != 0 ||
      fread(out, 1, (size_t)*bytes, in) != (size_t)*bytes)
    die("%s is shorter than it says", path);
  free(header);
  fclose(in);
  return out;
}

static float *read_pixels(const char *folder, const char *name, int64_t *rows) {
  int64_t bytes, channels;
  float *shift = read_tensor(folder, "plan.safetensors", "shift", &channels);
  float *scale = read_tensor(folder, "plan.safetensors", "scale", &channels);
  uint8_t *raw = read_tensor(folder, "data.safetensors", name, &bytes);
  float *x = floats((size_t)bytes);
  for (int64_t i = 0; i < bytes; i++)
    x[i] = ((float)raw[i] - shift[i / 1024 % 3]) * scale[i / 1024 % 3];
  if (bytes % PIXELS != 0 || channels != 12) die("images are not 3 x 32 x 32");
  *rows = bytes / PIXELS;
  free(raw);
  free(shift);
  free(scale);
  return x;
}

static void read_weights(const char *folder, float *w) {
  static const char *const name[] = {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias",
                                     "fc1.weight",   "fc1.bias",   "fc2.weight",   "fc2.bias"};
  static const int begin[] = {W1, B1, W2, B2, W3, B3, W4, B4, WEIGHTS};
  int64_t bytes;
  for (int i = 0; i < 8; i++) {
    void *from = read_tensor(folder, "weights.safetensors", name[i], &bytes);
    if (bytes != 4 * (begin[i + 1] - begin[i])) die("%s has the wrong size", name[i]);
    memcpy(w + begin[i], from, (size_t)bytes);
    free(from);
  }
}

static double read_number(const char *json, const char *name) {
  char key[64];
  snprintf(key, sizeof key, "\"%s\":", name);
  const char *at = strstr(json, key);
  if (!at) die("work.json has no %s", name);
  return strtod(at + strlen(key), NULL);
}

void work_read(work *out, const char *folder) {
  char path[4096], json[4096] = "";
  int64_t bytes, rows;
  snprintf(path, sizeof path, "%s/work.json", folder);
  FILE *in = fopen(path, "r");
  if (!in || fread(json, 1, sizeof json - 1, in) == 0) die("%s cannot be read", path);
  fclose(in);
  const int written = (int)read_number(json, "rounds");
  out->rounds = out->rounds > 0 && out->rounds < written ? out->rounds : written;
  out->cohort = (int)read_number(json, "cohort");
  out->eval_every = (int)read_number(json, "eval_every");
  out->lr = (float)read_number(json, "lr");
  out->w = floats(WEIGHTS);
  read_weights(folder, out->w);
  out->x = read_pixels(folder, "x", &rows);
  out->x_test = read_pixels(folder, "x_test", &out->n_test);
  out->y = read_tensor(folder, "data.safetensors", "y", &bytes);
  out->y_test = read_tensor(folder, "data.safetensors", "y_test", &bytes);
  out->order = read_tensor(folder, "plan.safetensors", "order", &bytes);
  out->share = (int)(bytes / 4 / written / out->cohort);
  if ((int)read_number(json, "batch") != BATCH || (int)read_number(json, "epochs") != 1 ||
      (int64_t)out->share * out->cohort * written * 4 != bytes || out->share % BATCH != 0 ||
      out->n_test % TEST_BATCH != 0)
    die("%s is not of workload a1", path);
}

double age(void) {
  char text[1024] = "", *at;
  FILE *in = fopen("/proc/self/stat", "r");
  if (!in || fread(text, 1, sizeof text - 1, in) == 0 || !(at = strrchr(text, ')')))
    die("/proc/self/stat cannot be read");
  fclose(in);
  for (int i = 0; i < 20; i++) at = strchr(at + 1, ' ');
  return now(CLOCK_BOOTTIME) - strtod(at, NULL) / (double)sysconf(_SC_CLK_TCK);
}
