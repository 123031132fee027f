/* Parameters as text: how a value is read, checked, written and described. Numbers follow the C
 * locale's LC_NUMERIC of the caller; the configuration reader sets "C" for its thread. */
#ifndef FL_PARAM_H
#define FL_PARAM_H

#include <stdio.h>

#include "record.h"

enum { FL_PARAM_TEXT = 320 };

/* Puts the value that text stands for at its place in args. A TEXT value is stored as the pointer
 * itself. quoted: text stood in quotes, so it is no number. Returns false when it is no such value,
 * with the rest of the sentence that begins with the key in why: "is -1; it must lie in (0, inf)".
 */
bool fl_param_read(const fl_param *param, const char *text, bool quoted, void *args,
                   char why[FL_PARAM_TEXT]);
/* What a value must be, after "it must": "be a number in (0, inf)". Returns out. */
const char *fl_param_wants(const fl_param *param, char out[FL_PARAM_TEXT]);
/* The range "(0, inf)" of a number, the words of a choice, or "". Returns out. */
const char *fl_param_range(const fl_param *param, char out[FL_PARAM_TEXT]);
/* The value in args as YAML: numbers so that they read back to the same bits, TEXT in quotes. */
void fl_param_write(const fl_param *param, const void *args, FILE *out);
/* The same into a text, cut at size-1 bytes. Returns out. */
const char *fl_param_print(const fl_param *param, const void *args, size_t size, char *out);
/* "real", "int", "bool", "text" or "choice". */
const char *fl_type_name(fl_type type);
/* Word i of a choice, of *length characters; NULL when there are fewer. */
const char *fl_param_word(const fl_param *param, int i, size_t *length);
/* The parameter called name, or NULL. record may be NULL. */
const fl_param *fl_record_param(const fl_record *record, const char *name);
/* Whether text is valid UTF-8, as YAML needs it. */
bool fl_text_valid(const char *text);
/* Makes text valid UTF-8: a question mark for each byte that belongs to no character. */
void fl_text_mend(char *text);
/* text in double quotes, with everything escaped that YAML or the reader would take for more than a
 * letter; a dollar sign is doubled. */
void fl_text_write(const char *text, FILE *out);

#endif
