#include <stdlib.h>

#include "partitions.h"

typedef struct shards_args {
  int64_t clients, shards;
} shards_args;

/* place: the shards in random order; client i gets the i-th `shards` of them. */
static void deal_shards(const shards_args *a, int64_t n, const int32_t *card, const int32_t *place,
                        int32_t *owner) {
  int64_t all = a->clients * a->shards;
  for (int64_t s = 0; s < all; s++) {
    int32_t client = (int32_t)(s / a->shards);
    int64_t end = (place[s] + 1) * n / all;
    for (int64_t i = place[s] * n / all; i < end; i++) owner[card[i]] = client;
  }
}

static fl_status deal(const fl_dataset *data, const void *args, uint32_t seed, fl_population *out) {
  const shards_args *a = args;
  fl_rng rng = fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_PARTITION});
  fl_deck deck = {0};
  int32_t *owner = NULL, *place = NULL;
  fl_status status;
  FL_GO(fl_check_clients(a->clients, a->shards, data));
  FL_GO(fl_deck_open(data, true, &rng, &deck));
  FL_GO(fl_owner_new(data->n_train, &owner));
  FL_GO(fl_owner_new(a->clients * a->shards, &place));
  for (int32_t s = 0; s < a->clients * a->shards; s++) place[s] = s;
  fl_rng_shuffle(&rng, place, a->clients * a->shards);
  deal_shards(a, data->n_train, deck.card, place, owner);
  FL_GO(fl_population_from_owner((int32_t)a->clients, data->n_train, owner, out));
done:
  fl_deck_close(&deck);
  free(owner);
  free(place);
  return status;
}

static const fl_param params[] = {
    FL_PARAM_CLIENTS(shards_args),
    {.name = "shards",
     .type = FL_INT,
     .offset = offsetof(shards_args, shards),
     .dflt = 2,
     .lo = 1,
     .hi = 1e6,
     .help = "shards a client gets"},
};

const fl_partition fl_shards = {
    .record = {.name = "shards",
               .help = "examples sorted by label and cut into equal shards; each client gets a few",
               .paper = "McMahan et al., Communication-Efficient Learning of Deep Networks from "
                        "Decentralized Data, AISTATS 2017, arXiv:1602.05629",
               .args_size = sizeof(shards_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .deal = deal,
};
