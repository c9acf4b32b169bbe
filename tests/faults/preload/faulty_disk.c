/* Loaded before the C library: faults of the machine, as long as a file of their name is in $FAULTS.

   hang      write(2) to a journal's file does not return, as with a server of NFS that is away
   full      write(2) to a journal's file answers ENOSPC
   no_locks  flock(2) answers ENOLCK, as a file system without locks does
   clock     the clock of the machine is set an hour back, as by NTP; the monotonic clock is not
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int is_on(const char *fault) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", getenv("FAULTS"), fault);
  return access(path, F_OK) == 0;
}

static int is_journal(int fd) {
  char link[64], path[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 8) return 0;
  path[length] = 0;
  return strstr(path, ".journal") != NULL;
}

ssize_t write(int fd, const void *data, size_t size) {
  static ssize_t (*real)(int, const void *, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "write");
  if (is_journal(fd)) {
    while (is_on("hang")) usleep(20000);
    if (is_on("full")) {
      errno = ENOSPC;
      return -1;
    }
  }
  return real(fd, data, size);
}

int flock(int fd, int operation) {
  static int (*real)(int, int);
  if (!real) real = dlsym(RTLD_NEXT, "flock");
  if (is_on("no_locks")) {
    errno = ENOLCK;
    return -1;
  }
  return real(fd, operation);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int done = real(clock, at);
  if (clock == CLOCK_REALTIME && is_on("clock")) at->tv_sec -= 3600;
  return done;
}
