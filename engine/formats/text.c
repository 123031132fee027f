#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "formats.h"
#include "formats/names.h"
#include "formats/sequences.h"
#include "formats/table.h"
#include "formats/words.h"

typedef struct text_args {
  const char *vocabulary;
  int unit;
  bool speakers, pack;
  int64_t clients, least, sequence, words;
  double test;
} text_args;

enum { CHARACTER, WORD };

/* What one speaker says at a time: bytes first .. first+n-1 of the text. */
typedef struct speech {
  int64_t first, n;
  int32_t speaker;
  bool test;
} speech;

typedef struct reader {
  const fl_load *how;
  const text_args *args;
  fl_dataset *out;
  char *text;
  int64_t size;
  fl_names speakers;
  int64_t n, room;
  speech *speech;
  int32_t character[UCHAR_MAX + 1]; /* numbers of bytes; 0: unknown */
  int32_t known;                    /* tokens besides the four special ones */
  fl_words_known words;
  int64_t n_token, token_room; /* of the speeches that are being joined */
  int32_t *token;
  fl_sequences train, test;
} reader;

static fl_status add_speech(reader *r, speech s) {
  if (r->n == r->room) {
    int64_t room = r->room ? 2 * r->room : 256;
    speech *more = realloc(r->speech, (size_t)room * sizeof *more);
    if (!more) return fl_fail(FEDLANE_MEMORY, "no memory for %lld speeches", (long long)room);
    r->speech = more;
    r->room = room;
  }
  r->speech[r->n++] = s;
  return FEDLANE_OK;
}

/* The end of the line that begins at `at`: its line feed, or the end of the text. */
static int64_t line_end(const reader *r, int64_t at) {
  const char *end = memchr(r->text + at, '\n', (size_t)(r->size - at));
  return end ? end - r->text : r->size;
}

/* The lines first .. end-1 between two blank ones: a name with a colon, and then what is said. A
 * name without words is passed by. line: of the name, for messages. */
static fl_status take_block(reader *r, int64_t first, int64_t end, int64_t line) {
  int64_t head = line_end(r, first);
  char *name = r->text + first;
  bool named = head > first + 1 && r->text[head - 1] == ':';
  if (memchr(name, '\0', (size_t)(end - first)))
    return fl_fail(FEDLANE_DATA, "%s:%lld: there is a zero byte in the speech", r->how->path,
                   (long long)line);
  if (!named)
    return fl_fail(FEDLANE_DATA,
                   "%s:%lld: the speech begins with '%.*s' and not with 'NAME:'; plain text takes "
                   "speakers: false",
                   r->how->path, (long long)line, (int)(head - first < 40 ? head - first : 40),
                   name);
  if (head + 1 >= end) return FEDLANE_OK;
  speech s = {.first = head + 1, .n = end - head - 1};
  r->text[head - 1] = '\0';
  FL_TRY(fl_names_add(&r->speakers, name, &s.speaker));
  return add_speech(r, s);
}

static fl_status split_speeches(reader *r) {
  int64_t line = 1, begin = -1, begin_line = 0;
  for (int64_t at = 0; at <= r->size; line++) {
    int64_t end = at < r->size ? line_end(r, at) : at;
    if (end > at && begin < 0) {
      begin = at;
      begin_line = line;
    } else if (end == at && begin >= 0) {
      FL_TRY(fl_pass_over(r->how, take_block(r, begin, at - 1, begin_line), &r->out->skipped));
      begin = -1;
    }
    at = end + 1;
  }
  if (begin < 0) return FEDLANE_OK;
  return fl_pass_over(r->how, take_block(r, begin, r->size, begin_line), &r->out->skipped);
}

/* Leaves out who speaks less often than asked for, and gives the last speeches of each to the test.
 */
static fl_status choose_speeches(reader *r) {
  int32_t n = r->speakers.n, clients = 0;
  int32_t *count = calloc(3 * (size_t)n + 1, sizeof *count); /* and two arrays more */
  if (!count) return fl_fail(FEDLANE_MEMORY, "no memory for %d speakers", n);
  int32_t *seen = count + n, *number = seen + n;
  for (int64_t i = 0; i < r->n; i++) count[r->speech[i].speaker]++;
  for (int32_t i = 0; i < n; i++) number[i] = count[i] >= r->args->least ? clients++ : -1;
  int64_t kept = 0;
  for (int64_t i = 0; i < r->n; i++) {
    speech s = r->speech[i];
    int32_t of = count[s.speaker];
    s.test = seen[s.speaker]++ >= of - (int32_t)(r->args->test * of);
    s.speaker = number[s.speaker];
    if (s.speaker >= 0) r->speech[kept++] = s;
  }
  r->n = kept;
  r->out->n_client = clients;
  free(count);
  return FEDLANE_OK;
}

/* Consecutive parts as clients, the last share of each for the test. */
static fl_status split_parts(reader *r) {
  int64_t n = r->args->clients;
  if (r->size < 2 * n)
    return fl_fail(FEDLANE_DATA, "%s: %lld bytes are too few for %lld clients", r->how->path,
                   (long long)r->size, (long long)n);
  for (int64_t i = 0; i < n; i++) {
    int64_t first = r->size / n * i + r->size % n * i / n;
    int64_t end = r->size / n * (i + 1) + r->size % n * (i + 1) / n;
    int64_t test = (int64_t)(r->args->test * (double)(end - first));
    FL_TRY(add_speech(r, (speech){first, end - first - test, (int32_t)i, false}));
    if (test > 0) FL_TRY(add_speech(r, (speech){end - test, test, (int32_t)i, true}));
  }
  r->out->n_client = (int32_t)n;
  return FEDLANE_OK;
}

static bool of_word(char c) { return isalnum((unsigned char)c) || c == '\'' || (c & 0x80); }

/* The next word from *at on: letters, digits and apostrophes, or one other sign. False at the end.
 */
static bool next_word(const reader *r, const speech *s, int64_t *at, int64_t *length) {
  int64_t end = s->first + s->n, i = *at;
  while (i < end && (isspace((unsigned char)r->text[i]) || r->text[i] == '\0')) i++;
  *at = i;
  while (i < end && of_word(r->text[i])) i++;
  if (i == *at && i < end) i++;
  *length = i - *at;
  return *length > 0;
}

static fl_status number_characters(reader *r) {
  bool found[UCHAR_MAX + 1] = {false};
  unsigned char *file = NULL;
  int64_t size = 0;
  if (*r->args->vocabulary) FL_TRY(fl_read_all(r->args->vocabulary, &file, &size));
  for (int64_t i = 0; i < size; i++)
    if (r->character[file[i]] == 0) r->character[file[i]] = ++r->known;
  free(file);
  if (*r->args->vocabulary) return FEDLANE_OK;
  for (int64_t k = 0; k < r->n; k++)
    for (int64_t i = 0; !r->speech[k].test && i < r->speech[k].n; i++)
      found[(unsigned char)r->text[r->speech[k].first + i]] = true;
  for (int b = 0; b <= UCHAR_MAX; b++)
    if (found[b]) r->character[b] = ++r->known;
  return FEDLANE_OK;
}

/* A word of the training speeches, and how often it stands there. */
typedef struct frequency {
  int64_t count;
  const char *text;
} frequency;

static int by_count(const void *left, const void *right) {
  const frequency *a = left, *b = right;
  if (a->count != b->count) return a->count > b->count ? -1 : 1;
  return strcmp(a->text, b->text);
}

static int by_text(const void *a, const void *b) {
  return strcmp(((const fl_word *)a)->text, ((const fl_word *)b)->text);
}

/* names.n words by their counts; the most frequent become known. */
static fl_status keep_frequent(reader *r, const fl_names *names, frequency *word) {
  for (int32_t i = 0; i < names->n; i++) word[i].text = names->text[i];
  qsort(word, (size_t)names->n, sizeof *word, by_count);
  int32_t most = names->n < r->args->words ? names->n : (int32_t)r->args->words;
  r->words.word = calloc((size_t)most + 1, sizeof *r->words.word);
  if (!r->words.word) return fl_fail(FEDLANE_MEMORY, "no memory for %d words", most);
  for (int32_t i = 0; i < most; i++) {
    char *text = strdup(word[i].text);
    if (!text) return fl_fail(FEDLANE_MEMORY, "no memory for %d words", most);
    r->words.word[r->words.n++] = (fl_word){text, i + 1};
  }
  qsort(r->words.word, (size_t)r->words.n, sizeof *r->words.word, by_text);
  return FEDLANE_OK;
}

/* Calls the words of the training speeches by their names: new ones are added while counts is NULL,
 * else each is counted. */
static fl_status count_words(const reader *r, fl_names *names, frequency *counts) {
  for (int64_t k = 0; k < r->n; k++) {
    const speech *s = &r->speech[k];
    for (int64_t at = s->first, n; !s->test && next_word(r, s, &at, &n); at += n) {
      int32_t number;
      char *end = r->text + at + n, after = *end;
      *end = '\0';
      fl_status status = fl_names_add(names, r->text + at, &number);
      *end = after;
      if (status != FEDLANE_OK) return status;
      if (counts) counts[number].count++;
    }
  }
  return FEDLANE_OK;
}

static fl_status number_words(reader *r) {
  fl_status status;
  fl_names names = {0};
  frequency *counts = NULL;
  if (*r->args->vocabulary) {
    FL_TRY(fl_words_read(r->args->vocabulary, (int32_t)r->args->words, &r->words));
    r->known = r->words.n;
    return FEDLANE_OK;
  }
  FL_GO(count_words(r, &names, NULL));
  counts = calloc((size_t)names.n + 1, sizeof *counts);
  if (counts) {
    FL_GO(count_words(r, &names, counts));
    FL_GO(keep_frequent(r, &names, counts));
  } else {
    status = fl_fail(FEDLANE_MEMORY, "no memory for %d words", names.n);
  }
  r->known = r->words.n;
done:
  free(counts);
  fl_names_free(&names);
  return status;
}

static fl_status add_token(reader *r, int32_t token) {
  if (r->n_token == r->token_room) {
    int64_t room = r->token_room ? 2 * r->token_room : 1024;
    int32_t *more = realloc(r->token, (size_t)room * sizeof *more);
    if (!more) return fl_fail(FEDLANE_MEMORY, "no memory for %lld tokens", (long long)room);
    r->token = more;
    r->token_room = room;
  }
  r->token[r->n_token++] = token;
  return FEDLANE_OK;
}

/* A speech's tokens between those that begin and end it. */
static fl_status add_tokens(reader *r, const speech *s) {
  int32_t unknown = r->known + 1;
  FL_TRY(add_token(r, r->known + 2));
  if (r->args->unit == CHARACTER)
    for (int64_t i = s->first; i < s->first + s->n; i++) {
      int32_t number = r->character[(unsigned char)r->text[i]];
      FL_TRY(add_token(r, number > 0 ? number : unknown));
    }
  else
    for (int64_t at = s->first, n; next_word(r, s, &at, &n); at += n)
      FL_TRY(add_token(r, fl_words_number(&r->words, r->text + at, (size_t)n)));
  return add_token(r, r->known + 3);
}

static int by_client(const void *left, const void *right) {
  const speech *a = left, *b = right;
  if (a->test != b->test) return a->test ? 1 : -1;
  if (a->speaker != b->speaker) return a->speaker < b->speaker ? -1 : 1;
  return a->first < b->first ? -1 : 1;
}

/* Speeches to sequences; the speeches of one client are joined first, where that is asked for. */
static fl_status make_sequences(reader *r) {
  r->train.T = r->test.T = (int)r->args->sequence;
  if (r->n > 0) qsort(r->speech, (size_t)r->n, sizeof *r->speech, by_client);
  for (int64_t i = 0; i < r->n; i++) {
    const speech *s = &r->speech[i], *next = i + 1 < r->n ? s + 1 : NULL;
    FL_TRY(add_tokens(r, s));
    bool joined = r->args->pack && next && next->speaker == s->speaker && next->test == s->test;
    if (joined) continue;
    FL_TRY(fl_sequences_add(s->test ? &r->test : &r->train, s->speaker, r->n_token, r->token));
    r->n_token = 0;
  }
  return FEDLANE_OK;
}

/* Reads the text; carriage returns are dropped. */
static fl_status read_text(reader *r) {
  unsigned char *data = NULL;
  int64_t size, kept = 0;
  FL_TRY(fl_read_all(r->how->path, &data, &size));
  r->text = realloc(data, (size_t)size + 1);
  if (!r->text) {
    free(data);
    return fl_fail(FEDLANE_MEMORY, "no memory to read %s", r->how->path);
  }
  for (int64_t i = 0; i < size; i++)
    if (r->text[i] != '\r') r->text[kept++] = r->text[i];
  r->text[kept] = '\0';
  r->size = kept;
  return FEDLANE_OK;
}

static fl_status read_speeches(reader *r) {
  FL_TRY(read_text(r));
  if (!r->args->speakers) return split_parts(r);
  FL_TRY(split_speeches(r));
  return choose_speeches(r);
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  fl_status status;
  reader r = {.how = how, .args = args, .out = out};
  memset(out, 0, sizeof *out);
  FL_GO(read_speeches(&r));
  if (r.n == 0) {
    status = fl_fail(FEDLANE_DATA, "%s: nobody in it speaks %lld times", how->path,
                     (long long)r.args->least);
    goto done;
  }
  FL_GO(r.args->unit == CHARACTER ? number_characters(&r) : number_words(&r));
  FL_GO(make_sequences(&r));
  FL_GO(fl_sequences_finish(&r.train, &r.test, r.known + 4, out->n_client, out));
done:
  free(r.text);
  free(r.speech);
  free(r.token);
  fl_names_free(&r.speakers);
  fl_words_free(&r.words);
  fl_sequences_free(&r.train);
  fl_sequences_free(&r.test);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

#define WHOLE(field, value, high, measure, about)                                          \
  {                                                                                        \
    .name = #field, .type = FL_INT, .offset = offsetof(text_args, field), .dflt = (value), \
    .lo = 1, .hi = (high), .unit = (measure), .help = (about)                              \
  }

static const fl_param params[] = {
    {.name = "unit",
     .type = FL_CHOICE,
     .offset = offsetof(text_args, unit),
     .text = "character,word",
     .help = "what a token is: a byte, or a word or punctuation mark"},
    {.name = "speakers",
     .type = FL_BOOL,
     .offset = offsetof(text_args, speakers),
     .dflt = 1,
     .help = "speeches stand between blank lines and begin with 'NAME:', who is the client"},
    WHOLE(clients, 100, 1e6, "clients", "of a text without speakers: its parts in a row"),
    WHOLE(least, 1, 1e6, "speeches", "who speaks less often is left out"),
    WHOLE(sequence, 80, 100000, "tokens", "length of an example"),
    {.name = "pack",
     .type = FL_BOOL,
     .offset = offsetof(text_args, pack),
     .dflt = 1,
     .help = "join the speeches of a client before they are cut; else each is filled up"},
    {.name = "vocabulary",
     .type = FL_TEXT,
     .offset = offsetof(text_args, vocabulary),
     .text = "",
     .flags = FL_SOURCE,
     .help = "file of all characters, or of a word a line; empty: those of the training part"},
    WHOLE(words, 10000, 1e6, "words", "at most so many, the most frequent, are known"),
    {.name = "test",
     .type = FL_REAL,
     .offset = offsetof(text_args, test),
     .dflt = 0.2,
     .lo = 0,
     .hi = 1,
     .flags = FL_HI_OPEN,
     .help = "share of each client's speeches, the last ones, for the test; 0: none"},
};

const fl_format fl_text = {
    .record = {.name = "text",
               .help =
                   "plain text, the next character or word at every step; a speaker is a client",
               .paper = "McMahan et al., arXiv:1602.05629",
               .args_size = sizeof(text_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
};
