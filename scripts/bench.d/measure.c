/* Measures what a list says, in rounds: everything once, then everything again, so that noise of the machine hits all alike.
 *
 *   measure ROUNDS LIST
 *
 * Each line of LIST is one thing to measure, its fields separated by tabs:
 *
 *   command NAME PREPARE WORD...       a whole run: from before exec of the words until the process has ended
 *   line    NAME WORD...               from the first number that the command prints to the second one
 *   run     NAME PREPARE WORD...       a container, whose first line is a number that the command prints: as `NAME first`, from before exec until
 *       that number, and as `NAME removed`, from there until the command has ended
 *   says    NAME WORD...               what the command measures itself: prints lines of a word, a tab and nanoseconds
 *   pod     NAME TEMPLATE FOLDER LOGS CGROUP [KEPT]
 *       a Pod of the node: TEMPLATE with each @ROUND@ replaced goes into FOLDER by a rename. Measured are, as `NAME first`,
 *       the time from there to the first number in its log, and, as `NAME again`, from the kill of its process to
 *       the first number in its successor's. LOGS and CGROUP are patterns of glob(7) with @ROUND@ too: the container's log
 *       folder, and its cgroup.procs. With KEPT, the folder in which the node has a folder for each Pod, it is not killed, but as
 *       `NAME removed`, the time from the removal of its manifest until the removal of its folder there.
 *   fresh   NAME DAEMON BEFORE COMMAND
 *       a whole run too, of the shell command COMMAND, each time after the shell command BEFORE. After its time comes the peak of the
 *       memory of the largest of its processes, in KiB; or of the process whose number is in the file DAEMON (`-`: none), if that is larger.
 *
 * PREPARE is `-`, or `v1`: the command finds no cgroup v2 (crun, for one, refuses a host that has both). That is done
 * before the clock starts, in a mount namespace of its own; with `-` there is one too, so that all start alike. Or it is `@PID`: the
 * command is in the mount and network namespaces of that process.
 * Output of commands goes to /dev/null. One line for each measurement goes to stdout: NAME, a tab, nanoseconds, and
 * where it is measured a tab and KiB. The first round is for warming up and prints nothing. A command that fails ends everything.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORDS = 64, MAX_LINES = 32, PATIENCE_MS = 60000 };

struct line {
	char *words[MAX_WORDS + 1];
	int count;
};

static void fail(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	fputs("measure: ", stderr);
	vfprintf(stderr, format, list);
	fprintf(stderr, "%s%s\n", errno ? ": " : "", errno ? strerror(errno) : "");
	va_end(list);
	exit(1);
}

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void rest(int milliseconds)
{
	struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
	nanosleep(&time, NULL);
}

/* The kernel destroys a network namespace some time after its last process, and holds a lock meanwhile that who makes links needs. */
static void settle(void) { rest(100); }

static void report(int round, const char *name, const char *what, int64_t nanoseconds)
{
	if (round > 0)
		printf("%s%s\t%lld\n", name, what, (long long)nanoseconds);
}

static char *read_whole(const char *path)
{
	char *text = calloc(1, 1 << 16);
	FILE *file = fopen(path, "r");
	if (!text || !file || fread(text, 1, (1 << 16) - 1, file) == 0)
		fail("read %s", path);
	fclose(file);
	return text;
}

/* ---- commands */

static void enter(const char *pid)
{
	const char *kinds[] = {"mnt", "net"};
	for (int i = 0; i < 2; i++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%s/ns/%s", pid, kinds[i]);
		int namespace = open(path, O_RDONLY | O_CLOEXEC);
		/* Who is asked lies in the same PID namespace, of which either has a /proc. */
		if (namespace < 0 || setns(namespace, 0) < 0)
			fail("enter %s", path);
		close(namespace);
	}
}

/* In the child, before the clock starts. */
static void prepare(const char *how)
{
	if (how[0] == '@') {
		enter(how + 1);
		return;
	}
	if (unshare(CLONE_NEWNS) < 0)
		fail("unshare");
	if (strcmp(how, "v1") == 0 && umount2("/sys/fs/cgroup/unified", MNT_DETACH) < 0 && errno != EINVAL)
		fail("hide cgroup v2");
}

static void make_pipe(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC) < 0)
		fail("pipe");
}

/* A child that waits at its starting line: it executes the words when a byte comes through *start. */
static pid_t line_up(const char *how, char **words, int output, int *start)
{
	int ready[2], go[2];
	char byte = 0;
	make_pipe(ready);
	make_pipe(go);
	pid_t child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, STDIN_FILENO);
		dup2(output < 0 ? null : output, STDOUT_FILENO);
		if (how)
			prepare(how);
		if (write(ready[1], "", 1) != 1 || read(go[0], &byte, 1) != 1)
			_exit(126);
		execv(words[0], words);
		perror(words[0]);
		_exit(127);
	}
	close(go[0]);
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		fail("%s was not made ready", words[0]);
	close(ready[0]);
	*start = go[1];
	return child;
}

/* Returns the peak of the largest process's memory in KiB: the child's, or of one that it waited for. */
static long must_succeed(pid_t child, const char *name)
{
	int status;
	struct rusage usage;
	if (wait4(child, &status, 0, &usage) < 0)
		fail("wait for %s", name);
	errno = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail("%s ended with wait status %#x", name, status);
	return usage.ru_maxrss;
}

static void go(int start)
{
	if (write(start, "", 1) != 1)
		fail("start a command");
	close(start);
}

static void measure_command(int round, struct line *line)
{
	int start;
	if (line->count < 4)
		fail("a command needs a name, how to prepare, and words");
	pid_t child = line_up(line->words[2], line->words + 3, -1, &start);
	int64_t began = now();
	go(start);
	must_succeed(child, line->words[1]);
	report(round, line->words[1], "", now() - began);
}

static void measure_run(int round, struct line *line)
{
	int output[2], start;
	char text[256] = "";
	long long number;
	if (line->count < 4)
		fail("a container needs a name, how to prepare, and words");
	make_pipe(output);
	pid_t child = line_up(line->words[2], line->words + 3, output[1], &start);
	close(output[1]);
	settle();
	int64_t began = now();
	go(start);
	/* One line is written at once. */
	ssize_t got = read(output[0], text, sizeof text - 1);
	must_succeed(child, line->words[1]);
	int64_t ended = now();
	close(output[0]);
	if (got <= 0 || sscanf(text, "%lld", &number) != 1)
		fail("%s did not print a number but: %s", line->words[1], text);
	report(round, line->words[1], " first", number - began);
	report(round, line->words[1], " removed", ended - number);
}

static void measure_says(int round, struct line *line)
{
	int output[2], start;
	char said[256], what[64];
	long long nanoseconds;
	make_pipe(output);
	pid_t child = line_up(NULL, line->words + 2, output[1], &start);
	close(output[1]);
	settle();
	go(start);
	FILE *lines = fdopen(output[0], "r");
	while (lines && fgets(said, sizeof said, lines)) {
		errno = 0;
		what[0] = ' ';
		if (sscanf(said, "%62[^\t]\t%lld", what + 1, &nanoseconds) != 2)
			fail("%s did not say what and how long, but: %s", line->words[1], said);
		report(round, line->words[1], what, nanoseconds);
	}
	must_succeed(child, line->words[1]);
	fclose(lines);
}

static void measure_line(int round, struct line *line)
{
	int output[2], start;
	char text[256] = "";
	size_t length = 0;
	ssize_t got;
	long long first, second;
	make_pipe(output);
	pid_t child = line_up(NULL, line->words + 2, output[1], &start);
	close(output[1]);
	go(start);
	while ((got = read(output[0], text + length, sizeof text - 1 - length)) > 0)
		length += (size_t)got;
	close(output[0]);
	must_succeed(child, line->words[1]);
	if (sscanf(text, "%lld %lld", &first, &second) != 2)
		fail("%s did not print two numbers but: %s", line->words[1], text);
	report(round, line->words[1], "", second - first);
}

/* Lets the peak of a process's memory begin anew (proc(5), clear_refs). */
static void forget_peak(const char *pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%s/clear_refs", pid);
	FILE *file = fopen(path, "w");
	if (!file || fputs("5", file) < 0 || fclose(file) != 0)
		fail("write %s", path);
}

static long peak_of(const char *pid)
{
	char path[64], line[256];
	long peak = 0;
	snprintf(path, sizeof path, "/proc/%s/status", pid);
	FILE *file = fopen(path, "r");
	if (!file)
		fail("read %s", path);
	while (fgets(line, sizeof line, file) && sscanf(line, "VmHWM: %ld", &peak) != 1)
		;
	fclose(file);
	return peak;
}

static void measure_fresh(int round, struct line *line)
{
	int start;
	if (line->count != 5)
		fail("a fresh run needs a name, a daemon, and two commands");
	const char *name = line->words[1];
	char *daemon = NULL;
	char *before[] = {"/bin/bash", "-euc", line->words[3], NULL}, *command[] = {"/bin/bash", "-euc", line->words[4], NULL};
	pid_t child = line_up(NULL, before, -1, &start);
	go(start);
	must_succeed(child, name);
	if (strcmp(line->words[2], "-") != 0) {
		daemon = read_whole(line->words[2]);
		daemon[strcspn(daemon, "\n")] = 0;
		forget_peak(daemon);
	}

	child = line_up(NULL, command, -1, &start);
	int64_t began = now();
	go(start);
	long peak = must_succeed(child, name);
	int64_t took = now() - began;
	if (daemon && peak_of(daemon) > peak)
		peak = peak_of(daemon);
	if (round > 0)
		printf("%s\t%lld\t%ld\n", name, (long long)took, peak);
	free(daemon);
}

/* ---- Pods */

/* The pattern or text with each @ROUND@ replaced; the caller's to free. */
static char *of_round(const char *text, int round)
{
	const char *mark = "@ROUND@", *at;
	char *whole = NULL;
	size_t length;
	FILE *out = open_memstream(&whole, &length);
	while ((at = strstr(text, mark))) {
		fprintf(out, "%.*s%d", (int)(at - text), text, round);
		text = at + strlen(mark);
	}
	fputs(text, out);
	fclose(out);
	return whole;
}

/* The first number of the file that follows the words of the CRI log format; 0 while there is none. */
static int64_t logged(const char *folder, const char *file)
{
	char pattern[4096];
	long long number = 0;
	glob_t found;
	snprintf(pattern, sizeof pattern, "%s/%s", folder, file);
	if (glob(pattern, 0, NULL, &found) == 0) {
		FILE *log = fopen(found.gl_pathv[0], "r");
		if (log && fscanf(log, "%*s stdout F %lld\n", &number) != 1)
			number = 0;
		if (log)
			fclose(log);
	}
	globfree(&found);
	return number;
}

/* The number may be read late, it was taken in time: to look only now and then disturbs nobody. */
static int64_t wait_for_line(const char *folder, const char *file)
{
	for (int waited = 0; waited < PATIENCE_MS; waited += 20) {
		rest(20);
		int64_t number = logged(folder, file);
		if (number)
			return number;
	}
	errno = 0;
	fail("nothing came into %s/%s", folder, file);
	return 0;
}

static pid_t process_in(const char *pattern)
{
	int pid = 0;
	glob_t found;
	if (glob(pattern, 0, NULL, &found) == 0) {
		FILE *file = fopen(found.gl_pathv[0], "r");
		if (file && fscanf(file, "%d", &pid) != 1)
			pid = 0;
		if (file)
			fclose(file);
	}
	globfree(&found);
	return pid;
}

static int is_there(const char *pattern)
{
	glob_t found;
	int result = glob(pattern, 0, NULL, &found);
	globfree(&found);
	return result == 0;
}

static void write_whole(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	if (!file || fputs(text, file) < 0 || fclose(file) != 0)
		fail("write %s", path);
}

/* From the kill of its process to its successor's first line. */
static void kill_once(int round, const char *name, const char *logs, const char *cgroup)
{
	pid_t process = process_in(cgroup);
	if (process <= 1)
		fail("no process in %s", cgroup);
	int64_t began = now();
	if (kill(process, SIGKILL) < 0)
		fail("kill %d", process);
	report(round, name, " again", wait_for_line(logs, "1.log") - began);
}

/* From the removal of its manifest until its folder in `kept` is gone. */
static void remove_pod(int round, const char *name, const char *manifest, const char *kept)
{
	char event[4096];
	int watch = inotify_init1(IN_CLOEXEC);
	if (watch < 0 || inotify_add_watch(watch, kept, IN_DELETE | IN_ONLYDIR) < 0)
		fail("watch %s", kept);
	struct pollfd wanted = {.fd = watch, .events = POLLIN};
	int64_t began = now();
	if (unlink(manifest) < 0)
		fail("remove %s", manifest);
	if (poll(&wanted, 1, PATIENCE_MS) != 1 || read(watch, event, sizeof event) <= 0)
		fail("wait until a Pod is gone from %s", kept);
	report(round, name, " removed", now() - began);
	close(watch);
}

static void measure_pod(int round, struct line *line)
{
	char aside[4096], manifest[4096];
	if (line->count != 6 && line->count != 7)
		fail("a Pod needs a name, a template, a folder, logs and a cgroup");
	char *template = read_whole(line->words[2]);
	char *text = of_round(template, round);
	char *logs = of_round(line->words[4], round), *cgroup = of_round(line->words[5], round);
	snprintf(aside, sizeof aside, "%s/.aside", line->words[3]);
	snprintf(manifest, sizeof manifest, "%s/measured.yaml", line->words[3]);
	write_whole(aside, text);
	rest(100);

	int64_t began = now();
	if (rename(aside, manifest) < 0)
		fail("rename %s", aside);
	report(round, line->words[1], " first", wait_for_line(logs, "0.log") - began);
	rest(100);

	if (line->count == 7)
		remove_pod(round, line->words[1], manifest, line->words[6]);
	else
		kill_once(round, line->words[1], logs, cgroup);
	unlink(manifest);
	while (is_there(cgroup))
		rest(20);
	rest(50);
	free(template);
	free(text);
	free(logs);
	free(cgroup);
}

/* ---- the list */

static void split(char *text, struct line *line)
{
	char *word;
	line->count = 0;
	while ((word = strsep(&text, "\t")) && line->count < MAX_WORDS)
		line->words[line->count++] = word;
	line->words[line->count] = NULL;
}

static int read_list(const char *path, struct line *lines)
{
	char *text = NULL;
	size_t space = 0;
	int count = 0;
	ssize_t length;
	FILE *file = fopen(path, "r");
	if (!file)
		fail("read %s", path);
	while ((length = getline(&text, &space, file)) > 0 && count < MAX_LINES) {
		text[strcspn(text, "\n")] = 0;
		split(strdup(text), &lines[count++]);
	}
	free(text);
	fclose(file);
	return count;
}

static void measure(int round, struct line *line)
{
	const char *kind = line->words[0];
	if (line->count < 3)
		fail("too few words on a line of the list");
	if (strcmp(kind, "command") == 0)
		measure_command(round, line);
	else if (strcmp(kind, "fresh") == 0)
		measure_fresh(round, line);
	else if (strcmp(kind, "run") == 0)
		measure_run(round, line);
	else if (strcmp(kind, "says") == 0)
		measure_says(round, line);
	else if (strcmp(kind, "line") == 0)
		measure_line(round, line);
	else if (strcmp(kind, "pod") == 0)
		measure_pod(round, line);
	else
		fail("unknown kind %s", kind);
}

int main(int argc, char **argv)
{
	static struct line lines[MAX_LINES];
	if (argc != 3) {
		fputs("usage: measure ROUNDS LIST\n", stderr);
		return 2;
	}
	int rounds = atoi(argv[1]), count = read_list(argv[2], lines);
	for (int round = 0; round <= rounds; round++)
		for (int i = 0; i < count; i++) {
			measure(round, &lines[i]);
			fflush(stdout);
		}
	return 0;
}
