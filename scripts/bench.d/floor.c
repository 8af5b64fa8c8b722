/* The kernel's floor: what the kernel alone takes to start a container, with nothing decided, checked or kept.
 *
 *   floor own|host LOWER SCRATCH CGROUP PROGRAM [ARG...]
 *
 * One clone3 into new mount, PID, IPC, UTS and cgroup namespaces (with `own` a network namespace too) and into the cgroup
 * folder CGROUP ("-": none), an overlay of LOWER and the folders SCRATCH/upper and SCRATCH/work on SCRATCH/root, /proc, /sys,
 * /dev with pts, shm and mqueue, pivot_root, exec of PROGRAM. SCRATCH has to be there with its three folders; paths are
 * absolute. Prints CLOCK_MONOTONIC in nanoseconds just before the clone, then waits; exits as PROGRAM did, 125 if something failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FAILED = 125 };

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	_exit(FAILED);
}

static void check(long result, const char *what)
{
	if (result < 0)
		fail(what);
}

/* Mounts a file system at a folder below the current one, which is made if it is not there. */
static void put(const char *kind, const char *at, unsigned long flags, const char *options)
{
	if (mkdir(at, 0755) < 0 && errno != EEXIST)
		fail(at);
	check(mount(kind, at, kind, flags, options), at);
}

static void mount_all(void)
{
	const unsigned long tight = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	put("proc", "proc", tight, NULL);
	put("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
	put("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
	put("tmpfs", "dev/shm", tight, "mode=1777,size=65536k");
	put("mqueue", "dev/mqueue", tight, NULL);
	put("sysfs", "sys", tight | MS_RDONLY, NULL);
}

static void contain(const char *lower, const char *scratch, char **command)
{
	char options[4096], root[4096];
	char *environment[] = {"PATH=/bin", NULL};
	check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make mounts private");
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, scratch, scratch);
	snprintf(root, sizeof root, "%s/root", scratch);
	check(mount("overlay", root, "overlay", 0, options), "mount the overlay");
	check(chdir(root), root);
	mount_all();
	check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	check(umount2(".", MNT_DETACH), "unmount the old root");
	check(chdir("/"), "/");
	execve(command[0], command, environment);
	fail(command[0]);
}

static void print_time(void)
{
	struct timespec now;
	char line[32];
	clock_gettime(CLOCK_MONOTONIC, &now);
	int length = snprintf(line, sizeof line, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
	check(write(STDOUT_FILENO, line, (size_t)length), "print the time");
}

int main(int argc, char **argv)
{
	if (argc < 6) {
		fputs("usage: floor own|host LOWER SCRATCH CGROUP PROGRAM [ARG...]\n", stderr);
		return FAILED;
	}
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
		.exit_signal = SIGCHLD,
	};
	if (strcmp(argv[1], "own") == 0)
		args.flags |= CLONE_NEWNET;
	if (strcmp(argv[4], "-") != 0) {
		int cgroup = open(argv[4], O_PATH | O_DIRECTORY | O_CLOEXEC);
		check(cgroup, argv[4]);
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup;
	}
	print_time();
	long child = syscall(SYS_clone3, &args, sizeof args);
	check(child, "clone3");
	if (child == 0)
		contain(argv[2], argv[3], argv + 5);
	int status;
	check(waitpid((pid_t)child, &status, 0), "wait");
	return WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
}
