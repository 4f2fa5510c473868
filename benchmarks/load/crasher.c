/* Processes that crash, all at the same moment.
 *
 *     crasher heap|random|zero MIB COUNT
 *
 * A line on stdin makes it fork COUNT children that fill MIB each (so that whoever started it can put it into a cgroup
 * first); "ready" on stdout when all have; a second line makes all of them write to address 0. When all are reaped:
 * on stdout the time of the last (CLOCK_MONOTONIC, seconds) and how many of them the kernel says it dumped.
 */
#define _GNU_SOURCE
#include "memory.h"
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void line(void)
{
    char one = 0;
    while (one != '\n')
        if (read(0, &one, 1) != 1)
            exit(1);
}

static void crash(const char *kind, size_t size, int filled, int go, uint64_t number)
{
    char one = 'r';
    seed += number << 20;
    volatile char *memory = make_memory(kind, size);
    if (write(filled, &one, 1) != 1)
        _exit(1);
    if (read(go, &one, 1) != 0) /* until the parent closes its end */
        _exit(1);
    *(volatile int *)0 = memory[0];
}

int main(int argc, char **argv)
{
    struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
    int filled[2], go[2], status, dumped = 0;
    struct timespec now;
    char one;

    if (argc != 4 || setrlimit(RLIMIT_CORE, &unlimited) || pipe(filled) || pipe(go))
        return 2;
    size_t size = strtoull(argv[2], NULL, 10) << 20;
    int count = atoi(argv[3]);
    line();
    for (int i = 0; i < count; i++)
        switch (fork()) {
        case -1:
            perror("fork");
            return 1;
        case 0:
            close(go[1]);
            crash(argv[1], size, filled[1], go[0], (uint64_t)i + 1);
            _exit(1);
        }
    for (int i = 0; i < count; i++)
        if (read(filled[0], &one, 1) != 1)
            return 1;
    dprintf(1, "ready\n");
    line();
    close(go[1]);
    while (wait(&status) > 0)
        dumped += WIFSIGNALED(status) && WCOREDUMP(status);
    clock_gettime(CLOCK_MONOTONIC, &now);
    dprintf(1, "%ld.%09ld %d\n", now.tv_sec, now.tv_nsec, dumped);
    return 0;
}
