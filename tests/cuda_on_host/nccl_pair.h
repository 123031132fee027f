/* Two ranks that know nothing of each other but an id, and may be driven by a host thread each.
 * What one sends is copied when the other receives: whoever comes second does it. */
#ifndef FL_HOST_NCCL_PAIR_H
#define FL_HOST_NCCL_PAIR_H

#include <memory>

#include "nccl.h"

struct fl_host_pair;

ncclResult_t fl_host_pair_make(ncclUniqueId *id);
/* NULL: nobody has made this id. */
std::shared_ptr<fl_host_pair> fl_host_pair_of(const ncclUniqueId &id);
/* ncclInProgress, or why not. */
ncclResult_t fl_host_pair_join(fl_host_pair &pair, int rank, int device);
/* What a rank may do: nothing yet (ncclInProgress), everything, or nothing any more. */
ncclResult_t fl_host_pair_state(fl_host_pair &pair, int rank);
ncclResult_t fl_host_pair_move(const std::shared_ptr<fl_host_pair> &pair, int rank, bool send,
                               void *at, size_t n, cudaStream_t stream);
/* What this rank waits for ends; the other is told, and what it waits for does not. */
void fl_host_pair_abort(fl_host_pair &pair, int rank);

#endif
