/* Makes system calls that a guest's filter refuses, each so that it would be answered otherwise without one, and says how
 * it was answered: a line of its name and errno each.
 *
 * gcc -static -o calls calls.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *name, long result)
{
    printf("%s %d\n", name, result < 0 ? errno : 0);
}

int main(void)
{
    int file = open("/tmp/calls", O_RDWR | O_CREAT, 0600);
    char bytes[64] = "x";
    say("read", read(file, bytes, 1));
    say("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1));
    say("add_key", syscall(SYS_add_key, "user", "edgepull", "x", 1, KEY_SPEC_PROCESS_KEYRING));
    say("request_key", syscall(SYS_request_key, "user", "edgepull", NULL, 0));
    say("clone3", syscall(SYS_clone3, NULL, 0));
    say("io_uring_setup", syscall(SYS_io_uring_setup, 1, NULL));
    say("userfaultfd", syscall(SYS_userfaultfd, 1));
    say("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
    say("bpf", syscall(SYS_bpf, -1, NULL, 0));
    say("kcmp", syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0));
    say("audit", socket(AF_NETLINK, SOCK_RAW, 9));
    say("route", socket(AF_NETLINK, SOCK_RAW, 0));
    say("TIOCSTI", ioctl(file, TIOCSTI, bytes));
    say("TIOCLINUX", ioctl(file, TIOCLINUX, bytes));
    say("TIOCGWINSZ", ioctl(file, TIOCGWINSZ, bytes));
    say("unshare", unshare(CLONE_NEWUSER));
    return 0;
}
