/* Writes memory into a pipe as the kernel dumps a core: 4096 bytes a write.
 *
 *     producer heap|random|zero MIB
 *
 * stdout is the pipe. "ready" on stderr when the memory is made; it begins at a byte on stdin, and says on stderr when
 * the last write returned (CLOCK_MONOTONIC, seconds): with a real crash, that is when the process is free to be reaped.
 */
#define _GNU_SOURCE
#include "memory.h"
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    char go;

    if (argc != 3)
        return 2;
    size_t size = strtoull(argv[2], NULL, 10) << 20;
    const char *memory = make_memory(argv[1], size);
    dprintf(2, "ready\n");
    if (read(0, &go, 1) != 1)
        return 1;
    for (size_t at = 0; at < size; at += PAGE)
        if (write(1, memory + at, PAGE) != PAGE)
            return 1;
    clock_gettime(CLOCK_MONOTONIC, &now);
    dprintf(2, "%ld.%09ld\n", now.tv_sec, now.tv_nsec);
    return 0;
}
