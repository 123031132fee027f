/* Peers made of bytes: a bare TCP connection that speaks ZMTP 3.1 with the mechanism NULL as far as
 * a test wants it to. On failure all fail the test. */
#ifndef FL_RAW_PEER_H
#define FL_RAW_PEER_H

#include <stddef.h>

enum { FL_RAW_BYTES = 256 };

/* Writes a greeting, and READY as a socket of this type, into out [FL_RAW_BYTES]; its size. */
size_t fl_raw_greeting(const char *type, unsigned char *out);
/* A connection to the port of a tcp address on this machine, whatever its host. */
int fl_raw_connect(const char *address);
/* Listens on this machine; the address is written to `address` [size]. */
int fl_raw_listen(char *address, size_t size);
/* Greets over a fresh connection as a socket of this type, and reads the other side's greeting. */
void fl_raw_greet(int fd, const char *type);

#endif
