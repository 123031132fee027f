/* The few words of CURVE that keys need: ZeroMQ has them. */
#ifndef FL_CURVE_H
#define FL_CURVE_H

#include "keys.h"

enum { FL_KEY_BYTES = 32 }; /* of a key before it is written as characters */

/* A new pair; the public key of a secret one; whether a text of 40 characters is a key. */
bool fl_curve_make(fl_key_pair *pair);
bool fl_curve_public(fl_key_pair *pair);
bool fl_curve_is_key(const char *text);

#endif
