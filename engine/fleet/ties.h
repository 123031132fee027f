/* The coordinator's ties, one to each worker that offered a device: what `fleet.sums` says comes
 * true here. A host of transport/fleet.h hands its calls on. */
#ifndef FL_TIES_H
#define FL_TIES_H

#include "fleet.h"
#include "run.h"

typedef struct fl_ties fl_ties;

/* Errors: USAGE when fleet.sums is nccl and there can be no ties. */
fl_status fl_ties_open(fedlane_run *run, fl_ties **out);
/* Accepts NULL; nulls *ties. */
void fl_ties_close(fl_ties **ties);
/* Those of fl_fleet_host. */
bool fl_ties_offered(fl_ties *ties, uint64_t session, const fl_offer *offer, unsigned char *id);
const char *fl_ties_unfit(fl_ties *ties, uint64_t session);
bool fl_ties_send(fl_ties *ties, uint64_t session, uint64_t vector);
void fl_ties_gone(fl_ties *ties, uint64_t session);
/* The sums of an upload that come over the tie are received, looked at and, when all of them are
 * there and can be what they are said to be, added. weight: of the upload's clients. *cause: shape,
 * oversized, tie. Errors: of the device. */
fl_status fl_ties_take(fl_ties *ties, const fl_upload *upload, int64_t weight, fl_cause *cause);
/* Says in one line how sums travel now. */
void fl_ties_say(const fl_ties *ties, char *text, size_t size);

#endif
