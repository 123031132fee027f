#include "keys.h"
fl_status fl_keys_make(fl_key_pair *pair) {
  *pair = (fl_key_pair){{0}, {0}};
  return fl_fail(FEDLANE_UNSUPPORTED, "keys cannot be made yet");
}
