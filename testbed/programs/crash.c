/* A program that crashes as it is told to.
 *
 *   --memory KIND:MIB   holds that much memory first; KIND is heap, random or zero
 *   --threads N         runs N more threads, which sleep
 *   --comm NAME         takes this name (prctl PR_SET_NAME, 15 bytes)
 *   --fork              does all of it in a child; a namespace's process 1 ignores signals, a child does not
 *   --wait              says "ready" and goes on when SIGUSR1 comes
 *   --signal N          sends itself signal N instead of reading through a null pointer
 *   --leader-exits      the first thread ends, then another one crashes
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
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int signal_number;
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
	uint64_t *words = bytes ? malloc(bytes) : NULL;

	if (!words)
		fail("--memory KIND:MIB");
	if (!strncmp(what, "heap:", 5)) {
		fill_heap(words, bytes / 8);
	} else if (!strncmp(what, "random:", 7)) {
		for (size_t i = 0; i < bytes / 8; i++)
			words[i] = next_random();
	} else if (!strncmp(what, "zero:", 5)) {
		memset(words, 0, bytes);
	} else {
		errno = EINVAL;
		fail("--memory KIND:MIB");
	}
}

static void *sleep_on(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *crash_alone(void *unused)
{
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

static void wait_for_signal(void)
{
	sigset_t usr1;
	int number;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	puts("ready");
	fflush(stdout);
	sigwait(&usr1, &number);
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
		{ "memory", required_argument, NULL, 'm' }, { "threads", required_argument, NULL, 't' },
		{ "comm", required_argument, NULL, 'c' },   { "wait", no_argument, NULL, 'w' },
		{ "fork", no_argument, NULL, 'f' },	    { "signal", required_argument, NULL, 's' },
		{ "leader-exits", no_argument, NULL, 'l' }, { 0 },
	};
	int option, threads = 0, waits = 0, forks = 0, leader_exits = 0;
	const char *memory = NULL, *comm = NULL;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'm': memory = optarg; break;
		case 't': threads = atoi(optarg); break;
		case 'c': comm = optarg; break;
		case 'w': waits = 1; break;
		case 'f': forks = 1; break;
		case 's': signal_number = atoi(optarg); break;
		case 'l': leader_exits = 1; break;
		default: return 2;
		}
	}
	if (forks)
		go_on_in_child();
	if (waits)
		wait_for_signal();
	if (comm)
		prctl(PR_SET_NAME, comm);
	if (memory)
		hold_memory(memory);
	while (threads-- > 0)
		start_thread(sleep_on);
	if (leader_exits) {
		leader = pthread_self();
		start_thread(crash_alone);
		pthread_exit(NULL);
	}
	work();
	return 0;
}
