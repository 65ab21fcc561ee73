/* A disk that fails as told and remembers what was synced, for tests: preloaded, it stands before the C library.
 *
 * ATM_FAULT_DISK names a directory. The file "control" in it says what fails: one line with a number that tells this
 * line from the one before, "sync" or "write", which of the matching calls strikes first, whether all after it strike
 * too (0 or 1), the errno (0 kills the process instead), and how the path of the file ends that it is about. An
 * empty file lets everything pass. Each strike adds a byte to the file "struck".
 *
 * What a file held when it was last synced is kept in the directory "synced", under its path with % for /.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))
typedef int (*sync_call)(int);
typedef ssize_t (*write_call)(int, const void *, size_t);
typedef ssize_t (*pwrite_call)(int, const void *, size_t, off_t);
typedef ssize_t (*pwrite64_call)(int, const void *, size_t, off64_t);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char known[512];
static long seen;

static ssize_t plain_write(int fd, const void *bytes, size_t count) {
    return NEXT(write_call, "write")(fd, bytes, count);
}

static int path_of(int fd, char *path, size_t size) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, size - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return 1;
}

/* The errno that this call is to fail with; 0 for none. */
static int verdict(const char *operation, int fd) {
    const char *home = getenv("ATM_FAULT_DISK");
    if (!home) return 0;
    char line[512] = {0}, path[512], control[512];
    snprintf(control, sizeof control, "%s/control", home);
    int file = open(control, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, line, sizeof line - 1);
    close(file);
    if (length <= 0) return 0;

    char which[16], end[256];
    unsigned long number;
    long nth;
    int onwards, error;
    if (sscanf(line, "%lu %15s %ld %d %d %255s", &number, which, &nth, &onwards, &error, end) != 6) return 0;
    if (strcmp(which, operation) != 0) return 0;
    if (!path_of(fd, path, sizeof path) || strlen(path) < strlen(end)) return 0;
    if (strcmp(path + strlen(path) - strlen(end), end) != 0) return 0;

    pthread_mutex_lock(&lock);
    if (strcmp(known, line) != 0) {
        strcpy(known, line);
        seen = 0;
    }
    seen++;
    int strikes = seen == nth || (onwards && seen > nth);
    pthread_mutex_unlock(&lock);
    if (!strikes) return 0;

    char struck[512];
    snprintf(struck, sizeof struck, "%s/struck", home);
    int tally = open(struck, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (tally >= 0) {
        plain_write(tally, "x", 1);
        close(tally);
    }
    if (error == 0) kill(getpid(), SIGKILL);
    return error;
}

/* Copies what the file holds to `copy`; 0 when it cannot be read through `fd`. Nothing is opened by its path here:
 * closing that would take SQLite's locks away. */
static int keep(int fd, char *copy, size_t size) {
    const char *home = getenv("ATM_FAULT_DISK");
    char path[512], bytes[65536];
    if (!home || !path_of(fd, path, sizeof path)) return 0;
    for (char *at = path; *at; at++) {
        if (*at == '/') *at = '%';
    }
    snprintf(copy, size, "%s/synced/%s", home, path);
    char fresh[1100];
    snprintf(fresh, sizeof fresh, "%s.%d", copy, gettid());
    off64_t at = 0;
    ssize_t length = pread64(fd, bytes, sizeof bytes, 0);
    if (length < 0) return 0;
    int file = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return 0;
    for (; length > 0; length = pread64(fd, bytes, sizeof bytes, at)) {
        plain_write(file, bytes, length);
        at += length;
    }
    close(file);
    return 1;
}

static int sync_as(const char *name, int fd) {
    int error = verdict("sync", fd);
    if (error) {
        errno = error;
        return -1;
    }
    char copy[1024], fresh[1100];
    int kept = keep(fd, copy, sizeof copy);
    int result = NEXT(sync_call, name)(fd);
    snprintf(fresh, sizeof fresh, "%s.%d", copy, gettid());
    if (kept && result == 0) rename(fresh, copy);
    return result;
}

int fsync(int fd) { return sync_as("fsync", fd); }

int fdatasync(int fd) { return sync_as("fdatasync", fd); }

#define FAIL_A_WRITE_IF_TOLD(fd)           \
    do {                                   \
        int error = verdict("write", fd);  \
        if (error) {                       \
            errno = error;                 \
            return -1;                     \
        }                                  \
    } while (0)

ssize_t write(int fd, const void *bytes, size_t count) {
    FAIL_A_WRITE_IF_TOLD(fd);
    return plain_write(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    FAIL_A_WRITE_IF_TOLD(fd);
    return NEXT(pwrite_call, "pwrite")(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    FAIL_A_WRITE_IF_TOLD(fd);
    return NEXT(pwrite64_call, "pwrite64")(fd, bytes, count, at);
}
