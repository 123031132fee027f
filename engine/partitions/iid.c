#include <stdlib.h>

#include "partitions.h"

typedef struct iid_args {
  int64_t clients;
} iid_args;

static fl_status deal(const fl_dataset *data, const void *args, uint32_t seed, fl_population *out) {
  const iid_args *a = args;
  fl_rng rng = fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_PARTITION});
  fl_deck deck = {0};
  int32_t *owner = NULL;
  fl_status status;
  FL_GO(fl_check_clients(a->clients, 1, data));
  FL_GO(fl_deck_open(data, false, &rng, &deck));
  FL_GO(fl_owner_new(data->n_train, &owner));
  for (int64_t i = 0; i < data->n_train; i++) owner[deck.card[i]] = (int32_t)(i % a->clients);
  FL_GO(fl_population_from_owner((int32_t)a->clients, data->n_train, owner, out));
done:
  fl_deck_close(&deck);
  free(owner);
  return status;
}

static const fl_param params[] = {
    FL_PARAM_CLIENTS(iid_args),
};

const fl_partition fl_iid = {
    .record = {.name = "iid",
               .help = "equal shares (within one example) of the shuffled examples",
               .paper = "McMahan et al., Communication-Efficient Learning of Deep Networks from "
                        "Decentralized Data, AISTATS 2017, arXiv:1602.05629",
               .args_size = sizeof(iid_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .deal = deal,
};
