/*
 * A preload shim that records what a process does to the files below one directory, and fails one sync on demand.
 *
 *   ERAFT_SHIM_DIR=DIR                      what is below DIR is recorded (DIR itself too)
 *   ERAFT_SHIM_LOG=FILE                     records are appended to FILE, which must not be below DIR
 *   ERAFT_SHIM_FAIL_FDATASYNC_AFTER=N       the N-th fdatasync below DIR returns EIO, once; counted from 1
 *   ERAFT_SHIM_FAIL_FSYNC_AFTER=N           the same for fsync
 *   ERAFT_SHIM_FAIL_FILE=FILE               once FILE exists: the next fdatasync below DIR of a path that contains
 *                                           FILE's text returns EIO, and FILE is removed
 *
 * A record is written before the call that it is about returns to its caller, so whatever the caller does because of
 * the call comes after the record. A call that changes which file a descriptor means is recorded so that no later
 * open of the same number can come first. A sync that is made to fail does not reach the device.
 *
 * What stdio, mmap and io_uring write is not seen; the tests compare the recorded files with the real ones.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Descriptors above are not followed; a node has far fewer. */
#define DESCRIPTORS_MAX 65536
/* The exit code if the shim itself cannot do its work. */
#define SHIM_BROKEN 99

enum kind { OPEN = 1, WRITE, SYNC, RENAME, UNLINK, TRUNCATE, CLOSE, MKDIR, RMDIR };

/* Little-endian, as the machine; the reader runs on the same one. */
struct record {
    uint32_t bytes; /* of this record with all that follows it */
    uint32_t kind;
    uint64_t begin_ns; /* CLOCK_MONOTONIC */
    uint64_t end_ns;
    int32_t descriptor;
    int32_t error; /* errno, or 0 */
    uint64_t offset;
    uint64_t length;
    uint32_t flags;
    uint32_t path_bytes;
    uint32_t other_bytes;
    uint32_t data_bytes;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static const char *directory;
static size_t directory_bytes;
static const char *fail_file;
/* Of fdatasync and of fsync. */
static struct countdown {
    long fail_after;
    long calls;
} fdatasyncs, fsyncs;
static int log_descriptor = -1;
static unsigned char followed[DESCRIPTORS_MAX];

static void broken(const char *what) {
    fprintf(stderr, "shim: %s: %s\n", what, strerror(errno));
    _exit(SHIM_BROKEN);
}

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static void start(void) {
    directory = getenv("ERAFT_SHIM_DIR");
    const char *path = getenv("ERAFT_SHIM_LOG");
    fail_file = getenv("ERAFT_SHIM_FAIL_FILE");
    fdatasyncs.fail_after = number("ERAFT_SHIM_FAIL_FDATASYNC_AFTER");
    fsyncs.fail_after = number("ERAFT_SHIM_FAIL_FSYNC_AFTER");
    if (!directory || !path) {
        directory = NULL;
        return;
    }
    directory_bytes = strlen(directory);
    log_descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_descriptor < 0) broken(path);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int is_inside(const char *path) {
    return directory && strncmp(path, directory, directory_bytes) == 0 &&
           (path[directory_bytes] == '/' || path[directory_bytes] == 0);
}

static int is_followed(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS_MAX && followed[descriptor];
}

static void path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

/* The absolute path; empty if it is too long or its directory is unknown. */
static void resolve(int at, const char *path, char *full) {
    char base[PATH_MAX];
    pthread_once(&once, start);
    full[0] = 0;
    if (path[0] == '/') {
        if (strlen(path) < PATH_MAX) strcpy(full, path);
        return;
    }
    if (at == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return;
    } else {
        path_of(at, base);
    }
    if (strlen(base) + strlen(path) + 2 <= PATH_MAX) {
        strcpy(full, base);
        strcat(full, "/");
        strcat(full, path);
    }
}

/* Appends a record; `record` has kind, times, descriptor and what else the kind has. */
static void append(struct record record, const char *path, const char *other, const struct iovec *data, int parts) {
    int saved = errno;
    struct iovec nothing = {NULL, 0};
    size_t data_left = 0;
    if (record.kind == WRITE && record.error == 0) data_left = (size_t)record.length;
    record.path_bytes = path ? (uint32_t)strlen(path) : 0;
    record.other_bytes = other ? (uint32_t)strlen(other) : 0;
    record.data_bytes = (uint32_t)data_left;
    size_t bytes = sizeof record + record.path_bytes + record.other_bytes + record.data_bytes;
    record.bytes = (uint32_t)bytes;
    char *whole = malloc(bytes), *to = whole;
    if (!whole) broken("no memory");
    memcpy(to, &record, sizeof record);
    to += sizeof record;
    if (path) memcpy(to, path, record.path_bytes);
    to += record.path_bytes;
    if (other) memcpy(to, other, record.other_bytes);
    to += record.other_bytes;
    if (!data) data = &nothing;
    for (int part = 0; part < parts && data_left > 0; part++) {
        size_t take = data[part].iov_len < data_left ? data[part].iov_len : data_left;
        memcpy(to, data[part].iov_base, take);
        to += take;
        data_left -= take;
    }
    pthread_mutex_lock(&log_lock);
    for (size_t done = 0; done < bytes;) {
        ssize_t wrote = syscall(SYS_write, log_descriptor, whole + done, bytes - done);
        if (wrote < 0) broken("writing the record");
        done += (size_t)wrote;
    }
    pthread_mutex_unlock(&log_lock);
    free(whole);
    errno = saved;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* ---- descriptors ---- */

static int opened(int descriptor, const char *full, int flags, uint64_t begin_ns) {
    if (descriptor < 0 || !is_inside(full)) return descriptor;
    if (descriptor >= DESCRIPTORS_MAX) broken("too many descriptors");
    struct record record = {.kind = OPEN, .begin_ns = begin_ns, .end_ns = now_ns(), .descriptor = descriptor};
    record.flags = ((flags & O_CREAT) ? 1u : 0u) | ((flags & O_TRUNC) ? 2u : 0u) |
                   ((flags & O_ACCMODE) == O_RDONLY ? 0u : 4u);
    followed[descriptor] = 1;
    append(record, full, NULL, NULL, 0);
    return descriptor;
}

static int open_at(int at, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    resolve(at, path, full);
    uint64_t begin_ns = now_ns();
    return opened((int)syscall(SYS_openat, at, path, flags, mode), full, flags, begin_ns);
}

#define MODE(flags, last, mode)                                                                                        \
    mode_t mode = 0;                                                                                                   \
    if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) {                                                   \
        va_list list;                                                                                                  \
        va_start(list, last);                                                                                          \
        mode = (mode_t)va_arg(list, int);                                                                              \
        va_end(list);                                                                                                  \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, flags, mode)
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, flags, mode)
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE(flags, flags, mode)
    return open_at(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE(flags, flags, mode)
    return open_at(at, path, flags, mode);
}

int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int creat64(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static void closing(int descriptor) {
    if (!is_followed(descriptor)) return;
    uint64_t time_ns = now_ns();
    struct record record = {.kind = CLOSE, .begin_ns = time_ns, .end_ns = time_ns, .descriptor = descriptor};
    followed[descriptor] = 0;
    append(record, NULL, NULL, NULL, 0);
}

int close(int descriptor) {
    closing(descriptor);
    return (int)syscall(SYS_close, descriptor);
}

int closedir(DIR *stream) {
    closing(dirfd(stream));
    return NEXT(closedir)(stream);
}

/* ---- content ---- */

static ssize_t wrote(int descriptor, ssize_t length, off_t offset, const struct iovec *data, int parts, uint64_t begin_ns) {
    struct record record = {.kind = WRITE, .begin_ns = begin_ns, .end_ns = now_ns(), .descriptor = descriptor};
    record.error = length < 0 ? errno : 0;
    record.length = length < 0 ? 0 : (uint64_t)length;
    if (offset < 0) {
        int saved = errno;
        off_t end = lseek(descriptor, 0, SEEK_CUR);
        offset = end < length || length < 0 ? 0 : end - length;
        errno = saved;
    }
    record.offset = (uint64_t)offset;
    append(record, NULL, NULL, data, parts);
    return length;
}

ssize_t write(int descriptor, const void *bytes, size_t length) {
    uint64_t begin_ns = is_followed(descriptor) ? now_ns() : 0;
    ssize_t result = syscall(SYS_write, descriptor, bytes, length);
    struct iovec data = {(void *)bytes, length};
    return begin_ns ? wrote(descriptor, result, -1, &data, 1, begin_ns) : result;
}

ssize_t writev(int descriptor, const struct iovec *data, int parts) {
    uint64_t begin_ns = is_followed(descriptor) ? now_ns() : 0;
    ssize_t result = syscall(SYS_writev, descriptor, data, parts);
    return begin_ns ? wrote(descriptor, result, -1, data, parts, begin_ns) : result;
}

static ssize_t write_at(int descriptor, const void *bytes, size_t length, off_t offset) {
    uint64_t begin_ns = is_followed(descriptor) ? now_ns() : 0;
    ssize_t result = syscall(SYS_pwrite64, descriptor, bytes, length, offset);
    struct iovec data = {(void *)bytes, length};
    return begin_ns ? wrote(descriptor, result, offset, &data, 1, begin_ns) : result;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t offset) {
    return write_at(descriptor, bytes, length, offset);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off64_t offset) {
    return write_at(descriptor, bytes, length, offset);
}

static int truncate_to(int descriptor, off_t length) {
    uint64_t begin_ns = now_ns();
    int result = (int)syscall(SYS_ftruncate, descriptor, length);
    if (result == 0 && is_followed(descriptor)) {
        struct record record = {.kind = TRUNCATE, .begin_ns = begin_ns, .end_ns = now_ns(), .descriptor = descriptor};
        record.length = (uint64_t)length;
        append(record, NULL, NULL, NULL, 0);
    }
    return result;
}

int ftruncate(int descriptor, off_t length) { return truncate_to(descriptor, length); }

int ftruncate64(int descriptor, off64_t length) { return truncate_to(descriptor, length); }

/* Whether this sync is the one to fail. */
static int must_fail(long call, int descriptor) {
    char path[PATH_MAX], words[PATH_MAX];
    struct countdown *countdown = call == SYS_fdatasync ? &fdatasyncs : &fsyncs;
    if (countdown->fail_after && __sync_add_and_fetch(&countdown->calls, 1) == countdown->fail_after) return 1;
    if (!fail_file || call != SYS_fdatasync) return 0;
    int file = (int)syscall(SYS_openat, AT_FDCWD, fail_file, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return 0;
    ssize_t length = syscall(SYS_read, file, words, sizeof words - 1);
    syscall(SYS_close, file);
    words[length < 0 ? 0 : length] = 0;
    path_of(descriptor, path);
    /* Removing it decides between threads: one of them fails. */
    return length > 0 && strstr(path, words) && syscall(SYS_unlinkat, AT_FDCWD, fail_file, 0) == 0;
}

static int sync_with(long call, int descriptor) {
    if (!is_followed(descriptor)) return (int)syscall(call, descriptor);
    struct record record = {.kind = SYNC, .begin_ns = now_ns(), .descriptor = descriptor};
    record.flags = call == SYS_fdatasync;
    int result;
    if (must_fail(call, descriptor)) {
        errno = EIO;
        result = -1;
    } else {
        result = (int)syscall(call, descriptor);
    }
    record.end_ns = now_ns();
    record.error = result == 0 ? 0 : errno;
    append(record, NULL, NULL, NULL, 0);
    return result;
}

int fsync(int descriptor) { return sync_with(SYS_fsync, descriptor); }

int fdatasync(int descriptor) { return sync_with(SYS_fdatasync, descriptor); }

/* ---- names ---- */

static int named(int result, enum kind kind, const char *path, const char *other, uint64_t begin_ns) {
    if (result == 0 && (is_inside(path) || (other && is_inside(other)))) {
        struct record record = {.kind = kind, .begin_ns = begin_ns, .end_ns = now_ns(), .descriptor = -1};
        append(record, path, other, NULL, 0);
    }
    return result;
}

int rename(const char *from, const char *to) {
    char full_from[PATH_MAX], full_to[PATH_MAX];
    resolve(AT_FDCWD, from, full_from);
    resolve(AT_FDCWD, to, full_to);
    uint64_t begin_ns = now_ns();
    return named((int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0), RENAME, full_from, full_to, begin_ns);
}

int unlinkat(int at, const char *path, int flags) {
    char full[PATH_MAX];
    resolve(at, path, full);
    uint64_t begin_ns = now_ns();
    return named((int)syscall(SYS_unlinkat, at, path, flags), (flags & AT_REMOVEDIR) ? RMDIR : UNLINK, full, NULL, begin_ns);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdir(const char *path, mode_t mode) {
    char full[PATH_MAX];
    resolve(AT_FDCWD, path, full);
    uint64_t begin_ns = now_ns();
    return named((int)syscall(SYS_mkdirat, AT_FDCWD, path, mode), MKDIR, full, NULL, begin_ns);
}
