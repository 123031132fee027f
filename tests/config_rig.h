/* What the configuration suites share: two configurations, and how a text is taken or refused. */
#ifndef FL_CONFIG_RIG_H
#define FL_CONFIG_RIG_H

#include "engine.h"

extern const char fl_config_full[];  /* as in the design: one of everything */
extern const char fl_config_least[]; /* only what must be there */

/* The configuration that text (called c.yaml) and n overrides describe; the test ends when they are
 * refused. Close it. */
fl_config *fl_rig_parse(const char *text, int n, const char *const *overrides);
/* With one override, or with none when it is NULL. */
fl_config *fl_rig_parse_one(const char *text, const char *override);
/* Asserts that the text is refused with just these sentences. A last sentence that ends in a space
 * may go on. */
void fl_rig_refused(const char *text, const char *override, const char *wanted);
/* Asserts equality and prints both when they differ. */
void fl_rig_same(const char *got, const char *wanted);

#endif
