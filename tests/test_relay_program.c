/* `fedlane serve`, `relay` and `work` as a user runs them: the weights are those of `fedlane run`,
 * also when a relay is killed. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "suite.h"

extern char **environ;

enum { RELAYS = 2, EACH = 2, ROUNDS = 30, WORDS = 16 };

static const char *const setting =
    "name: relays\n"
    "seed: 5\n"
    "device: cpu\n"
    "threads: 1\n"
    "data: {format: synthetic, partition: {kind: dirichlet, clients: 30, alpha: 0.5}}\n"
    "model: {name: logistic}\n"
    "train: {rounds: 30, cohort: 12, batch: 10, lr: 0.05}\n";

static char config[160], top[160], below[RELAYS][160], whole[160], parts[160];

static void prepare(void) {
  const char *folder = fl_test_folder();
  snprintf(config, sizeof config, "%s/relays.yaml", folder);
  snprintf(top, sizeof top, "ipc://%s/top", folder);
  snprintf(whole, sizeof whole, "output=%s/whole", folder);
  snprintf(parts, sizeof parts, "output=%s/parts", folder);
  for (int i = 0; i < RELAYS; i++)
    snprintf(below[i], sizeof below[i], "ipc://%s/below-%d", folder, i);
  FILE *f = fopen(config, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  fputs(setting, f);
  fclose(f);
}

/* Starts `fedlane` with these words, quiet. */
static pid_t start(const char *const *word) {
  char *argv[WORDS] = {(char *)"fedlane"};
  int n = 1;
  pid_t pid = 0;
  while (*word) argv[n++] = (char *)(uintptr_t)*word++;
  argv[n++] = (char *)"--quiet";
  CU_ASSERT_EQUAL(posix_spawn(&pid, FEDLANE_PROGRAM, NULL, NULL, argv, environ), 0);
  return pid;
}

static int wait_for(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int rounds_done(void) {
  char path[200];
  int n = 0, c;
  snprintf(path, sizeof path, "%s/metrics.jsonl", parts + strlen("output="));
  FILE *f = fopen(path, "r");
  if (!f) return 0;
  while ((c = getc(f)) != EOF) n += c == '\n';
  fclose(f);
  return n;
}

static void same_model(void) {
  const char *folder[2] = {whole + strlen("output="), parts + strlen("output=")};
  unsigned char *data[2] = {NULL, NULL};
  int64_t size[2] = {0, 0};
  for (int i = 0; i < 2; i++) {
    char path[200];
    snprintf(path, sizeof path, "%s/model.safetensors", folder[i]);
    CU_ASSERT_EQUAL_FATAL(fl_read_all(path, &data[i], &size[i]), FEDLANE_OK);
  }
  CU_ASSERT(size[0] > 0 && size[0] == size[1] && memcmp(data[0], data[1], (size_t)size[0]) == 0);
  free(data[0]);
  free(data[1]);
}

/* Two relays of two workers each, and a worker without a relay. */
static void compare(const char *algorithm, bool killed) {
  char name[64], listen[200];
  pid_t relay[RELAYS], worker[RELAYS * EACH];
  prepare();
  snprintf(name, sizeof name, "algorithm.name=%s", algorithm);
  snprintf(listen, sizeof listen, "fleet.listen=%s", top);
  CU_ASSERT_EQUAL(wait_for(start((const char *[]){"run", config, name, whole, NULL})), 0);
  pid_t serve =
      start((const char *[]){"serve", config, name, parts, listen, "fleet.peers=3", NULL});
  for (int i = 0; i < RELAYS; i++) {
    relay[i] = start((const char *[]){"relay", top, "--listen", below[i], NULL});
    for (int k = 0; k < EACH; k++)
      worker[i * EACH + k] = start((const char *[]){"work", below[i], "threads=1", NULL});
  }
  pid_t direct = start((const char *[]){"work", top, "threads=1", NULL});
  if (killed) {
    while (rounds_done() < 2) usleep(200);
    kill(relay[0], SIGKILL);
  }
  CU_ASSERT_EQUAL(wait_for(serve), 0);
  CU_ASSERT_EQUAL(rounds_done(), ROUNDS);
  CU_ASSERT_EQUAL(wait_for(direct), 0);
  for (int i = 0; i < RELAYS; i++) {
    bool gone = killed && i == 0;
    CU_ASSERT_EQUAL(wait_for(relay[i]), gone ? 128 + SIGKILL : 0);
    for (int k = 0; k < EACH;
         k++) { /* they wait for a relay that is killed, or has come and gone */
      kill(worker[i * EACH + k], SIGTERM);
      int code = wait_for(worker[i * EACH + k]);
      CU_ASSERT(code == 130 || (code == 0 && !gone) || code == 128 + SIGTERM);
    }
  }
  same_model();
}

static void test_averaging(void) { compare("fedavg", false); }
static void test_kept_vectors(void) { compare("scaffold", false); }
static void test_killed(void) {
  compare("fedavg", true);
  compare("scaffold", true);
}

static const fl_test tests[] = {
    {"federated averaging through relays", test_averaging},
    {"vectors that clients keep go through relays", test_kept_vectors},
    {"a relay that is killed", test_killed},
};

FL_SUITE_MAIN("relay_program", tests)
