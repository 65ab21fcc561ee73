/* Makes writes and syncs of a process fail as told, for tests: preloaded, it stands before the C library's own.
 *
 * The file that ATM_SHIM_CONTROL names says what fails: one line with a number that tells this line from the one
 * before, "sync" or "write", which of the matching calls fails first, whether all after it fail too (0 or 1), the
 * errno, and a part of the path of the files that it is about. An empty file lets everything pass. Each call that is
 * made to fail adds a byte to the file of the same name with ".struck" behind it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char known[512];
static long seen;

static ssize_t plain_write(int fd, const void *bytes, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return next(fd, bytes, count);
}

/* The errno that this call is to fail with; 0 for none. */
static int verdict(const char *operation, int fd) {
    const char *control = getenv("ATM_SHIM_CONTROL");
    if (!control) return 0;
    char line[512] = {0}, path[512] = {0}, name[64];
    int file = open(control, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, line, sizeof line - 1);
    close(file);
    if (length <= 0) return 0;

    char which[16], part[256];
    unsigned long number;
    long nth;
    int onwards, error;
    if (sscanf(line, "%lu %15s %ld %d %d %255s", &number, which, &nth, &onwards, &error, part) != 6) return 0;
    if (strcmp(which, operation) != 0) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    if (readlink(name, path, sizeof path - 1) <= 0 || !strstr(path, part)) return 0;

    pthread_mutex_lock(&lock);
    if (strcmp(known, line) != 0) {
        strcpy(known, line);
        seen = 0;
    }
    seen++;
    int strikes = seen == nth || (onwards && seen > nth);
    pthread_mutex_unlock(&lock);
    if (!strikes) return 0;

    char struck[600];
    snprintf(struck, sizeof struck, "%s.struck", control);
    int tally = open(struck, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (tally >= 0) {
        plain_write(tally, "x", 1);
        close(tally);
    }
    return error;
}

#define FAIL_IF_TOLD(operation, fd)          \
    do {                                     \
        int error = verdict(operation, fd);  \
        if (error) {                         \
            errno = error;                   \
            return -1;                       \
        }                                    \
    } while (0)

int fsync(int fd) {
    FAIL_IF_TOLD("sync", fd);
    static int (*next)(int);
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return next(fd);
}

int fdatasync(int fd) {
    FAIL_IF_TOLD("sync", fd);
    static int (*next)(int);
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return next(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    FAIL_IF_TOLD("write", fd);
    return plain_write(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    FAIL_IF_TOLD("write", fd);
    static ssize_t (*next)(int, const void *, size_t, off_t);
    if (!next) next = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    return next(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    FAIL_IF_TOLD("write", fd);
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    if (!next) next = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    return next(fd, bytes, count, at);
}
