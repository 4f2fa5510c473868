/* Memory as crashed processes have it; not what is done with it (producer.c writes it, crasher.c dies with it).
 *
 * heap     a malloc arena in use. Of its pages 35 % are zero (reserved, or given back). The others are chunks behind
 *          glibc's size word, runs of a kind as programs allocate them: linked records with a vtable and counters;
 *          lines of logs, JSON, SQL and paths; arrays of small integers and of doubles; what does not compress (keys,
 *          hashes, what is compressed already: 4 % of the runs); free chunks. Which run comes next, where each pointer
 *          points (mostly near) and what each field says is random, so that it compresses by what its structure gives
 *          away, as a real heap does; benchmarks/README.md has its figures beside those of real cores.
 * random   bytes that do not compress at all: keys, media, what is already compressed.
 * zero     nine pages in ten zero, the tenth as in heap: a big, hardly used reservation.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, RUN_MAX = 24 * 512 };

static uint64_t seed = 0x9e3779b97f4a7c15;

static inline uint64_t next(void) /* xorshift64: fast, and no compressor sees through it */
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static inline uint64_t below(uint64_t limit) { return (next() >> 16) % limit; }

/* Most counters of a program are small: half below 2, a quarter below 4, … */
static inline uint32_t small(void) { return (uint32_t)below(2ull << __builtin_ctzll(next() | 1 << 12)); }

/* What is used together is allocated together: three pointers in four point a little way back. */
static uint64_t here = 0x7f3a40000000;

static inline uint64_t pointer(void) { return (below(4) ? here - below(8 << 10) : 0x7f3a40000000 + below(512 << 20)) & ~15ull; }

static size_t put_record(uint64_t *to)
{
    static uint64_t vtable, parent;
    if (below(8) == 0) {
        vtable = 0x55d0c0de1000 + 0x40 * below(24);
        parent = pointer();
    }
    to[0] = 80 | 1;
    to[1] = vtable;
    to[2] = pointer(); /* next */
    to[3] = pointer(); /* previous */
    to[4] = parent;
    to[5] = below(3) ? 0 : pointer();
    to[6] = 1ull << 32 | small(); /* type, references */
    to[7] = pointer(); /* a string that may grow: where, how long, how much room */
    to[8] = small();
    to[9] = (to[8] | 15) + 1;
    return 80;
}

static size_t put_text(uint64_t *to)
{
    static const char *const lines[] = {
        "2026-05-07T12:%02u:%02u.%03uZ INFO  request handled path=/api/v1/users/%u status=200\n",
        "2026-05-07T12:%02u:%02u.%03uZ WARN  connection to 10.0.%u.17:5432 timed out, retrying\n",
        "{\"id\": %u, \"tags\": [\"a%u\", \"b\"], \"size\": %u, \"name\": \"user-%u\", \"active\": true}",
        "/usr/lib/x86_64-linux-gnu/plugins/module-%u/%u/libplugin-%u.so.%u",
        "session=%08x; user=%u; csrf=%08x%08x; Path=/; HttpOnly; SameSite=Lax",
        "SELECT id, name, created_at FROM orders WHERE customer_id = %u AND state = %u LIMIT %u OFFSET %u",
        "application/json; charset=utf-8; boundary=%u-%u-%u-%u",
        "kube-system/coredns-%08x-%u: probe %u succeeded after %u ms",
    };
    char *text = (char *)(to + 1);
    const char *line = lines[below(8)];
    unsigned a = (unsigned)below(60), b = (unsigned)below(60), c = (unsigned)below(1000), d = (unsigned)below(100000);
    size_t length = (size_t)sprintf(text, line, a, b, c, d) + 1;
    size_t size = (length + 8 + 15) / 16 * 16;
    memset(text + length, 0, size - 8 - length);
    to[0] = size | 1;
    return size;
}

static size_t put_integers(uint64_t *to)
{
    size_t count = 16 + 2 * below(40);
    int32_t *integers = (int32_t *)(to + 1);
    for (size_t i = 0; i < count; i++)
        integers[i] = (int32_t)small();
    size_t size = (count * 4 + 8 + 15) / 16 * 16;
    memset(integers + count, 0, size - 8 - count * 4);
    to[0] = size | 1;
    return size;
}

static size_t put_doubles(uint64_t *to)
{
    size_t count = 3 + 2 * below(12);
    double *doubles = (double *)(to + 1);
    for (size_t i = 0; i < count; i++)
        doubles[i] = (double)below(100000) / 64;
    to[0] = (count * 8 + 8) | 1;
    return count * 8 + 8;
}

static size_t put_random(uint64_t *to)
{
    size_t size = 16 + 16 * below(30);
    to[0] = size | 1;
    for (size_t i = 1; i < size / 8; i++)
        to[i] = next();
    return size;
}

static size_t put_free(uint64_t *to)
{
    size_t size = 32 + 16 * below(24);
    memset(to, 0, size);
    to[0] = size | 1;
    to[1] = pointer();
    to[2] = pointer();
    return size;
}

/* Programs make many of a kind one after the other. */
static size_t put_run(uint64_t *to)
{
    uint64_t kind = below(100), count = 1 + below(24);
    size_t used = 0;
    size_t (*put)(uint64_t *) = kind < 46 ? put_record : kind < 73 ? put_text : kind < 84 ? put_integers
                              : kind < 91 ? put_doubles : kind < 95 ? put_random : put_free;
    while (count-- > 0) {
        size_t size = put(to + used / 8);
        used += size;
        here += size;
    }
    return used;
}

static void fill_heap(char *memory, size_t size, unsigned zero_percent)
{
    static char arena[16 * PAGE + RUN_MAX];
    size_t used = 0, taken = 0;
    for (char *page = memory; page < memory + size; page += PAGE) {
        if (below(100) < zero_percent) {
            memset(page, 0, PAGE); /* touched, so that the pages are really there */
            continue;
        }
        if (taken + PAGE > used) { /* a chunk may cross into the next page in use */
            memmove(arena, arena + taken, used -= taken);
            taken = 0;
            while (used < 16 * PAGE)
                used += put_run((uint64_t *)(arena + used));
        }
        memcpy(page, arena + taken, PAGE);
        taken += PAGE;
    }
}

static char *make_memory(const char *kind, size_t size)
{
    char *memory = aligned_alloc(PAGE, size);
    if (!memory)
        abort();
    if (!strcmp(kind, "heap"))
        fill_heap(memory, size, 35);
    else if (!strcmp(kind, "zero"))
        fill_heap(memory, size, 90);
    else if (!strcmp(kind, "random"))
        for (size_t i = 0; i < size; i += 8)
            *(uint64_t *)(memory + i) = next();
    else
        exit(2);
    return memory;
}
