#include <stdlib.h>
#include <string.h>

#include "run.h"

int32_t fl_schedule_pieces(const fl_schedule *s, int32_t n_example) {
  return s->epochs * (n_example / s->batch + (n_example % s->batch > 0));
}

int32_t fl_schedule_steps(const fl_schedule *s, int32_t n_example) {
  return s->whole ? s->epochs : fl_schedule_pieces(s, n_example);
}

int32_t fl_run_examples(const fedlane_run *run, uint32_t client) {
  return run->people.n_train[client];
}

int32_t fl_run_weight(const fedlane_run *run, uint32_t client) {
  return run->weighting == FL_UNIFORM ? 1 : fl_run_examples(run, client);
}

int64_t fl_run_answers(const fedlane_run *run, uint32_t client) {
  const fl_population *p = &run->people;
  const int32_t *example = p->index + p->offset[client];
  int64_t answers = 0;
  if (!run->data.counted) return (int64_t)p->n_train[client] * fl_dataset_counted(&run->data, 0);
  for (int32_t i = 0; i < p->n_train[client]; i++) answers += run->data.counted[example[i]];
  return answers;
}

fl_status fl_cohort_open(fedlane_run *run) {
  fl_cohort *c = &run->cohort;
  size_t n = (size_t)run->config->train.cohort;
  c->n_share = run->devices.together == 0 ? run->n_station : 1;
  c->capacity = (int32_t)n;
  c->client = calloc(n, sizeof *c->client);
  c->nth = calloc(n, sizeof *c->nth);
  c->rank = calloc(n, sizeof *c->rank);
  c->loss = calloc(n, sizeof *c->loss);
  c->hit = calloc(n, sizeof *c->hit);
  c->accepted = calloc(n, sizeof *c->accepted);
  c->order = calloc(n, sizeof *c->order);
  c->drawn = calloc(n, sizeof *c->drawn);
  if (!c->order || !c->drawn || !c->client || !c->nth || !c->rank || !c->loss || !c->hit ||
      !c->accepted)
    return fl_fail(FEDLANE_MEMORY, "no memory for a cohort of %zu clients", n);
  return FEDLANE_OK;
}

void fl_cohort_close(fl_cohort *c) {
  free(c->client);
  free(c->nth);
  free(c->rank);
  free(c->loss);
  free(c->hit);
  free(c->accepted);
  free(c->order);
  free(c->drawn);
  memset(c, 0, sizeof *c);
}

static int by_client(const void *a, const void *b) {
  const fl_drawn *x = a, *y = b;
  if (x->client != y->client) return x->client < y->client ? -1 : 1;
  return (x->rank > y->rank) - (x->rank < y->rank);
}

static int by_work(const void *a, const void *b) {
  const fl_drawn *x = a, *y = b;
  if (x->work != y->work) return x->work > y->work ? -1 : 1;
  return (x->rank > y->rank) - (x->rank < y->rank);
}

/* Numbers the occurrences of a client, leaves out clients without examples, sorts by work. */
static int32_t arrange(const fedlane_run *run, int32_t n, fl_drawn *s) {
  int32_t kept = 0;
  qsort(s, (size_t)n, sizeof *s, by_client);
  for (int32_t i = 0; i < n; i++) {
    int32_t examples = fl_run_examples(run, s[i].client);
    s[i].nth = i > 0 && s[i - 1].client == s[i].client ? s[i - 1].nth + 1 : 0;
    s[i].work = fl_schedule_pieces(&run->schedule, examples);
  }
  qsort(s, (size_t)n, sizeof *s, by_work);
  while (kept < n && s[kept].work > 0) kept++;
  return kept;
}

/* Each client, those with most work first, goes to the share with least so far that has a seat
 * left: equal numbers, so that lanes are used alike, and nearly equal work. */
static void share_out(fl_cohort *c, int32_t first, int32_t n) {
  int32_t seats = (n + c->n_share - 1) / c->n_share, end = 0;
  memset(c->share, 0, sizeof c->share);
  for (int32_t i = first; i < first + n; i++) {
    fl_share *least = NULL;
    for (fl_share *s = c->share; s < c->share + c->n_share; s++)
      if (s->n < seats && (!least || s->work < least->work)) least = s;
    least->n++;
    least->work += c->order[i].work;
    c->order[i].share = (int32_t)(least - c->share);
  }
  for (fl_share *s = c->share; s < c->share + c->n_share; s++) {
    atomic_store(&s->next, end);
    s->end = end;
    end += s->n;
  }
}

void fl_cohort_shuffle(const fedlane_run *run, int round, uint32_t client, uint32_t nth, int epoch,
                       int32_t n, int32_t *example) {
  fl_rng rng = fl_rng_open((fl_key){.seed = (uint32_t)run->config->general.seed,
                                    .purpose = FL_FOR_SHUFFLE,
                                    .round = (uint32_t)round,
                                    .client = client,
                                    .nth = nth,
                                    .step = (uint32_t)epoch});
  fl_rng_shuffle(&rng, example, n);
}

fl_status fl_cohort_draw(fedlane_run *run) {
  fl_cohort *c = &run->cohort;
  const fl_sampler *sampler = (const fl_sampler *)run->config->sampler.record;
  FL_TRY(sampler->draw(run->config->sampler.args, (uint32_t)run->config->general.seed,
                       (uint32_t)run->round + 1, run->people.n, c->capacity, c->drawn));
  for (int32_t i = 0; i < c->capacity; i++)
    c->order[i] = (fl_drawn){.client = (uint32_t)c->drawn[i], .rank = i};
  c->n = arrange(run, c->capacity, c->order);
  c->weight = 0;
  for (int32_t i = 0; i < c->n; i++) c->weight += fl_run_weight(run, c->order[i].client);
  memset(c->accepted, 0, (size_t)c->capacity * sizeof *c->accepted);
  fl_cohort_seat(c, 0, c->n);
  return FEDLANE_OK;
}

void fl_cohort_seat(fl_cohort *c, int32_t first, int32_t n) {
  share_out(c, first, n);
  for (int32_t i = first; i < first + n; i++) {
    const fl_drawn *one = &c->order[i];
    int32_t at = c->share[one->share].end++;
    c->client[at] = one->client;
    c->nth[at] = one->nth;
    c->rank[at] = one->rank;
  }
}

int fl_cohort_take(fl_cohort *c, int station, int most, int *first) {
  fl_share *s = &c->share[station % c->n_share];
  int at = atomic_fetch_add(&s->next, most);
  if (at >= s->end) return 0;
  *first = at;
  return s->end - at < most ? s->end - at : most;
}
