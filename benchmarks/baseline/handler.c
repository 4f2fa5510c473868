/* The baseline for capturing: what a plain core_pattern handler does.
 *
 *     |/path/handler DIRECTORY %P        or, in benchmarks, with a pipe on stdin
 *
 * It splices the core 4096 bytes at a time straight into DIRECTORY/NAME, uncompressed. The seed this project replaces
 * does just that and stops there; the fsync at the end is added so that both sides end with the core on the disk, and
 * the rename so that the benchmark sees when that is.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEP = 4096 };

int main(int argc, char **argv)
{
    char partial[4096], whole[4096];
    ssize_t moved;

    if (argc != 3)
        return 2;
    /* The kernel starts a handler with nothing but fd 0 open. */
    while (open("/dev/null", O_RDWR) < 3)
        ;
    snprintf(partial, sizeof partial, "%s/%s.partial", argv[1], argv[2]);
    snprintf(whole, sizeof whole, "%s/%s", argv[1], argv[2]);
    int core = open(partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (core < 0)
        return 1;
    while ((moved = splice(0, NULL, core, NULL, STEP, SPLICE_F_MOVE | SPLICE_F_MORE)) > 0)
        ;
    return moved < 0 || fsync(core) || rename(partial, whole) ? 1 : 0;
}
