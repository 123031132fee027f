#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char sentence[16384];
static _Thread_local char place[128];

fl_status fl_fail_at(const char *file, int line, fl_status status, const char *format, ...) {
  /* The arguments may point into the old sentence, so the new one is made aside. */
  static _Thread_local char fresh[sizeof sentence];
  va_list args;
  va_start(args, format);
  vsnprintf(fresh, sizeof fresh, format, args);
  va_end(args);
  memcpy(sentence, fresh, strlen(fresh) + 1);
  snprintf(place, sizeof place, "%s:%d", file, line);
  return status;
}

const char *fl_fail_place(void) { return place; }

const char *fedlane_error(void) { return sentence; }

const char *fedlane_status_text(fedlane_status status) {
  static const char *const text[] = {
#define TEXT(name, line) line,
      FEDLANE_STATUS_LIST(TEXT)
#undef TEXT
  };
  if (status < 0 || status >= FEDLANE_STATUS_COUNT) return "an unknown status";
  return text[status];
}

const char *fedlane_version(void) { return FEDLANE_VERSION; }
