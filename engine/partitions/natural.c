#include "partitions.h"

static fl_status deal(const fl_dataset *data, const void *args, uint32_t seed, fl_population *out) {
  (void)args, (void)seed;
  if (!data->client)
    return fl_fail(FEDLANE_USAGE,
                   "partition natural needs clients in the data, and these have none; iid, "
                   "dirichlet and shards make clients");
  return fl_population_from_owner(data->n_client, data->n_train, data->client, out);
}

const fl_partition fl_natural = {
    .record = {.name = "natural", .help = "the clients that the data set itself names"},
    .deal = deal,
};
