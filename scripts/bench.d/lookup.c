/* How long the kernel takes to find its way from one network namespace into another: nobody is woken, all is done by the time that a
 * system call returns.
 *
 *   lookup CLIENT SERVER ADDRESS PORT COUNT
 *
 * CLIENT and SERVER are files of network namespaces. Both ends are this process's: it listens at port 8080 in SERVER, and connects to
 * ADDRESS and PORT from CLIENT, COUNT times. Prints the medians in ns, as measure.c reads them (`says`): of connect(2), which the kernel
 * of the other end answers by itself, so that packets went both ways and each firewall on the way was asked about a new connection; and
 * of a byte that is sent through the connection and read at its other end.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LISTENS_AT = 8080, WARM_UP = 10 };

static void check(long result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "lookup: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int open_namespace(const char *path)
{
	int namespace = open(path, O_RDONLY | O_CLOEXEC);
	check(namespace, path);
	return namespace;
}

static struct sockaddr_in place(const char *address, int port)
{
	struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	if (inet_pton(AF_INET, address, &place.sin_addr) != 1) {
		fprintf(stderr, "lookup: %s is no address of IPv4\n", address);
		exit(2);
	}
	return place;
}

/* In the namespace that we are in, wherever we go then. */
static int listen_here(void)
{
	int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in any = place("0.0.0.0", LISTENS_AT);
	check(server, "socket");
	check(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
	check(bind(server, (struct sockaddr *)&any, sizeof any), "bind");
	check(listen(server, 16), "listen");
	return server;
}

/* With a reset: nothing of it stays behind. */
static void drop(int connection)
{
	struct linger at_once = {.l_onoff = 1, .l_linger = 0};
	check(setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), "SO_LINGER");
	close(connection);
}

static void connect_once(int server, const struct sockaddr_in *to, int64_t *connected, int64_t *passed)
{
	char byte = 'b';
	int client = socket(AF_INET, SOCK_STREAM, 0);
	check(client, "socket");
	int64_t began = now();
	check(connect(client, (const struct sockaddr *)to, sizeof *to), "connect");
	*connected = now() - began;
	int accepted = accept(server, NULL, NULL);
	check(accepted, "accept");
	began = now();
	check(send(client, &byte, 1, MSG_NOSIGNAL), "send");
	check(recv(accepted, &byte, 1, 0), "receive");
	*passed = now() - began;
	drop(client);
	drop(accepted);
}

static int compare(const void *one, const void *other)
{
	int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
	return (a > b) - (a < b);
}

static void print_median(const char *what, int64_t *times, int count)
{
	qsort(times, (size_t)count, sizeof *times, compare);
	printf("%s\t%lld\n", what, (long long)times[count / 2]);
}

int main(int argc, char **words)
{
	int count = argc == 6 ? atoi(words[5]) : 0;
	if (count < 1) {
		fputs("usage: lookup CLIENT SERVER ADDRESS PORT COUNT\n", stderr);
		return 2;
	}
	int64_t *connected = calloc((size_t)count, sizeof *connected), *passed = calloc((size_t)count, sizeof *passed), unread;
	int client = open_namespace(words[1]), server = open_namespace(words[2]);
	struct sockaddr_in to = place(words[3], atoi(words[4]));
	check(setns(server, CLONE_NEWNET), words[2]);
	int listener = listen_here();
	check(setns(client, CLONE_NEWNET), words[1]);
	for (int i = 0; i < WARM_UP; i++)
		connect_once(listener, &to, &unread, &unread);
	for (int i = 0; i < count; i++)
		connect_once(listener, &to, &connected[i], &passed[i]);
	print_median("connection", connected, count);
	print_median("byte", passed, count);
	return 0;
}
