/* A program that crashes as it is told to.
 *
 *   --memory KIND:MIB   holds that much memory first; KIND is heap, random, zero or sparse (one page touched)
 *   --segments N        maps N pages more of which no neighbours are alike, so that each is a segment of its core
 *   --threads N         runs N more threads, which sleep
 *   --comm NAME         takes this name (prctl PR_SET_NAME, 15 bytes)
 *   --fork              does all of it in a child; a namespace's process 1 ignores signals, a child does not
 *   --wait              says "ready" when all is prepared, and crashes when SIGUSR1 comes
 *   --signal N          sends itself signal N instead of reading through a null pointer
 *   --thread-crashes    another thread, named "falling", crashes while the first one sleeps
 *   --leader-exits      the first thread ends, then another one, named "falling", crashes
 *
 * The crash is in main > work > step_one > step_two > fall.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int signal_number;
static int leader_exits;
static pthread_t leader;

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static void fall(void)
{
	volatile int *nowhere = NULL;

	if (signal_number)
		kill(getpid(), signal_number);
	else
		*nowhere = 42;
	for (;;)
		pause();
}

static void step_two(int depth)
{
	volatile int local = depth + 1;

	fall();
	(void)local;
}

static void step_one(int depth)
{
	volatile int local = depth + 1;

	step_two(local);
	(void)local;
}

static void work(void)
{
	volatile int local = 1;

	step_one(local);
	(void)local;
}

static uint64_t next_random(void)
{
	static uint64_t state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* What a heap looks like: pointers near each other, counters, short text, some true noise. */
static void fill_heap(uint64_t *words, size_t count)
{
	for (size_t i = 0; i + 8 <= count; i += 8) {
		words[i] = 0x41;
		words[i + 1] = (uintptr_t)&words[(i + 8 * (next_random() % 512)) % count];
		words[i + 2] = i / 8;
		words[i + 3] = next_random();
		words[i + 4] = 0;
		snprintf((char *)&words[i + 5], 24, "session %08x", (unsigned)(i / 8));
	}
}

static void hold_memory(const char *what)
{
	const char *colon = strchr(what, ':');
	size_t bytes = colon ? strtoull(colon + 1, NULL, 10) << 20 : 0;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uint64_t *words = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (words == MAP_FAILED)
		fail("--memory KIND:MIB");
	if (!strncmp(what, "heap:", 5)) {
		fill_heap(words, bytes / 8);
	} else if (!strncmp(what, "random:", 7)) {
		for (size_t i = 0; i < bytes / 8; i++)
			words[i] = next_random();
	} else if (!strncmp(what, "zero:", 5)) {
		memset(words, 0, bytes);
	} else if (!strncmp(what, "sparse:", 7)) {
		words[0] = 1; /* the kernel dumps no mapping that was never touched */
	} else {
		errno = EINVAL;
		fail("--memory KIND:MIB");
	}
}

static void hold_segments(size_t count)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		fail("--segments N");
	for (size_t i = 1; i < count; i += 2)
		if (mprotect(pages + i * page, page, PROT_READ))
			fail("--segments N: vm.max_map_count?");
}

static void *sleep_on(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *crash_alone(void *unused)
{
	prctl(PR_SET_NAME, "falling");
	if (leader_exits)
		pthread_join(leader, NULL);
	work();
	return unused;
}

static void start_thread(void *(*run)(void *))
{
	pthread_t thread;

	if ((errno = pthread_create(&thread, NULL, run, NULL)))
		fail("pthread_create");
}

static void wait_for_signal(const sigset_t *usr1)
{
	int number;

	puts("ready");
	fflush(stdout);
	sigwait(usr1, &number);
}

/* The parent lives until its child has died, and then ends as a shell would. */
static void go_on_in_child(void)
{
	int status = 0;
	pid_t child = fork();

	if (child < 0)
		fail("fork");
	if (child == 0)
		return;
	waitpid(child, &status, 0);
	exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "memory", required_argument, NULL, 'm' },   { "threads", required_argument, NULL, 't' },
		{ "segments", required_argument, NULL, 'g' }, { "comm", required_argument, NULL, 'c' },
		{ "wait", no_argument, NULL, 'w' },	      { "fork", no_argument, NULL, 'f' },
		{ "signal", required_argument, NULL, 's' },   { "thread-crashes", no_argument, NULL, 'o' },
		{ "leader-exits", no_argument, NULL, 'l' },   { 0 },
	};
	int option, threads = 0, waits = 0, forks = 0, thread_crashes = 0;
	const char *memory = NULL, *comm = NULL;
	size_t segments = 0;
	sigset_t usr1;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'm': memory = optarg; break;
		case 't': threads = atoi(optarg); break;
		case 'g': segments = strtoull(optarg, NULL, 10); break;
		case 'c': comm = optarg; break;
		case 'w': waits = 1; break;
		case 'f': forks = 1; break;
		case 's': signal_number = atoi(optarg); break;
		case 'o': thread_crashes = 1; break;
		case 'l': leader_exits = 1; break;
		default: return 2;
		}
	}
	if (forks)
		go_on_in_child();
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	if (waits) /* before there are threads, which inherit it */
		sigprocmask(SIG_BLOCK, &usr1, NULL);
	if (comm)
		prctl(PR_SET_NAME, comm);
	if (memory)
		hold_memory(memory);
	if (segments)
		hold_segments(segments);
	while (threads-- > 0)
		start_thread(sleep_on);
	if (waits)
		wait_for_signal(&usr1);
	leader = pthread_self();
	if (thread_crashes || leader_exits)
		start_thread(crash_alone);
	if (leader_exits)
		pthread_exit(NULL);
	if (thread_crashes)
		sleep_on(NULL);
	work();
	return 0;
}
