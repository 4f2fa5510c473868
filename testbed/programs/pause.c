/* What a sandbox's own container runs: nothing, until it is told to end. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void end(int number)
{
	(void)number;
	_exit(0);
}

int main(void)
{
	/* As process 1 of its namespace it would not receive a signal it has no handler for. */
	signal(SIGTERM, end);
	signal(SIGINT, end);
	for (;;)
		pause();
}
