/* doctor_host.c - the machine: kernel, io_uring, limits, containers. */
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/io.h"
#include "shm/error.h"
#include "tools/shalectl/doctor.h"

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

/* The name of what contains us, or NULL. */
static const char *container(void)
{
	static char name[64];

	if (exists("/.dockerenv"))
		return "docker";
	if (exists("/run/.containerenv"))
		return "podman";
	return *small_file("/run/systemd/container", name, sizeof(name)) ? name : NULL;
}

static void kernel(struct doctor *d)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return;
	if (major < 5 || (major == 5 && minor < 11))
		doctor_tell(d, PROBLEM, "kernel", "a kernel from 6.1 on (Debian 12 has it)",
			    "Linux %s has no io_uring that shaled can use: I/O is done by a slower way", u.release);
	else if (major < 6 || (major == 6 && minor < 1))
		doctor_tell(d, NOTE, "kernel", "a kernel from 6.1 on (Debian 12 has it)",
			    "Linux %s lacks DEFER_TASKRUN and SINGLE_ISSUER: io_uring costs more interrupts",
			    u.release);
	else
		doctor_tell(d, FINE, "kernel", NULL, "Linux %s has all that shaled uses", u.release);
}

static void uring(struct doctor *d)
{
	static const char probe[] = "/";
	char value[16], line[256], seccomp[16] = "0";
	struct io_env *env;
	struct err_info err = {0};
	const char *fix;
	FILE *f;

	/* The daemon's own attempt; it takes a ring and gives it back. */
	if (io_env_open(probe, IO_BACKEND_AUTO, false, &env, &err) < 0) {
		doctor_tell(d, NOTE, "io_uring", NULL, "cannot be tried: %s", err.text);
		return;
	}
	if (!*env->reason) {
		doctor_tell(d, FINE, "io_uring", NULL, "allowed%s", d->runs ? "" : " to this user");
		io_env_close(env);
		return;
	}
	f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "Seccomp: %15s", seccomp);
	if (f)
		fclose(f);
	small_file("/proc/sys/kernel/io_uring_disabled", value, sizeof(value));
	if (*value == '1')
		fix = "sysctl -w kernel.io_uring_disabled=0, or kernel.io_uring_group=GID of the daemon's group";
	else if (*value == '2')
		fix = "sysctl -w kernel.io_uring_disabled=0, and the same line in /etc/sysctl.d/";
	else if (strstr(env->reason, "memlock"))
		fix = "LimitMEMLOCK=256M in the unit; in a shell: ulimit -l 262144";
	else if (*seccomp != '0')
		fix = "a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register (docker run "
		      "--security-opt seccomp=FILE)";
	else
		fix = "a kernel from 6.1 on, built with CONFIG_IO_URING";
	doctor_tell(d, PROBLEM, "io_uring", fix, "%s", env->reason);
	io_env_close(env);
}

/* The soft and the hard limit of the daemon, or of this program. False: unknown. */
static bool limit_of(const struct doctor *d, int which, struct rlimit *out)
{
	return prlimit((pid_t)d->pid, which, NULL, out) == 0; /* 0 is ourselves */
}

static const char *whose(const struct doctor *d)
{
	return d->runs ? "the daemon" : "a daemon started from here";
}

static void memlock(struct doctor *d)
{
	struct rlimit l;
	char size[32];

	if (!limit_of(d, RLIMIT_MEMLOCK, &l)) {
		doctor_tell(d, NOTE, "memlock", "run doctor as root",
			    "the daemon's limits cannot be read by this user");
		return;
	}
	/* The rings are counted by kernels before 5.12 alone; 8 MiB are theirs with room to spare. */
	if (l.rlim_cur < (UINT64_C(8) << 20))
		doctor_tell(d, NOTE, "memlock", "LimitMEMLOCK=256M in the unit; in a shell: ulimit -l 262144",
			    "%s may lock %s of memory, which older kernels count io_uring's rings against", whose(d),
			    size_text(l.rlim_cur, size));
	else
		doctor_tell(d, FINE, "memlock", NULL, "%s may lock %s", whose(d),
			    l.rlim_cur == RLIM_INFINITY ? "any amount of memory" : size_text(l.rlim_cur, size));
}

static void open_files(struct doctor *d)
{
	static const uint64_t few = 4096, enough = 16384;
	static const char fix[] = "LimitNOFILE=524288 in the unit; in a shell: ulimit -Hn";
	struct rlimit l;

	if (!limit_of(d, RLIMIT_NOFILE, &l))
		return;
	/* A quarter for tables, three for each session; the daemon raises its soft limit to the hard one. */
	if (l.rlim_max < enough)
		doctor_tell(d, l.rlim_max < few ? PROBLEM : NOTE, "open-files", fix,
			    "%s may open %llu files: %llu tables and some %llu sessions", whose(d),
			    (unsigned long long)l.rlim_max, (unsigned long long)l.rlim_max / 4,
			    (unsigned long long)l.rlim_max / 4);
	else
		doctor_tell(d, FINE, "open-files", NULL, "%s may open %llu files", whose(d),
			    (unsigned long long)l.rlim_max);
}

static void overcommit(struct doctor *d)
{
	char value[16];

	/* Memtables and caches are reserved in large pieces and filled little by little. */
	if (*small_file("/proc/sys/vm/overcommit_memory", value, sizeof(value)) == '2')
		doctor_tell(
			d, NOTE, "overcommit", "sysctl -w vm.overcommit_memory=0, or a larger vm.overcommit_ratio",
			"the kernel counts reserved memory as used (vm.overcommit_memory=2): memtables may be refused");
}

/* Does the log's window outlive a killed daemon? Where it lies in a container's own /dev/shm, not the container. */
static void outliving(struct doctor *d)
{
	const char *name = container();
	char conf[4096] = "";
	struct stat st;
	uid_t uid = geteuid();
	FILE *f;

	if (name) {
		doctor_tell(d, NOTE, "window", "wal.window = directory, or docker run --ipc=host",
			    "this is a container (%s): with wal.window = shm, writes that were acknowledged without "
			    "sync are lost "
			    "when it is removed while the daemon does not run, or was killed",
			    name);
		return;
	}
	if (d->database && stat(d->database, &st) == 0)
		uid = st.st_uid;
	f = fopen("/etc/systemd/logind.conf", "re");
	conf[f ? fread(conf, 1, sizeof(conf) - 1, f) : 0] = '\0';
	if (f)
		fclose(f);
	/* Segments of ordinary users go with their last session, unless logind was told to leave them. */
	if (uid >= 1000 && uid < 60000 && exists("/run/systemd/seats") && !strstr(conf, "\nRemoveIPC=no"))
		doctor_tell(d, NOTE, "window",
			    "RemoveIPC=no in /etc/systemd/logind.conf; or loginctl enable-linger USER; or a user below "
			    "1000",
			    "logind removes shared memory of uid %u when that user logs out, the window of a running "
			    "daemon "
			    "among it",
			    (unsigned)uid);
	else
		doctor_tell(d, FINE, "window", NULL, "shared memory outlives the daemon");
}

void doctor_host(struct doctor *d)
{
	kernel(d);
	uring(d);
	memlock(d);
	open_files(d);
	overcommit(d);
	outliving(d);
}
