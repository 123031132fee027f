/* One message of each kind for the suites of the wire: the smallest, one as it may be, the largest.
 */
#ifndef FL_WIRE_CASES_H
#define FL_WIRE_CASES_H

#include "wire.h"

typedef enum fl_wire_case {
  FL_WIRE_SMALLEST,
  FL_WIRE_TYPICAL,
  FL_WIRE_LARGEST,
  FL_WIRE_CASES
} fl_wire_case;

/* Fills *out; its bytes are constant and live as long as the program. */
void fl_wire_case_fill(fl_message_kind kind, fl_wire_case which, fl_message *out);
/* Whether two messages have the same kind and fields. */
bool fl_wire_case_same(const fl_message *a, const fl_message *b);
/* The eight floats that docs/wire.md writes as every payload. */
extern const float fl_wire_floats[8];

#endif
