/* Real clients: what fedlane_client_* sends enters the mean, and nothing else does. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "fleet/clients.h"
#include "fleet/serve.h"
#include "suite.h"

enum { ROUNDS = 4, FEATURES = 3 };

/* A model of 3 weights and a bias. */
static const char text[] =
    "name: clients\n"
    "data: {format: synthetic, kind: regression, examples: 40, test: 8, channels: 3,"
    " height: 1, width: 1, partition: {kind: iid, clients: 2}}\n"
    "model: {name: logistic}\n"
    "algorithm: {name: fedavg}\n"
    "train: {rounds: 4, cohort: 8, epochs: 2, batch: 5, lr: 0.125}\n"
    "fleet: {clients: real, patience: 5}\n"
    "device: cpu\n"
    "output: \"\"\n";

/* A coordinator on a thread of its own. */
typedef struct coordinator {
  fedlane_run *run;
  pthread_t thread;
  fedlane_metrics row[ROUNDS];
  int n_row;
  float *before, *after; /* [P] weights */
  fl_status status;
} coordinator;

static float *weights_of(const fedlane_run *run) {
  float *w = malloc((size_t)run->server.P * sizeof *w);
  memcpy(w, run->server.w, (size_t)run->server.P * sizeof *w);
  return w;
}

static void *coordinate(void *of) {
  coordinator *c = of;
  while (c->n_row < ROUNDS && (c->status = fedlane_round(c->run, &c->row[c->n_row])) == FEDLANE_OK)
    c->n_row++;
  c->after = weights_of(c->run);
  fl_serving_close(c->run, true);
  return NULL;
}

static void start(coordinator *c, const char *address, const char *peers, const char *more) {
  char listen[256], wanted[64];
  snprintf(listen, sizeof listen, "fleet.listen=%s", address);
  snprintf(wanted, sizeof wanted, "fleet.peers=%s", peers);
  const char *override[] = {listen, wanted, more};
  memset(c, 0, sizeof *c);
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 2 + (*more != '\0'), override, 0, &c->run),
                        FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_serving_open(c->run), FEDLANE_OK);
  c->before = weights_of(c->run);
  pthread_create(&c->thread, NULL, coordinate, c);
}

static void finish(coordinator *c) {
  pthread_join(c->thread, NULL);
  CU_ASSERT_EQUAL(c->status, FEDLANE_OK);
  CU_ASSERT_EQUAL(c->n_row, ROUNDS);
}

static void end(coordinator *c) {
  fedlane_close(&c->run);
  free(c->before);
  free(c->after);
}

/* What a client of the tests does with its tasks. */
typedef enum manner {
  GOOD,
  NOT_FINITE,
  REFUSES,
  SILENT,
  TOO_MANY_HITS,
  LEAVES,
  SLOW,
  FROZEN
} manner;

/* A client that adds `step` to every number of the model, those between tensors too. */
typedef struct person {
  const char *address, *name;
  int64_t examples;
  float step;
  fedlane_payload payload;
  manner manner;
  pthread_t thread;
  int tasks, mixed;  /* that it got; that were taken */
  uint32_t rounds;   /* bit r: it trained in round r */
  fl_status status;  /* of the call that ended it, or of a send that must fail */
  fedlane_task last; /* the numbers of a task */
} person;

static fl_status act(person *p, fedlane_client *client, const fedlane_task *task) {
  float *w = malloc((size_t)task->elements * sizeof *w);
  bool mixed = false;
  if (p->manner == SLOW && p->tasks == 1) usleep(3500000);
  if (p->manner == FROZEN) raise(SIGSTOP);
  for (int64_t i = 0; i < task->elements; i++) w[i] = task->weights[i] + p->step;
  if (p->manner == NOT_FINITE) w[0] = INFINITY;
  fedlane_trained trained = {.weights = w,
                             .examples = p->examples,
                             .steps = 3,
                             .hits = p->manner == TOO_MANY_HITS ? 2 * p->examples + 1 : 0,
                             .loss = 2.0 * (double)p->examples,
                             .payload = p->payload};
  fl_status status = FEDLANE_OK;
  if (p->manner == REFUSES)
    status = fedlane_client_refuse(client, "the battery is low");
  else if (p->manner != SILENT)
    status = fedlane_client_send(client, &trained, &mixed);
  p->mixed += mixed;
  free(w);
  return status;
}

static void *live(void *of) {
  person *p = of;
  fedlane_client *client = NULL;
  fedlane_client_options me = {.name = p->name, .examples = p->examples, .seconds = 20};
  fedlane_task task = {0};
  p->status = fedlane_client_join(p->address, &me, &client);
  while (p->status == FEDLANE_OK && task.kind != FEDLANE_TASK_DONE) {
    p->status = fedlane_client_next(client, 20, &task);
    if (p->status != FEDLANE_OK || task.kind != FEDLANE_TASK_TRAIN) continue;
    p->last = task;
    p->tasks++;
    p->rounds |= 1u << task.round;
    fl_status acted = act(p, client, &task);
    if (acted != (p->manner == NOT_FINITE ? FEDLANE_DATA : FEDLANE_OK)) p->status = acted;
    if (p->manner == LEAVES && p->tasks == 2) break;
  }
  fedlane_client_leave(&client);
  return NULL;
}

static void let_live(int n, person *p) {
  for (int i = 0; i < n; i++) pthread_create(&p[i].thread, NULL, live, &p[i]);
}

static void await(int n, person *p) {
  for (int i = 0; i < n; i++) {
    pthread_join(p[i].thread, NULL);
    CU_ASSERT_EQUAL(p[i].status, FEDLANE_OK);
  }
}

static int64_t count_of(const coordinator *c, const char *cause) {
  int64_t n = 0;
  for (int r = 0; r < c->n_row; r++)
    for (int i = 0; i < FEDLANE_CAUSES_MAX && c->row[r].left_out[i].name; i++)
      if (strcmp(c->row[r].left_out[i].name, cause) == 0) n += c->row[r].left_out[i].count;
  return n;
}

/* Every weight has gone up by `by`, and what lies between tensors has stayed 0. */
static void moved_by(const coordinator *c, double by) {
  const fl_model *model = c->run->model;
  for (int64_t i = 0; i < c->run->server.P; i++) {
    bool used = false;
    for (int k = 0; k < fl_model_about(model)->n_tensor; k++) {
      const fl_tensor *t = fl_model_tensor(model, k);
      used = used || (i >= t->at && i < t->at + t->count);
    }
    CU_ASSERT_DOUBLE_EQUAL(c->after[i], used ? c->before[i] + by : 0, 1e-5);
  }
}

/* Payloads of every kind, whose numbers all of them can hold. */
static void mixes(const char *address) {
  coordinator c;
  person p[] = {{address, "a", 10, 0.5F, FEDLANE_PAYLOAD_FLOAT32, .manner = GOOD},
                {address, "b", 20, -0.25F, FEDLANE_PAYLOAD_BFLOAT16, .manner = GOOD},
                {address, "c", 30, 1, FEDLANE_PAYLOAD_SPARSE, .manner = GOOD},
                {address, "d", 40, 0.125F, FEDLANE_PAYLOAD_INT8, .manner = GOOD}};
  start(&c, address, "4", "");
  let_live(4, p);
  await(4, p);
  finish(&c);
  moved_by(&c, ROUNDS * (10 * 0.5 - 20 * 0.25 + 30 + 40 * 0.125) / 100);
  for (int r = 0; r < c.n_row; r++) {
    const fedlane_metrics *m = &c.row[r];
    CU_ASSERT(m->clients == 4 && m->dropped == 0 && m->examples == 200 && m->steps == 12);
    CU_ASSERT_DOUBLE_EQUAL(m->train_loss, 1, 1e-12);
    CU_ASSERT(isnan(m->train_accuracy) && m->bytes_up > 0 && m->bytes_down > 0);
    CU_ASSERT_PTR_NULL(m->left_out[0].name);
  }
  for (int i = 0; i < 4; i++) CU_ASSERT(p[i].mixed == ROUNDS && p[i].tasks == ROUNDS);
  CU_ASSERT(p[0].last.lr == 0.125 && p[0].last.epochs == 2 && p[0].last.batch == 5);
  CU_ASSERT(p[0].last.round == ROUNDS && p[0].last.elements == c.run->server.P);
  end(&c);
}

static void mixes_what_clients_send(void) {
  char address[256];
  mixes("loopback://clients");
  snprintf(address, sizeof address, "ipc://%s/c", fl_test_folder());
  mixes(address);
}

static void clients_weigh_alike_when_asked(void) {
  coordinator c;
  person p[] = {{"loopback://alike", "a", 10, 1, .manner = GOOD},
                {"loopback://alike", "b", 90, 0, .manner = GOOD}};
  start(&c, p[0].address, "2", "server.weighting=uniform");
  let_live(2, p);
  await(2, p);
  finish(&c);
  moved_by(&c, ROUNDS * 0.5);
  end(&c);
}

static void leaves_out_what_is_no_update(void) {
  const char *address = "loopback://bad";
  coordinator c;
  person p[] = {{address, "good", 10, 1, .manner = GOOD},
                {address, "infinite", 10, 1, .manner = NOT_FINITE},
                {address, "refuses", 10, 1, .manner = REFUSES},
                {address, "silent", 10, 1, .manner = SILENT},
                {address, "boasts", 10, 1, .manner = TOO_MANY_HITS}};
  start(&c, address, "5", "");
  let_live(5, p);
  await(5, p);
  finish(&c);
  moved_by(&c, ROUNDS);
  for (int r = 0; r < c.n_row; r++) CU_ASSERT(c.row[r].clients == 1 && c.row[r].dropped == 4);
  CU_ASSERT_EQUAL(count_of(&c, "refused"), 3 * ROUNDS);
  CU_ASSERT_EQUAL(count_of(&c, "shape"), ROUNDS);
  for (int i = 1; i < 5; i++) CU_ASSERT(p[i].mixed == 0 && p[i].tasks == ROUNDS);
  end(&c);
}

/* A round whose only client goes mixes nobody; the next one waits for somebody. */
static void goes_on_when_clients_go(void) {
  const char *address = "loopback://go";
  coordinator c;
  person first = {address, "first", 10, 1, .manner = LEAVES};
  person second = {address, "second", 10, 2, .manner = GOOD};
  start(&c, address, "1", "");
  let_live(1, &first);
  await(1, &first);
  let_live(1, &second);
  await(1, &second);
  finish(&c);
  CU_ASSERT(first.mixed == 2 && second.mixed >= 1 && first.mixed + second.mixed <= ROUNDS);
  moved_by(&c, first.mixed + 2 * second.mixed);
  end(&c);
}

static void updates_pass_the_filters(void) {
  coordinator c;
  person p = {"loopback://clip", "a", 10, 3, .manner = GOOD};
  start(&c, p.address, "1", "filters=[{name: clip, norm: 0.5}]");
  let_live(1, &p);
  await(1, &p);
  finish(&c);
  moved_by(&c, ROUNDS * 0.5 / sqrt(FEATURES + 1));
  end(&c);
}

/* Who is drawn depends on names, and not on who came first. */
static void draws_by_name(void) {
  const char *address = "loopback://draw";
  uint32_t rounds[2][3];
  for (int turn = 0; turn < 2; turn++) {
    coordinator c;
    person p[] = {{address, turn ? "z" : "x", 10, 1, .manner = GOOD},
                  {address, "y", 10, 1, .manner = GOOD},
                  {address, turn ? "x" : "z", 10, 1, .manner = GOOD}};
    start(&c, address, "3", "train.cohort=1");
    let_live(3, p);
    await(3, p);
    finish(&c);
    for (int i = 0; i < 3; i++) rounds[turn][turn ? 2 - i : i] = p[i].rounds;
    CU_ASSERT_EQUAL(p[0].mixed + p[1].mixed + p[2].mixed, ROUNDS);
    end(&c);
  }
  for (int i = 0; i < 3; i++) CU_ASSERT_EQUAL(rounds[0][i], rounds[1][i]);
}

static void refused(const char *override, const char *says) {
  const char *all[] = {"fleet.listen=loopback://refused", override};
  fedlane_run *run = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 2, all, 0, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_serving_open(run), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), says));
  fedlane_close(&run);
}

static void says_what_does_not_go(void) {
  refused("algorithm=scaffold", "scaffold has clients keep or send more than one vector");
  refused("algorithm=feddyn", "feddyn has clients keep or send more than one vector");
  refused("sampler={kind: uniform, replacement: true}", "set sampler.replacement to false");
  refused("train.cohort=16385", "train.cohort is 16385");
}

static void knows_tensors_and_tasks(void) {
  coordinator c;
  person other = {"loopback://know", "other", 10, 1, .manner = GOOD};
  fedlane_client_options me = {.name = "me", .seconds = 20};
  fedlane_trained trained = {.examples = 10};
  fedlane_client *client = NULL;
  int64_t at = -1, count = 0, dim[4];
  start(&c, other.address, "2", "");
  CU_ASSERT_EQUAL_FATAL(fedlane_client_join(other.address, &me, &client), FEDLANE_OK);
  CU_ASSERT_EQUAL(fedlane_client_tensor(client, "fc.weight", &at, &count, dim), FEDLANE_OK);
  CU_ASSERT(at == 0 && count == FEATURES && dim[0] == 1 && dim[1] == FEATURES && dim[2] == 1);
  CU_ASSERT_EQUAL(fedlane_client_tensor(client, "fc.bias", &at, &count, dim), FEDLANE_OK);
  CU_ASSERT(at == 16 && count == 1 && dim[0] == 1 && dim[3] == 1);
  CU_ASSERT_EQUAL(fedlane_client_tensor(client, "fc", &at, &count, dim), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_client_config(client), "clients"));
  CU_ASSERT_EQUAL(fedlane_client_send(client, &trained, NULL), FEDLANE_USAGE);
  CU_ASSERT_EQUAL(fedlane_client_refuse(client, "nothing to refuse"), FEDLANE_USAGE);
  let_live(1, &other);
  fedlane_task task = {0};
  while (task.kind != FEDLANE_TASK_DONE && fedlane_client_next(client, 20, &task) == FEDLANE_OK) {
    if (task.kind != FEDLANE_TASK_TRAIN) continue;
    trained.weights = task.weights;
    trained.examples = 0;
    CU_ASSERT_EQUAL(fedlane_client_send(client, &trained, NULL), FEDLANE_USAGE);
    trained.examples = FL_CLIENT_EXAMPLES;
    CU_ASSERT_EQUAL(fedlane_client_send(client, &trained, NULL), FEDLANE_OK);
  }
  fedlane_client_leave(&client);
  CU_ASSERT_PTR_NULL(client);
  fedlane_client_leave(&client);
  await(1, &other);
  finish(&c);
  CU_ASSERT_EQUAL(c.row[0].clients, 2);
  end(&c);
  me.seconds = 0.1;
  CU_ASSERT_EQUAL(fedlane_client_join("ipc:///nowhere/at/all", &me, &client), FEDLANE_IO);
  me.name = "";
  CU_ASSERT_EQUAL(fedlane_client_join("loopback://know", &me, &client), FEDLANE_USAGE);
  CU_ASSERT_PTR_NULL(client);
}

/* The coordinator goes after a round and comes back; the client does so by itself. */
static void finds_the_coordinator_again(void) {
  char address[256], listen[300];
  snprintf(address, sizeof address, "ipc://%s/c", fl_test_folder());
  snprintf(listen, sizeof listen, "fleet.listen=%s", address);
  const char *override[] = {listen};
  person p = {address, "a", 10, 1, .manner = GOOD};
  fedlane_run *run = NULL;
  coordinator c;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 1, override, 0, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_serving_open(run), FEDLANE_OK);
  let_live(1, &p);
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
  fedlane_close(&run);
  start(&c, address, "1", "");
  await(1, &p);
  finish(&c);
  CU_ASSERT_EQUAL(p.mixed, ROUNDS + 1);
  moved_by(&c, ROUNDS);
  end(&c);
}

/* Whom a full fleet has no place for is told so, when its time is over, and may come again. */
static void a_full_fleet_has_no_place(void) {
  char address[256];
  coordinator c;
  fedlane_client_options me = {.name = "b", .examples = 10, .seconds = 2};
  fedlane_client *client = NULL;
  snprintf(address, sizeof address, "ipc://%s/full", fl_test_folder());
  person p = {address, "a", 10, 1, .manner = SLOW};
  start(&c, address, "1", "fleet.most=1");
  let_live(1, &p);
  sleep(1);
  CU_ASSERT_EQUAL(fedlane_client_join(address, &me, &client), FEDLANE_IO);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "no place within 2 seconds: the coordinator has"));
  await(1, &p);
  finish(&c);
  CU_ASSERT_EQUAL(p.mixed, ROUNDS);
  end(&c);
}

/* One trains in a single call for longer than the patience, another is stopped in the midst of it.
 */
static void tells_the_slow_from_the_dead(void) {
  char address[256];
  coordinator c;
  int status = 0;
  snprintf(address, sizeof address, "ipc://%s/c", fl_test_folder());
  person p[] = {{address, "slow", 10, 1, .manner = SLOW}, {address, "late", 10, 1, .manner = GOOD}};
  person frozen = {address, "frozen", 10, 1, .manner = FROZEN};
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    live(&frozen);
    _exit(0);
  }
  start(&c, address, "2", "fleet.patience=1");
  let_live(1, &p[0]);
  CU_ASSERT_EQUAL(waitpid(child, &status, WUNTRACED), child);
  CU_ASSERT(WIFSTOPPED(status));
  let_live(1, &p[1]);
  await(2, p);
  finish(&c);
  CU_ASSERT_EQUAL(p[0].mixed, ROUNDS);
  CU_ASSERT_EQUAL(c.row[0].clients, 1);
  CU_ASSERT_EQUAL(count_of(&c, "lost"), 1);
  moved_by(&c, ROUNDS);
  end(&c);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
}

static const fl_test tests[] = {
    {"mixes what clients send", mixes_what_clients_send},
    {"clients weigh alike when asked", clients_weigh_alike_when_asked},
    {"leaves out what is no update", leaves_out_what_is_no_update},
    {"goes on when clients go", goes_on_when_clients_go},
    {"updates pass the filters", updates_pass_the_filters},
    {"draws by name", draws_by_name},
    {"says what does not go", says_what_does_not_go},
    {"knows tensors and tasks", knows_tensors_and_tasks},
    {"finds the coordinator again", finds_the_coordinator_again},
    {"a full fleet has no place", a_full_fleet_has_no_place},
    {"tells the slow from the dead", tells_the_slow_from_the_dead},
};

FL_SUITE_MAIN("client", tests)
