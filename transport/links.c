#include "port.h"

static const fl_link loopback = {
    .record = {.name = "loopback", .help = "within a process, by pointer: loopback://NAME"},
    .prefix = "inproc://",
    .process = true,
};
static const fl_link ipc = {
    .record = {.name = "ipc", .help = "within a machine, through a file: ipc://PATH"},
    .prefix = "ipc://",
    .file = true,
};
static const fl_link tcp = {
    .record = {.name = "tcp", .help = "between machines: tcp://HOST:PORT"},
    .prefix = "tcp://",
    .network = true,
};

static const fl_record *const entries[] = {&loopback.record, &ipc.record, &tcp.record};

const fl_catalogue fl_links = {
    .kind = "link",
    .help = "what carries a fleet's messages",
    .entry = entries,
    .n = FL_COUNT(entries),
};
