/* What the pretend devices are, and who hears of faults. Tests change the settings before a device
 * is opened and put them back (fl_host_defaults). For C and C++. */
#ifndef FL_HOST_SETTINGS_H
#define FL_HOST_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fl_host_settings {
  int devices;        /* how many there are, 0 .. 16; at first 2, or FL_HOST_DEVICES */
  int capability;     /* compute capability, 10 * major + minor */
  int driver;         /* CUDA version of the driver, 1000 * major + 10 * minor; 0: no driver */
  int64_t memory;     /* bytes of each device */
  int busy;           /* how many, from the first, another process has to itself (exclusive mode) */
  int64_t lost_after; /* the launch, counted from now, at which its device is lost; 0: none; at
                         first FL_HOST_LOST_AFTER of the environment */
  bool nccl;          /* whether libnccl.so.2 can be loaded */
  int nccl_version;   /* that it says it has */
  bool cublas;    /* whether libcublas.so.12 can be loaded; at first, unless FL_HOST_NO_CUBLAS */
  bool reachable; /* whether ranks that know nothing of each other find each other */
  int64_t hung_after; /* the send, counted from now, that never leaves its device; 0: none */
  uint64_t seed;      /* of the order of threads and of what unwritten memory holds */
  bool asan_guards;   /* AddressSanitizer stops the program at an access outside shared memory; else
                         writes are found when the block ends */
  /* Called with one sentence at the first fault of a launch, on the thread that runs it. The device
   * then answers every call with cudaErrorLaunchFailure until cudaDeviceReset. NULL: the sentence
   * goes to stderr. */
  void (*on_fault)(const char *sentence);
} fl_host_settings;

/* The settings in force, to be read and changed; and back to the first ones. */
fl_host_settings *fl_host_set(void);
void fl_host_defaults(void);
/* Every device is whole again (cudaDeviceReset for each). */
void fl_host_revive(void);

/* What has been done with recorded streams since the program began. */
typedef struct fl_host_graphs {
  int64_t instantiated, updated, launched;
} fl_host_graphs;
fl_host_graphs fl_host_graphs_counted(void);

#ifdef __cplusplus
}
#endif
#endif
