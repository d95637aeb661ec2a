/* Preloaded into edgepull (LD_PRELOAD), kills it just before the N-th of its calls of one kind, as CUT="rename 17"
 * wants: a cut at a place that no clock has to hit. Where COUNTS names a file, all calls of each kind are counted
 * and written there at the end: so a test knows which places there are.
 *
 * edgepull is two processes, one of which fetches. The calls of both are counted together, and a cut ends both: the one
 * that calls, and the other when it hears of that. So the one that fetches has to be allowed to kill itself: it is told
 * that this kernel has no seccomp.
 *
 * gcc -shared -fPIC -Os -Wall -Werror -o cut.so cut.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum kind { CREATE, WRITE, SYNC, LINK, RENAME, REMOVE, KINDS };
static const char *const names[KINDS] = { "create", "write", "sync", "link", "rename", "remove" };
static long cut_at;
static int cut_kind = -1;
/* Seen by both processes. */
static struct shared { long calls[KINDS]; int cut; } *shared;

/* Not in the shells that edgepull starts. */
__attribute__((constructor)) static void begin(void)
{
    const char *cut = getenv("CUT");

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        abort();
    if (!cut || strcmp(program_invocation_short_name, "edgepull"))
        return;
    for (int kind = 0; kind < KINDS; kind++) {
        size_t length = strlen(names[kind]);
        if (!strncmp(cut, names[kind], length) && cut[length] == ' ') {
            cut_kind = kind;
            cut_at = atol(cut + length);
        }
    }
}

__attribute__((destructor)) static void end(void)
{
    const char *name = getenv("COUNTS");
    FILE *file = name && !strcmp(program_invocation_short_name, "edgepull") ? fopen(name, "w") : NULL;

    for (int kind = 0; file && kind < KINDS; kind++)
        fprintf(file, "%s %ld\n", names[kind], shared->calls[kind]);
    if (file)
        fclose(file);
}

static void count(enum kind kind)
{
    long number = __atomic_add_fetch(&shared->calls[kind], 1, __ATOMIC_SEQ_CST);

    if ((int)kind == cut_kind && number == cut_at) {
        shared->cut = 1;
        kill(getpid(), SIGKILL);
    }
}

int prctl(int option, ...)
{
    va_list rest;
    va_start(rest, option);
    unsigned long a = va_arg(rest, unsigned long), b = va_arg(rest, unsigned long);
    unsigned long c = va_arg(rest, unsigned long), d = va_arg(rest, unsigned long);
    va_end(rest);
    if (option == PR_SET_SECCOMP) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_prctl, option, a, b, c, d);
}

pid_t waitpid(pid_t process, int *status, int options)
{
    pid_t ended = syscall(SYS_wait4, process, status, options, NULL);

    if (shared->cut)
        kill(getpid(), SIGKILL);
    return ended;
}

/* The next function of this name, called with the same arguments. */
#define PASS_ON(kind, result, name, parameters, arguments)                 \
    result name parameters                                                 \
    {                                                                      \
        static result(*next) parameters;                                   \
        if (!next)                                                         \
            next = (result(*) parameters)dlsym(RTLD_NEXT, #name);          \
        count(kind);                                                       \
        return next arguments;                                             \
    }

PASS_ON(WRITE, ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
PASS_ON(WRITE, ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
PASS_ON(WRITE, ssize_t, writev, (int fd, const struct iovec *parts, int many), (fd, parts, many))
PASS_ON(SYNC, int, fsync, (int fd), (fd))
PASS_ON(SYNC, int, fdatasync, (int fd), (fd))
PASS_ON(SYNC, int, syncfs, (int fd), (fd))
PASS_ON(LINK, int, linkat, (int from, const char *name, int to, const char *new, int flags), (from, name, to, new, flags))
PASS_ON(LINK, int, symlink, (const char *target, const char *path), (target, path))
PASS_ON(LINK, int, symlinkat, (const char *target, int at, const char *path), (target, at, path))
PASS_ON(RENAME, int, rename, (const char *from, const char *to), (from, to))
PASS_ON(RENAME, int, renameat, (int from, const char *name, int to, const char *new), (from, name, to, new))
PASS_ON(REMOVE, int, unlink, (const char *path), (path))
PASS_ON(REMOVE, int, unlinkat, (int at, const char *path, int flags), (at, path, flags))
PASS_ON(REMOVE, int, rmdir, (const char *path), (path))
PASS_ON(CREATE, int, mkdir, (const char *path, mode_t mode), (path, mode))
PASS_ON(CREATE, int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode))

/* Their mode is there only where a file may be created. */
#define OPEN(name, parameters, at)                                         \
    int name parameters                                                    \
    {                                                                      \
        va_list rest;                                                      \
        va_start(rest, flags);                                             \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                      \
        if (flags & O_CREAT)                                               \
            count(CREATE);                                                 \
        return syscall(SYS_openat, at, path, flags, mode);                 \
    }

OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int at, const char *path, int flags, ...), at)
