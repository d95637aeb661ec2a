/*
 * Runs a foreign program of a chroot under qemu-user, where the kernel does not do so by itself (binfmt_misc).
 * It stands in the program's place, which has moved to NAME.foreign: so the children of foreign programs, which
 * qemu hands to the kernel, are found as well.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SUFFIX ".foreign"

int main(int argc, char **argv)
{
    char path[PATH_MAX + sizeof SUFFIX];
    char *words[argc + 4];
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);

    if (length < 0) {
        perror("/proc/self/exe");
        return 126;
    }
    strcpy(path + length, SUFFIX);
    words[0] = "/qemu-user";
    words[1] = "-0"; /* what the program takes for its name */
    words[2] = argv[0];
    words[3] = path;
    memcpy(words + 4, argv + 1, argc * sizeof *argv); /* with the NULL at its end */
    execv(words[0], words);
    perror(words[0]);
    return 126;
}
