/* AddressSanitizer's calls, or nothing where it is not built in. */
#ifndef FL_HOST_ASAN_H
#define FL_HOST_ASAN_H

#if defined(__SANITIZE_ADDRESS__)
#define FL_HOST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FL_HOST_ASAN 1
#endif
#endif

#ifdef FL_HOST_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

#endif
