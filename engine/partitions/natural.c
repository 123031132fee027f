#include <stdlib.h>

#include "partitions.h"

typedef struct natural_args {
  int64_t only;
} natural_args;

/* The population of one client. */
static fl_status deal_one(const fl_dataset *data, int64_t client, fl_population *out) {
  int32_t *owner = NULL;
  if (client >= data->n_client)
    return fl_fail(FEDLANE_USAGE, "only is %lld, but the data have the clients 0 .. %d",
                   (long long)client, data->n_client - 1);
  FL_TRY(fl_owner_new(data->n_train, &owner));
  for (int64_t e = 0; e < data->n_train; e++)
    if (data->client[e] == client) owner[e] = 0;
  fl_status status = fl_population_from_owner(1, data->n_train, owner, out);
  free(owner);
  return status;
}

static fl_status deal(const fl_dataset *data, const void *args, uint32_t seed, fl_population *out) {
  const natural_args *a = args;
  (void)seed;
  if (!data->client)
    return fl_fail(FEDLANE_USAGE,
                   "partition natural needs clients in the data, and these have none; iid, "
                   "dirichlet and shards make clients");
  if (a->only >= 0) return deal_one(data, a->only, out);
  return fl_population_from_owner(data->n_client, data->n_train, data->client, out);
}

static const fl_param params[] = {
    {.name = "only",
     .type = FL_INT,
     .offset = offsetof(natural_args, only),
     .dflt = -1,
     .lo = -1,
     .hi = 2147483646,
     .help = "the one client who takes part, as if it were alone; -1: all"},
};

const fl_partition fl_natural = {
    .record = {.name = "natural",
               .help = "the clients that the data set itself names",
               .args_size = sizeof(natural_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .deal = deal,
};
