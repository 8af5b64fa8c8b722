/* What runs in a measured container: its first line is CLOCK_MONOTONIC in nanoseconds.
 *
 *   stamp          prints the line and ends
 *   stamp stay     prints the line and stays until SIGTERM
 */
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* A process that is PID 1 gets only the signals that it handles. */
static void end(int signal)
{
	(void)signal;
	_exit(0);
}

int main(int argc, char **argv)
{
	struct timespec now;
	char line[32];
	(void)argv;
	clock_gettime(CLOCK_MONOTONIC, &now);
	int length = snprintf(line, sizeof line, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
	if (write(STDOUT_FILENO, line, (size_t)length) != length)
		return 1;
	if (argc < 2)
		return 0;
	signal(SIGTERM, end);
	for (;;)
		pause();
}
