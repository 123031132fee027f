/* The partitions, one a file, and what they share. A partition fills owner[e], the client of each
 * training example, and fl_population_from_owner does the rest. */
#ifndef FL_PARTITIONS_H
#define FL_PARTITIONS_H

#include "dataset.h"

extern const fl_partition fl_dirichlet, fl_iid, fl_natural, fl_pathological, fl_quantity, fl_shards;

/* An array for n examples, all -1; free it. Errors: MEMORY. */
fl_status fl_owner_new(int64_t n, int32_t **out);

/* The training examples in random order, in one pile or in one pile a class. */
typedef struct fl_deck {
  int32_t *card;  /* [n_train] example numbers; inside a pile their order is random */
  int64_t *begin; /* [piles+1] pile k is card[begin[k]] .. card[begin[k+1]-1] */
  int piles;
} fl_deck;

/* Errors: USAGE when by_label and the data have no labels, MEMORY. O(examples). */
fl_status fl_deck_open(const fl_dataset *data, bool by_label, fl_rng *rng, fl_deck *out);
void fl_deck_close(fl_deck *deck);

/* Gives every client at least `least` examples: those with too few get examples, chosen at random,
 * from those with most, who are cut down to a common level. owner: all 0 .. clients-1.
 * O(examples + clients * log(examples)). Errors: MEMORY. The caller has checked that it can be. */
fl_status fl_owner_repair(const fl_dataset *data, int32_t clients, int64_t least, fl_rng *rng,
                          int32_t *owner);

/* Checks that each client can have `least` examples. Errors: USAGE. */
fl_status fl_check_clients(int64_t clients, int64_t least, const fl_dataset *data);

typedef struct fl_dirichlet_args {
  int64_t clients, least;
  double alpha;
} fl_dirichlet_args;
/* Cuts each pile of the deck (by_label or not) into one run a client, in Dirichlet proportions. */
fl_status fl_deal_dirichlet(const fl_dataset *data, const fl_dirichlet_args *args, bool by_label,
                            uint32_t seed, fl_population *out);

/* Parameters of many partitions. */
#define FL_PARAM_CLIENTS(args)                                                                  \
  {                                                                                             \
    .name = "clients", .type = FL_INT, .offset = offsetof(args, clients), .dflt = 100, .lo = 1, \
    .hi = 2147483646, .help = "number of clients"                                               \
  }
#define FL_PARAM_LEAST(args)                                                                     \
  {                                                                                              \
    .name = "min_examples", .type = FL_INT, .offset = offsetof(args, least), .dflt = 1, .lo = 0, \
    .hi = 2147483646, .unit = "examples", .help = "least examples of a client"                   \
  }

#endif
