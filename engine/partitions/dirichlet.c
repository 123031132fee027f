#include <math.h>
#include <stdlib.h>

#include "partitions.h"

/* Cuts `total` into n parts in proportion to exp(log_share[i]) and writes where each ends. The last
 * ends at total: both sums are the same additions in the same order. */
static void cut(int32_t n, const double *log_share, int64_t total, int64_t *end) {
  double most = log_share[0], sum = 0, so_far = 0;
  for (int32_t i = 1; i < n; i++) most = fmax(most, log_share[i]);
  for (int32_t i = 0; i < n; i++) sum += exp(log_share[i] - most);
  for (int32_t i = 0; i < n; i++) {
    so_far += exp(log_share[i] - most);
    end[i] = llrint(so_far / sum * (double)total);
  }
}

/* Gamma draws are kept as logarithms, which stay finite where the draws would all be 0. */
static fl_status deal_piles(const fl_dirichlet_args *a, const fl_deck *deck, fl_rng *rng,
                            int32_t *owner) {
  int32_t n = (int32_t)a->clients;
  double *log_share = malloc((size_t)n * sizeof *log_share);
  int64_t *end = malloc((size_t)n * sizeof *end);
  bool failed = !log_share || !end;
  for (int k = 0; k < deck->piles && !failed; k++) {
    int64_t first = deck->begin[k], at = 0, total = deck->begin[k + 1] - first;
    if (total == 0) continue;
    for (int32_t i = 0; i < n; i++) log_share[i] = fl_rng_log_gamma(rng, a->alpha);
    cut(n, log_share, total, end);
    for (int32_t i = 0; i < n; i++)
      while (at < end[i]) owner[deck->card[first + at++]] = i;
  }
  free(log_share);
  free(end);
  return failed ? fl_fail(FEDLANE_MEMORY, "no memory for %d clients", n) : FEDLANE_OK;
}

fl_status fl_deal_dirichlet(const fl_dataset *data, const fl_dirichlet_args *args, bool by_label,
                            uint32_t seed, fl_population *out) {
  int32_t clients = (int32_t)args->clients, *owner = NULL;
  fl_rng rng = fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_PARTITION});
  fl_deck deck = {0};
  fl_status status;
  FL_GO(fl_check_clients(clients, args->least, data));
  FL_GO(fl_deck_open(data, by_label, &rng, &deck));
  FL_GO(fl_owner_new(data->n_train, &owner));
  FL_GO(deal_piles(args, &deck, &rng, owner));
  FL_GO(fl_owner_repair(data, clients, args->least, &rng, owner));
  FL_GO(fl_population_from_owner(clients, data->n_train, owner, out));
done:
  fl_deck_close(&deck);
  free(owner);
  return status;
}

static fl_status deal(const fl_dataset *data, const void *args, uint32_t seed, fl_population *out) {
  return fl_deal_dirichlet(data, args, true, seed, out);
}

static const fl_param params[] = {
    FL_PARAM_CLIENTS(fl_dirichlet_args),
    {.name = "alpha",
     .type = FL_REAL,
     .offset = offsetof(fl_dirichlet_args, alpha),
     .dflt = 0.3,
     .lo = 0.001,
     .hi = 1e6,
     .help = "concentration: small gives clients few classes and unequal sizes, large makes them "
             "alike"},
    FL_PARAM_LEAST(fl_dirichlet_args),
};

const fl_partition fl_dirichlet = {
    .record = {.name = "dirichlet",
               .help = "each class is shared out in Dirichlet(alpha) proportions",
               .paper =
                   "Yurochkin et al., Bayesian Nonparametric Federated Learning of Neural "
                   "Networks, ICML 2019, arXiv:1905.12022; Hsu et al., Measuring the Effects of "
                   "Non-Identical Data Distribution, 2019, arXiv:1909.06335",
               .args_size = sizeof(fl_dirichlet_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .deal = deal,
};
