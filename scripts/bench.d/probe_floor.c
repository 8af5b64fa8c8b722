/* The kernel's floor of probes: the system calls that ask a Pod whether it answers, with nothing decided, parsed or kept.
 *
 *   probe_floor ROUNDS tcp|http PID...
 *
 * Twice a second it asks 127.0.0.1:8080 in the network namespace of each PID, both times at once, and a twentieth of them every
 * 50 ms, each from a socket that was opened there at the beginning: connect, with `http` a request too, whose answer is read with the
 * next twentieth; disconnect with a reset. Prints the time it had of a processor, in ns, for each second of the clock; the first is left
 * out.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TURNS = 20, PROBES = 2 };
static const char request[] =
	"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nConnection: close\r\n\r\n";

static void check(long result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "probe_floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long nanoseconds(clockid_t clock)
{
	struct timespec time;
	check(clock_gettime(clock, &time), "clock_gettime");
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* In the namespace that the thread is in. */
static int open_socket(void)
{
	struct linger at_once = { .l_onoff = 1, .l_linger = 0 };
	int connection = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	check(connection, "socket");
	check(setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), "SO_LINGER");
	return connection;
}

static void dial(int connection, int asks)
{
	struct sockaddr_in place = { .sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof place;
	int off = 0;
	if (asks)
		check(setsockopt(connection, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off), "TCP_QUICKACK");
	if (connect(connection, (struct sockaddr *)&place, sizeof place) < 0 && errno != EINPROGRESS)
		check(-1, "connect");
	if (asks)
		check(send(connection, request, sizeof request - 1, MSG_NOSIGNAL), "send");
	else
		check(getpeername(connection, (struct sockaddr *)&place, &length), "getpeername");
}

static void hear(int connection, int asks)
{
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
	char answer[4096];
	if (asks && recv(connection, answer, sizeof answer, 0) < 12)
		fprintf(stderr, "probe_floor: no answer in time\n");
	check(connect(connection, &nowhere, sizeof nowhere), "disconnect");
}

int main(int count, char **words)
{
	if (count < 4)
		return fprintf(stderr, "usage: probe_floor ROUNDS tcp|http PID...\n"), 2;
	int rounds = atoi(words[1]), asks = !strcmp(words[2], "http"), pods = count - 3, home, last = 0;
	int *sockets = calloc(PROBES * pods, sizeof *sockets);
	int *asked = calloc(PROBES * pods, sizeof *asked), *earlier = calloc(PROBES * pods, sizeof *earlier);
	struct rlimit files = { PROBES * pods + pods + 64, PROBES * pods + pods + 64 };
	check(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	check(home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "/proc/self/ns/net");
	for (int pod = 0; pod < pods; pod++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%s/ns/net", words[pod + 3]);
		int network = open(path, O_RDONLY | O_CLOEXEC);
		check(network, path);
		check(setns(network, CLONE_NEWNET), "setns");
		close(network);
		for (int probe = 0; probe < PROBES; probe++)
			sockets[PROBES * pod + probe] = open_socket();
	}
	check(setns(home, CLONE_NEWNET), "setns");
	long long next = nanoseconds(CLOCK_MONOTONIC);
	for (int round = 0; round <= rounds; round++) {
		long long before = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
		for (int turn = 0; turn < TURNS; turn++) {
			int from = pods * turn / TURNS, to = pods * (turn + 1) / TURNS, now = 0, heard = last;
			memcpy(earlier, asked, last * sizeof *asked);
			for (int i = PROBES * from; i < PROBES * to; i++)
				asked[now++] = sockets[i];
			for (int i = 0; i < now; i++)
				dial(asked[i], asks);
			for (int i = 0; i < heard; i++)
				hear(earlier[i], asks);
			last = now;
			next += 1000000000LL / TURNS;
			struct timespec until = { next / 1000000000LL, next % 1000000000LL };
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
		if (round)
			printf("%lld\n", nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - before);
	}
	return 0;
}
