#include <stdlib.h>

#include "partitions.h"

typedef struct pathological_args {
  int64_t clients, least, classes;
} pathological_args;

/* Chooses `each` distinct classes a client so that all K come up equally often: they are dealt from
 * a shuffled pack. When it is used up, the cards that the client holds lie at its end and stay
 * there until the client is served. pick: [clients * each]; pack: [K], scratch. */
static void pick_classes(int32_t clients, int32_t each, int32_t K, fl_rng *rng, int32_t *pack,
                         int32_t *pick) {
  int32_t used = K;
  for (int32_t k = 0; k < K; k++) pack[k] = k;
  for (int32_t i = 0; i < clients; i++) {
    bool again = false;
    for (int32_t have = 0; have < each; have++) {
      if (used == K) {
        fl_rng_shuffle(rng, pack, K - have);
        used = 0;
        again = true;
      }
      *pick++ = pack[used++];
    }
    if (again) fl_rng_shuffle(rng, pack + used, K - used);
  }
}

/* Shares each class equally among the clients that picked it. `by` has a class for a client and a
 * pick for an example. */
static fl_status deal_picked(const fl_deck *deck, const fl_population *by, int32_t each,
                             int32_t *owner) {
  for (int32_t k = 0; k < deck->piles; k++) {
    const int32_t *card = deck->card + deck->begin[k], *pick = by->index + by->offset[k];
    int64_t n = deck->begin[k + 1] - deck->begin[k], sharers = by->offset[k + 1] - by->offset[k];
    if (sharers == 0 && n > 0)
      return fl_fail(FEDLANE_USAGE,
                     "%d clients of %d classes leave some of the %d classes to nobody; clients * "
                     "classes must be at least that many",
                     (int)(by->offset[by->n] / each), each, deck->piles);
    for (int64_t i = 0; i < n; i++) owner[card[i]] = pick[i * sharers / n] / each;
  }
  return FEDLANE_OK;
}

static fl_status check(const pathological_args *a, const fl_dataset *data) {
  FL_TRY(fl_check_clients(a->clients, a->least, data));
  if (data->label && a->classes > data->classes)
    return fl_fail(FEDLANE_USAGE,
                   "classes is %lld; it must lie in 1 .. %d, the classes of the data",
                   (long long)a->classes, data->classes);
  if (a->clients * a->classes > INT32_MAX)
    return fl_fail(FEDLANE_USAGE, "clients * classes is %lld; it must be at most %d",
                   (long long)(a->clients * a->classes), INT32_MAX);
  return FEDLANE_OK;
}

static fl_status deal(const fl_dataset *data, const void *args, uint32_t seed, fl_population *out) {
  const pathological_args *a = args;
  int32_t clients = (int32_t)a->clients, each = (int32_t)a->classes;
  int32_t *owner = NULL, *pack = NULL, *pick = NULL;
  fl_rng rng = fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_PARTITION});
  fl_deck deck = {0};
  fl_population by_class = {0};
  fl_status status;
  FL_GO(check(a, data));
  FL_GO(fl_deck_open(data, true, &rng, &deck));
  FL_GO(fl_owner_new(data->n_train, &owner));
  FL_GO(fl_owner_new(data->classes, &pack));
  FL_GO(fl_owner_new(a->clients * a->classes, &pick));
  pick_classes(clients, each, data->classes, &rng, pack, pick);
  FL_GO(fl_population_from_owner(data->classes, a->clients * a->classes, pick, &by_class));
  FL_GO(deal_picked(&deck, &by_class, each, owner));
  FL_GO(fl_owner_repair(data, clients, a->least, &rng, owner));
  FL_GO(fl_population_from_owner(clients, data->n_train, owner, out));
done:
  fl_population_close(&by_class);
  fl_deck_close(&deck);
  free(owner);
  free(pack);
  free(pick);
  return status;
}

static const fl_param params[] = {
    FL_PARAM_CLIENTS(pathological_args),
    {.name = "classes",
     .type = FL_INT,
     .offset = offsetof(pathological_args, classes),
     .dflt = 2,
     .lo = 1,
     .hi = FL_CLASSES_MAX,
     .help = "classes of a client"},
    FL_PARAM_LEAST(pathological_args),
};

const fl_partition fl_pathological = {
    .record = {.name = "pathological",
               .help = "each client has examples of a few classes only, shared equally",
               .paper = "Li et al., Federated Learning on Non-IID Data Silos: An Experimental "
                        "Study, ICDE 2022, arXiv:2102.02079",
               .args_size = sizeof(pathological_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .deal = deal,
};
