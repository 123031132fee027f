/* A pulse: a thread that says for a session, over its pipeline, that it lives while nothing else is
 * said, such as while a program trains for long. The message is `alive`. */
#ifndef FL_PULSE_H
#define FL_PULSE_H

#include <stdatomic.h>

#include "port.h"

typedef struct fl_pulse fl_pulse;

/* Without a thread yet. The port is the caller's, and stays open until the pulse is closed;
 * *spoken: when the session last said something, in seconds of fl_pulse_now. Errors: MEMORY. */
fl_status fl_pulse_open(fl_port *port, const _Atomic double *spoken, fl_pulse **out);
/* Ends the thread. Accepts NULL; nulls *pulse. */
void fl_pulse_close(fl_pulse **pulse);
/* From now on it speaks for a session that promises to say something every `promise` seconds; 0:
 * for none. Errors: MEMORY when the thread cannot be started. */
fl_status fl_pulse_set(fl_pulse *pulse, uint64_t session, double promise);
/* Whoever else uses the port's pipeline holds the pulse meanwhile. */
void fl_pulse_hold(fl_pulse *pulse);
void fl_pulse_release(fl_pulse *pulse);
/* Seconds, of a clock that is never set. */
double fl_pulse_now(void);

#endif
