/* Lets the n-th operation of a process fail as the system would let it, whatever language asks for it: a library to preload.

   Operations count in the process that called fault_arm, on files below one folder, on stdout, and on threads.
   stderr never fails, because a command could not say so. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* The order is that of KINDS in shell.py. */
enum { OPEN, CREATE, READ, WRITE, SYNC, RENAME, LINK, UNLINK, MKDIR, CHMOD, CLOSE, MAP, THREAD, KINDS };
/* What happens instead of an operation, beside the errors of errno.h, which are positive. */
enum { NOTHING = 0, SHORT = -1, KILL = -2 };

static char folder[PATH_MAX];
static int armed;
static unsigned kinds;
static long first, last;
static int action;
/* Of each kind, and of those that may fail; shared with the process that forked this one. */
static _Atomic long *counts;

__attribute__((constructor)) static void begin(void) {
    counts = mmap(NULL, (KINDS + 1) * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Let the operations number `from` to `to` of the kinds in a mask fail below a folder. */
void fault_arm(const char *below, unsigned mask, long from, long to, int what) {
    snprintf(folder, sizeof folder, "%s", below);
    kinds = mask, first = from, last = to, action = what;
    for (int kind = 0; kind <= KINDS; kind++) counts[kind] = 0;
    armed = 1;
}

/* Return how many operations of a kind there were since the last fault_arm, also in a process that this one forked. */
long fault_count(int kind) { return counts[kind]; }

static int below(const char *path) {
    return path[0] != '/' || !strncmp(path, folder, strlen(folder));
}

static int is_below(int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return path[0] == '/' && below(path);
}

/* Count an operation, and return what happens instead of it. */
static int fault(int kind) {
    atomic_fetch_add(&counts[kind], 1);
    if (!(kinds & (1u << kind))) return NOTHING;
    long number = atomic_fetch_add(&counts[KINDS], 1) + 1;
    if (number < first || number > last) return NOTHING;
    if (action == KILL) kill(getpid(), SIGKILL);
    if (action > 0) errno = action;
    return action;
}

#define ASKED(kind, affected) (armed && (affected) ? fault(kind) : NOTHING)
#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* What is printed goes to a file, not to /dev/null, where commands put what they cannot print. */
static int is_output(int file) {
    struct stat found;
    if (file == 1) return !fstat(file, &found) && S_ISREG(found.st_mode);
    return file != 2 && is_below(file);
}

ssize_t write(int file, const void *data, size_t size) {
    REAL(write);
    int what = ASKED(WRITE, is_output(file));
    return what > 0 ? -1 : real(file, data, what == SHORT && size > 1 ? size / 2 : size);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    int what = ASKED(WRITE, is_output(file));
    return what > 0 ? -1 : real(file, data, what == SHORT && size > 1 ? size / 2 : size, at);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) { return pwrite64(file, data, size, at); }

ssize_t writev(int file, const struct iovec *parts, int number) {
    REAL(writev);
    int what = ASKED(WRITE, is_output(file));
    return what > 0 ? -1 : real(file, parts, what == SHORT && number > 1 ? number / 2 : number);
}

ssize_t read(int file, void *data, size_t size) {
    REAL(read);
    int what = ASKED(READ, is_below(file));
    return what > 0 ? -1 : real(file, data, what == SHORT && size > 1 ? size / 2 : size);
}

ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    REAL(pread64);
    int what = ASKED(READ, is_below(file));
    return what > 0 ? -1 : real(file, data, what == SHORT && size > 1 ? size / 2 : size, at);
}

ssize_t pread(int file, void *data, size_t size, off_t at) { return pread64(file, data, size, at); }

static int is_for_writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open64(const char *path, int flags, ...) {
    REAL(open64);
    MODE(flags);
    return ASKED(is_for_writing(flags) ? CREATE : OPEN, below(path)) > 0 ? -1 : real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE(flags);
    return open64(path, flags, mode);
}

int openat64(int where, const char *path, int flags, ...) {
    REAL(openat64);
    MODE(flags);
    return ASKED(is_for_writing(flags) ? CREATE : OPEN, below(path)) > 0 ? -1 : real(where, path, flags, mode);
}

int openat(int where, const char *path, int flags, ...) {
    MODE(flags);
    return openat64(where, path, flags, mode);
}

#define SIMPLE(kind, name, declared, passed, affected) \
    int name declared { \
        REAL(name); \
        return ASKED(kind, affected) > 0 ? -1 : real passed; \
    }

SIMPLE(SYNC, fsync, (int file), (file), is_below(file))
SIMPLE(SYNC, fdatasync, (int file), (file), is_below(file))
SIMPLE(CHMOD, fchmod, (int file, mode_t mode), (file, mode), is_below(file))
SIMPLE(CHMOD, chmod, (const char *path, mode_t mode), (path, mode), below(path))
SIMPLE(MKDIR, mkdir, (const char *path, mode_t mode), (path, mode), below(path))
SIMPLE(RENAME, rename, (const char *from, const char *to), (from, to), below(to))
SIMPLE(RENAME, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), below(to))
SIMPLE(LINK, link, (const char *from, const char *to), (from, to), below(to))
SIMPLE(LINK, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags), below(to))
SIMPLE(LINK, symlink, (const char *from, const char *to), (from, to), below(to))
SIMPLE(UNLINK, unlink, (const char *path), (path), below(path))
SIMPLE(UNLINK, unlinkat, (int where, const char *path, int flags), (where, path, flags), below(path))
SIMPLE(UNLINK, rmdir, (const char *path), (path), below(path))

/* The system closes a file even if it says that it could not write what was left. */
int close(int file) {
    REAL(close);
    int what = ASKED(CLOSE, is_below(file));
    int result = real(file);
    if (what <= 0) return result;
    errno = what;
    return -1;
}

void *mmap64(void *address, size_t size, int protection, int flags, int file, off64_t at) {
    REAL(mmap64);
    return ASKED(MAP, file >= 0 && is_below(file)) > 0 ? MAP_FAILED : real(address, size, protection, flags, file, at);
}

void *mmap(void *address, size_t size, int protection, int flags, int file, off_t at) {
    return mmap64(address, size, protection, flags, file, at);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*work)(void *), void *value) {
    REAL(pthread_create);
    int what = ASKED(THREAD, 1);
    return what > 0 ? what : real(thread, how, work, value);
}
