/* Attaches network namespaces with the CNI plugins bridge (host-local), portmap and loopback, as containerd has them do it.
 *
 *   cni PLACE measure ID [PORT]     a namespace of this name is attached, with PORT as a host port, and detached again. Prints how
 *                                   long either took, as measure.c reads it (`says`)
 *   cni PLACE keep ID PORT          one is attached and stays. Prints what the plugin bridge has answered
 *   cni PLACE bare FIRST LAST       so many, called `other-<number>`, get their link and an address, and no rules
 *
 * PLACE is a process: all of it is done in its mount and network namespaces, where there is a /run of its own.
 *
 * ADD of loopback runs beside the other two, of which the second is told what the first has answered; DEL runs one after the other and
 * backwards, as go-cni and libcni have it. What those keep on the disk is not kept, and what host-local does lies in memory. Making the
 * namespace is not measured.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PLUGINS "/usr/lib/cni"

enum { MAX_TEXT = 1 << 14 };

/* A plugin that runs. */
struct run {
	const char *plugin;
	pid_t process;
	int output;
};

/* What is attached. */
struct attachment {
	const char *id, *port;
	char namespace[128];
	/* Not only to the bridge. */
	int is_whole;
	/* What the bridge has answered. */
	char answer[MAX_TEXT];
};

static void fail(const char *what)
{
	fprintf(stderr, "cni: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void check(long result, const char *what)
{
	if (result < 0)
		fail(what);
}

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* ---- plugins */

static struct run start(const char *plugin, const char *command, const struct attachment *to, const char *link, const char *config)
{
	char path[128], variables[5][192];
	char *words[] = {path, NULL};
	char *environment[] = {variables[0], variables[1], variables[2], variables[3], variables[4], "PATH=/usr/sbin:/usr/bin", NULL};
	int input[2], output[2];
	struct run run = {.plugin = plugin};
	posix_spawn_file_actions_t actions;
	snprintf(path, sizeof path, PLUGINS "/%s", plugin);
	snprintf(variables[0], sizeof *variables, "CNI_COMMAND=%s", command);
	snprintf(variables[1], sizeof *variables, "CNI_CONTAINERID=%s", to->id);
	snprintf(variables[2], sizeof *variables, "CNI_NETNS=%s", to->namespace);
	snprintf(variables[3], sizeof *variables, "CNI_IFNAME=%s", link);
	snprintf(variables[4], sizeof *variables, "CNI_PATH=" PLUGINS);
	check(pipe2(input, O_CLOEXEC), "pipe");
	check(pipe2(output, O_CLOEXEC), "pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
	if ((errno = posix_spawn(&run.process, path, &actions, NULL, words, environment)))
		fail(path);
	posix_spawn_file_actions_destroy(&actions);
	close(input[0]);
	close(output[1]);
	/* A pipe holds all of it. */
	check(write(input[1], config, strlen(config)), plugin);
	close(input[1]);
	run.output = output[0];
	return run;
}

/* Waits for its end, and leaves what it has said in `answer`, of MAX_TEXT bytes. */
static void finish(struct run run, char *answer)
{
	size_t length = 0;
	ssize_t got;
	int status;
	while ((got = read(run.output, answer + length, MAX_TEXT - 1 - length)) > 0)
		length += (size_t)got;
	answer[length] = 0;
	close(run.output);
	check(waitpid(run.process, &status, 0), "wait");
	if (status == 0)
		return;
	fprintf(stderr, "cni: %s ended with wait status %#x: %s\n", run.plugin, status, answer);
	exit(1);
}

static struct run start_loopback(const char *command, const struct attachment *to)
{
	return start("loopback", command, to, "lo", "{\"cniVersion\":\"1.0.0\",\"name\":\"cni-loopback\",\"type\":\"loopback\"}");
}

static struct run start_bridge(const char *command, const struct attachment *to)
{
	static char config[MAX_TEXT];
	snprintf(config, sizeof config,
		"{\"cniVersion\":\"1.0.0\",\"name\":\"bench\",\"type\":\"bridge\",\"bridge\":\"cni0\",\"isGateway\":true,\"ipMasq\":%s,"
		"\"promiscMode\":true,\"ipam\":{\"type\":\"host-local\",\"dataDir\":\"/run/cni\",\"ranges\":[[{\"subnet\":\"10.88.0.0/16\"}]],"
		"\"routes\":[{\"dst\":\"0.0.0.0/0\"}]}}",
		to->is_whole ? "true" : "false");
	return start("bridge", command, to, "eth0", config);
}

/* With no port it finds nothing to do. */
static struct run start_portmap(const char *command, const struct attachment *to)
{
	static char config[2 * MAX_TEXT];
	char ports[128] = "";
	if (to->port)
		snprintf(ports, sizeof ports, "{\"hostPort\":%s,\"containerPort\":8080,\"protocol\":\"tcp\"}", to->port);
	snprintf(config, sizeof config,
		"{\"cniVersion\":\"1.0.0\",\"name\":\"bench\",\"type\":\"portmap\",\"capabilities\":{\"portMappings\":true},"
		"\"runtimeConfig\":{\"portMappings\":[%s]},\"prevResult\":%s}",
		ports, to->answer);
	return start("portmap", command, to, "eth0", config);
}

static void attach(struct attachment *to)
{
	char unread[MAX_TEXT];
	struct run loopback = start_loopback("ADD", to);
	finish(start_bridge("ADD", to), to->answer);
	finish(start_portmap("ADD", to), unread);
	finish(loopback, unread);
}

static void detach(struct attachment *from)
{
	char unread[MAX_TEXT];
	finish(start_loopback("DEL", from), unread);
	finish(start_portmap("DEL", from), unread);
	finish(start_bridge("DEL", from), unread);
}

/* ---- namespaces */

static void enter(const char *place)
{
	const char *kinds[] = {"mnt", "net"};
	int descriptors[2];
	for (int i = 0; i < 2; i++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%s/ns/%s", place, kinds[i]);
		check(descriptors[i] = open(path, O_RDONLY | O_CLOEXEC), path);
	}
	for (int i = 0; i < 2; i++)
		check(setns(descriptors[i], 0), "enter the place");
}

/* A network namespace that a file holds, as `ip netns add` makes it. */
static void make_namespace(struct attachment *of)
{
	snprintf(of->namespace, sizeof of->namespace, "/run/netns/%s", of->id);
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), file = open(of->namespace, O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	check(home, "/proc/self/ns/net");
	check(file, of->namespace);
	check(unshare(CLONE_NEWNET), "unshare");
	check(mount("/proc/self/ns/net", of->namespace, NULL, MS_BIND, NULL), of->namespace);
	check(setns(home, CLONE_NEWNET), "go back");
	close(home);
	close(file);
}

static void remove_namespace(const struct attachment *of)
{
	check(umount2(of->namespace, MNT_DETACH), of->namespace);
	check(unlink(of->namespace), of->namespace);
}

/* ---- what is asked for */

static void measure(const char *id, const char *port)
{
	struct attachment one = {.id = id, .port = port, .is_whole = 1};
	make_namespace(&one);
	int64_t began = now();
	attach(&one);
	int64_t attached = now();
	detach(&one);
	int64_t detached = now();
	remove_namespace(&one);
	printf("added\t%lld\nremoved\t%lld\n", (long long)(attached - began), (long long)(detached - attached));
}

static void keep(const char *id, const char *port)
{
	struct attachment one = {.id = id, .port = port, .is_whole = 1};
	make_namespace(&one);
	attach(&one);
	puts(one.answer);
}

static void attach_bare(int first, int last)
{
	for (int number = first; number <= last; number++) {
		char id[32];
		snprintf(id, sizeof id, "other-%d", number);
		struct attachment one = {.id = id};
		make_namespace(&one);
		finish(start_bridge("ADD", &one), one.answer);
	}
}

int main(int count, char **words)
{
	if (count < 4) {
		fputs("usage: cni PLACE measure ID [PORT] | keep ID PORT | bare FIRST LAST\n", stderr);
		return 2;
	}
	enter(words[1]);
	if (strcmp(words[2], "measure") == 0)
		measure(words[3], words[4]);
	else if (strcmp(words[2], "keep") == 0 && count == 5)
		keep(words[3], words[4]);
	else if (strcmp(words[2], "bare") == 0 && count == 5)
		attach_bare(atoi(words[3]), atoi(words[4]));
	else
		return 2;
	return 0;
}
