/* Kill and resume, stop and resume: the program as a user runs it, and the same bits in the end. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "digest.h"
#include "files.h"
#include "rng.h"
#include "safetensors.h"
#include "suite.h"

extern char **environ;

static const char *const setting =
    "name: resume\n"
    "seed: 5\n"
    "device: cpu\n"
    "data: {format: synthetic, examples: 300, test: 60, channels: 1, height: 8, width: 8,\n"
    "       classes: 4, partition: {kind: dirichlet, clients: 12, alpha: 0.5}}\n"
    "model: {layers: [{conv: 6, kernel: 3}, relu, flatten, {dropout: 0.2}, {dense: 0}]}\n"
    "train: {rounds: 12, cohort: 5, epochs: 2, batch: 6, lr: 0.1}\n"
    "eval: {every: 4}\n"
    "checkpoint: {every: 2}\n";

static char config[160];

static void write_setting(void) {
  snprintf(config, sizeof config, "%s/resume.yaml", fl_test_folder());
  FILE *f = fopen(config, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  fputs(setting, f);
  fclose(f);
}

/* Starts `fedlane run`, quiet; with "--resume" when asked. */
static pid_t start(const char *output, const char *algorithm, bool resume) {
  char to[256], name[64];
  pid_t pid = 0;
  posix_spawn_file_actions_t quiet;
  snprintf(to, sizeof to, "output=%s", output);
  snprintf(name, sizeof name, "algorithm.name=%s", algorithm);
  char *argv[] = {(char *)"fedlane",
                  (char *)"run",
                  config,
                  to,
                  name,
                  (char *)"--quiet",
                  resume ? (char *)"--resume" : NULL,
                  NULL};
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", 1, 0);
  CU_ASSERT_EQUAL(posix_spawn(&pid, FEDLANE_PROGRAM, &quiet, NULL, argv, environ), 0);
  posix_spawn_file_actions_destroy(&quiet);
  return pid;
}

static int wait_for(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int lines_of(const char *folder) {
  char path[256];
  int n = 0, c;
  snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
  FILE *f = fopen(path, "r");
  if (!f) return 0;
  while ((c = getc(f)) != EOF) n += c == '\n';
  fclose(f);
  return n;
}

static void same_files(const char *a, const char *b, const char *name) {
  char path[2][256];
  unsigned char *data[2] = {NULL, NULL};
  int64_t size[2] = {0, 0};
  const char *folder[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    snprintf(path[i], sizeof path[i], "%s/%s", folder[i], name);
    CU_ASSERT_EQUAL(fl_read_all(path[i], &data[i], &size[i]), FEDLANE_OK);
  }
  CU_ASSERT_EQUAL(size[0], size[1]);
  CU_ASSERT(size[0] > 0 && size[0] == size[1] && memcmp(data[0], data[1], (size_t)size[0]) == 0);
  free(data[0]);
  free(data[1]);
}

/* Ends the program with `signal` once `lines` rounds are written, or after it has ended. */
static int interrupt(pid_t pid, const char *folder, int lines, int number) {
  int status = 0;
  while (lines_of(folder) < lines) {
    if (waitpid(pid, &status, WNOHANG) == pid)
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    usleep(500);
  }
  kill(pid, number);
  return wait_for(pid);
}

static void kill_and_resume(const char *algorithm, int trials, uint32_t seed) {
  fl_rng rng = fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_DATA});
  char whole[160], cut[160];
  snprintf(whole, sizeof whole, "%s/whole", fl_test_folder());
  CU_ASSERT_EQUAL(wait_for(start(whole, algorithm, false)), 0);
  CU_ASSERT_EQUAL(lines_of(whole), 12);
  for (int i = 0; i < trials; i++) {
    snprintf(cut, sizeof cut, "%s/cut", fl_test_folder());
    int after = (int)fl_rng_below(&rng, 12), kills = 0;
    while (interrupt(start(cut, algorithm, kills > 0), cut, after, SIGKILL) == 128 + SIGKILL &&
           ++kills < 3)
      after += (int)fl_rng_below(&rng, 4);
    CU_ASSERT_EQUAL(wait_for(start(cut, algorithm, true)), 0);
    CU_ASSERT_EQUAL(lines_of(cut), 12);
    same_files(whole, cut, "model.safetensors");
  }
}

static void test_kill_fedavg(void) {
  write_setting();
  kill_and_resume("fedavg", 4, 1);
}

static void test_kill_scaffold(void) {
  write_setting();
  kill_and_resume("scaffold", 6, 2);
}

static void test_kill_feddyn(void) {
  write_setting();
  kill_and_resume("feddyn", 4, 3);
}

static void test_stop_and_resume(void) {
  static const int signals[] = {SIGINT, SIGTERM};
  char whole[160], cut[160];
  write_setting();
  snprintf(whole, sizeof whole, "%s/whole", fl_test_folder());
  CU_ASSERT_EQUAL(wait_for(start(whole, "fedadam", false)), 0);
  for (int i = 0; i < 2; i++) {
    snprintf(cut, sizeof cut, "%s/cut", fl_test_folder());
    int code = interrupt(start(cut, "fedadam", false), cut, 3, signals[i]);
    CU_ASSERT_EQUAL(code, 130);
    CU_ASSERT_EQUAL(wait_for(start(cut, "fedadam", true)), 0);
    same_files(whole, cut, "model.safetensors");
  }
}

/* As a run that is killed between its last checkpoint and its model. */
static void test_ends_what_lacks_its_model(void) {
  static const char *const lost[] = {"model.safetensors", "report.html"};
  char whole[160], cut[160], path[200];
  write_setting();
  snprintf(whole, sizeof whole, "%s/whole", fl_test_folder());
  snprintf(cut, sizeof cut, "%s/cut", fl_test_folder());
  CU_ASSERT_EQUAL(wait_for(start(whole, "fedavg", false)), 0);
  CU_ASSERT_EQUAL(wait_for(start(cut, "fedavg", false)), 0);
  for (int i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "%s/%s", cut, lost[i]);
    CU_ASSERT_EQUAL(unlink(path), 0);
  }
  CU_ASSERT_EQUAL(wait_for(start(cut, "fedavg", true)), 0);
  CU_ASSERT_EQUAL(access(path, R_OK), 0);
  CU_ASSERT_EQUAL(lines_of(cut), 12);
  same_files(whole, cut, "model.safetensors");
}

static void test_earlier_runs_are_kept(void) {
  char folder[160], first[200];
  struct stat info;
  write_setting();
  snprintf(folder, sizeof folder, "%s/run", fl_test_folder());
  CU_ASSERT_EQUAL(wait_for(start(folder, "fedavg", false)), 0);
  CU_ASSERT_EQUAL(wait_for(start(folder, "fedprox", false)), 0);
  snprintf(first, sizeof first, "%s.1/model.safetensors", folder);
  CU_ASSERT_EQUAL(stat(first, &info), 0);
}

static void test_another_configuration_is_refused(void) {
  char folder[160];
  write_setting();
  snprintf(folder, sizeof folder, "%s/run", fl_test_folder());
  CU_ASSERT_EQUAL(wait_for(start(folder, "fedavg", false)), 0);
  CU_ASSERT_EQUAL(wait_for(start(folder, "fedprox", true)), 2);
  CU_ASSERT_EQUAL(lines_of(folder), 12);
}

/* Puts another first digit into the round of a state. */
static void put_round(const char *state, char digit) {
  static const char key[] = "\"round\":\"";
  char head[512];
  FILE *f = fopen(state, "r+");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  CU_ASSERT_EQUAL(fread(head, 1, sizeof head, f), sizeof head);
  const char *at = memmem(head, sizeof head, key, sizeof key - 1);
  CU_ASSERT_PTR_NOT_NULL_FATAL(at);
  CU_ASSERT_EQUAL(fseek(f, at - head + (long)sizeof key - 1, SEEK_SET), 0);
  CU_ASSERT_EQUAL(fputc(digit, f), digit);
  fclose(f);
}

/* Turns one bit of a file over. */
static void flip(const char *path, off_t at) {
  FILE *f = fopen(path, "r+");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  CU_ASSERT_EQUAL(fseek(f, at, SEEK_SET), 0);
  int byte = fgetc(f);
  CU_ASSERT_EQUAL(fseek(f, at, SEEK_SET), 0);
  CU_ASSERT_EQUAL(fputc(byte ^ 1, f), byte ^ 1);
  fclose(f);
}

static void test_damaged_checkpoints_are_refused(void) {
  char folder[160], state[220];
  struct stat info;
  write_setting();
  snprintf(folder, sizeof folder, "%s/run", fl_test_folder());
  CU_ASSERT_EQUAL(wait_for(start(folder, "scaffold", false)), 0);
  snprintf(state, sizeof state, "%s/checkpoint/state.safetensors", folder);
  put_round(state, 'x');
  CU_ASSERT_EQUAL(wait_for(start(folder, "scaffold", true)), 1);
  put_round(state, '1');
  CU_ASSERT_EQUAL_FATAL(stat(state, &info), 0);
  for (off_t at = info.st_size - 1; at > info.st_size / 2; at -= info.st_size / 5) {
    flip(state, at);
    CU_ASSERT_EQUAL(wait_for(start(folder, "scaffold", true)), 1);
    flip(state, at);
  }
  snprintf(state, sizeof state, "%s/checkpoint/clients.bin", folder);
  CU_ASSERT_EQUAL(truncate(state, 100), 0);
  CU_ASSERT_EQUAL(wait_for(start(folder, "scaffold", true)), 1);
  snprintf(state, sizeof state, "%s/checkpoint/state.safetensors", folder);
  CU_ASSERT_EQUAL_FATAL(stat(state, &info), 0);
  for (off_t size = info.st_size - 1; size > 0; size -= info.st_size / 3) {
    CU_ASSERT_EQUAL(truncate(state, size), 0);
    CU_ASSERT_EQUAL(wait_for(start(folder, "scaffold", true)), 1);
  }
  CU_ASSERT_EQUAL(lines_of(folder), 12);
}

/* The byte in the middle of half `side` (1 or 2) of a client's place, in a file of `bytes` bytes.
 */
static off_t middle_of(int client, int side, int64_t floats) {
  return (off_t)(4 * floats * (2 * client + side - 1) + 2 * floats);
}

static void test_damaged_vectors_are_refused(void) {
  char folder[160], state[220], vectors[220];
  fl_st_file *file = NULL;
  write_setting();
  snprintf(folder, sizeof folder, "%s/run", fl_test_folder());
  snprintf(state, sizeof state, "%s/checkpoint/state.safetensors", folder);
  snprintf(vectors, sizeof vectors, "%s/checkpoint/clients.bin", folder);
  CU_ASSERT_EQUAL(wait_for(start(folder, "scaffold", false)), 0);
  CU_ASSERT_EQUAL_FATAL(fl_st_open(state, &file), FEDLANE_OK);
  int64_t floats = fl_st_find(file, "w")->count;
  const uint8_t *side = fl_st_find(file, "clients")->data;
  int client = 11;
  while (client > 0 && side[client] == 0) client--;
  int half = side[client];
  fl_st_close(&file);
  flip(vectors, middle_of(client, 3 - half, floats)); /* what no longer counts */
  CU_ASSERT_EQUAL(wait_for(start(folder, "scaffold", true)), 0);
  flip(vectors, middle_of(client, half, floats));
  CU_ASSERT_EQUAL(wait_for(start(folder, "scaffold", true)), 1);
  flip(vectors, middle_of(client, half, floats));
  CU_ASSERT_EQUAL(wait_for(start(folder, "scaffold", true)), 0);
}

/* Makes the state of a checkpoint what it was before it had sums of the clients' vectors: the
 * sum over it is that of the round and all other tensors. */
static void as_before_sums(const char *state) {
  fl_st_file *file = NULL;
  fl_st_tensor kept[8];
  char sum[17];
  int n = 0;
  CU_ASSERT_EQUAL_FATAL(fl_st_open(state, &file), FEDLANE_OK);
  const char *round = fl_st_metadata(file, "round");
  uint64_t h = fl_digest(round, strlen(round));
  for (int i = 0; i < fl_st_count(file); i++) {
    const fl_st_tensor *t = fl_st_at(file, i);
    if (strcmp(t->name, "client_sums") == 0) continue;
    kept[n++] = *t;
    h = fl_digest_on(h, t->data, (size_t)(t->count * fl_dtype_size(t->type)));
  }
  CU_ASSERT_EQUAL(n, fl_st_count(file) - 1);
  snprintf(sum, sizeof sum, "%016" PRIx64, h);
  const char *meta[] = {"kind",   "fedlane checkpoint 1",         "round", round,
                        "digest", fl_st_metadata(file, "digest"), "sum",   sum};
  CU_ASSERT_EQUAL(fl_st_write(state, n, kept, 4, meta), FEDLANE_OK);
  fl_st_close(&file);
}

static void test_checkpoints_without_sums_are_taken(void) {
  char whole[160], cut[160], state[220];
  fl_st_file *file = NULL;
  write_setting();
  snprintf(whole, sizeof whole, "%s/whole", fl_test_folder());
  snprintf(cut, sizeof cut, "%s/cut", fl_test_folder());
  snprintf(state, sizeof state, "%s/checkpoint/state.safetensors", cut);
  CU_ASSERT_EQUAL(wait_for(start(whole, "scaffold", false)), 0);
  CU_ASSERT_EQUAL(interrupt(start(cut, "scaffold", false), cut, 3, SIGINT), 130);
  as_before_sums(state);
  CU_ASSERT_EQUAL(wait_for(start(cut, "scaffold", true)), 0);
  same_files(whole, cut, "model.safetensors");
  CU_ASSERT_EQUAL_FATAL(fl_st_open(state, &file), FEDLANE_OK);
  CU_ASSERT_PTR_NOT_NULL(fl_st_find(file, "client_sums"));
  fl_st_close(&file);
}

static void test_an_unwritable_output_is_refused(void) {
  CU_ASSERT_EQUAL((write_setting(), wait_for(start("/proc/fedlane-run", "fedavg", false))), 1);
  CU_ASSERT_EQUAL(wait_for(start("/dev/null/run", "fedavg", false)), 1);
}

static const fl_test tests[] = {
    {"killed at any round, fedavg", test_kill_fedavg},
    {"killed at any round, scaffold", test_kill_scaffold},
    {"killed at any round, feddyn", test_kill_feddyn},
    {"stopped by a signal", test_stop_and_resume},
    {"ends what lacks its model", test_ends_what_lacks_its_model},
    {"earlier runs are kept", test_earlier_runs_are_kept},
    {"another configuration is refused", test_another_configuration_is_refused},
    {"damaged checkpoints are refused", test_damaged_checkpoints_are_refused},
    {"damaged vectors are refused", test_damaged_vectors_are_refused},
    {"checkpoints without sums are taken", test_checkpoints_without_sums_are_taken},
    {"an unwritable output is refused", test_an_unwritable_output_is_refused},
};
FL_SUITE_MAIN("resume", tests)
