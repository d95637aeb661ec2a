/* Preloaded into edgepull (LD_PRELOAD), lets it wait a twentieth of the time that it means to: between two tries,
 * and, where the environment has IMPATIENT, for a peer that says nothing, too (not always: on a busy machine, that
 * may be a peer that has not had its turn). What it then does is the same, and a test sees it today.
 *
 * gcc -shared -fPIC -Os -Wall -Werror -o hurry.so hurry.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define TIMES_FASTER 20

static long long hurried(long long seconds, long long fraction, long long second)
{
    return (seconds * second + fraction) / TIMES_FASTER;
}

/* What std::thread::sleep calls. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left)
{
    long long time = hurried(wanted->tv_sec, wanted->tv_nsec, 1000000000);
    struct timespec shorter = { time / 1000000000, time % 1000000000 };
    return syscall(SYS_clock_nanosleep, clock, flags, flags & TIMER_ABSTIME ? wanted : &shorter, left) ? errno : 0;
}

/* What std::time::Instant calls: whoever measures how long a peer has kept it waiting finds the time that it meant to wait. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    static long long began;
    int failed = syscall(SYS_clock_gettime, clock, time);

    if (!failed && clock == CLOCK_MONOTONIC && getenv("IMPATIENT")) {
        long long now = time->tv_sec * 1000000000LL + time->tv_nsec;
        if (!began)
            began = now;
        now = began + (now - began) * TIMES_FASTER;
        time->tv_sec = now / 1000000000;
        time->tv_nsec = now % 1000000000;
    }
    return failed;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    int is_timeout = level == SOL_SOCKET && (option == SO_RCVTIMEO || option == SO_SNDTIMEO);

    if (is_timeout && length == sizeof(struct timeval) && getenv("IMPATIENT")) {
        const struct timeval *wanted = value;
        long long time = hurried(wanted->tv_sec, wanted->tv_usec, 1000000);
        struct timeval shorter = { time / 1000000, time % 1000000 };
        return syscall(SYS_setsockopt, fd, level, option, &shorter, length);
    }
    return syscall(SYS_setsockopt, fd, level, option, value, length);
}
