#include "curve.h"

#include <string.h>
#include <zmq.h>

bool fl_curve_make(fl_key_pair *pair) {
  return zmq_has("curve") && zmq_curve_keypair(pair->open, pair->secret) == 0;
}

bool fl_curve_public(fl_key_pair *pair) {
  return zmq_has("curve") && zmq_curve_public(pair->open, pair->secret) == 0;
}

bool fl_curve_is_key(const char *text) {
  uint8_t bytes[FL_KEY_BYTES];
  bool good = strlen(text) == FL_KEY_CHARACTERS && zmq_z85_decode(bytes, text);
  explicit_bzero(bytes, sizeof bytes);
  return good;
}
