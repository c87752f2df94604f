/*
 * commands.c - what shalectl understands. A new verb is a line in the first table; a new option one in the second, and a field in struct ctl.
 */
#include "tools/shalectl/commands.h"

#include <limits.h>
#include <stddef.h>

const struct command command_table[] = {
	{"ping", "", "", "is the daemon there and serving?", cmd_ping,
	 "Asks five times over one connection and prints the shortest round trip."},
	{"status", "", "", "state, sizes, levels; works while the daemon hangs", cmd_status, NULL},
	{"stats", "", "", "every counter, level, session and snapshot", cmd_stats, NULL},
	{"levels", "", "", "what each level holds, and what came into it and why", cmd_levels, NULL},
	{"jobs", "", "", "background jobs: running, and the last ones", cmd_jobs, NULL},
	{"clients", "", "", "who is connected, and what it does; works while the daemon hangs", cmd_clients, NULL},
	{"snapshots", "", "", "who holds which snapshot, and for how long", cmd_snapshots, NULL},
	{"kick", "[SESSION]", "P", "end a session, or all of a process", cmd_kick,
	 "For root and the daemon's user. The client is told, loses its snapshots, and may come back."},
	{"explain", "", "", "why writes are slow now, and why space is not free", cmd_explain, NULL},
	{"top", "", "i1", "a live view of everything; works while the daemon hangs", cmd_top,
	 "Rates are of the time between two looks. Without a terminal, with --once or with --json it prints one view "
	 "and ends; with "
	 "--interval as well, one after the other (--json: an object a line). q or Ctrl-C ends it."},
	{"doctor", "", "", "is everything as shaled needs it? each finding with its fix", cmd_doctor,
	 "Kernel, io_uring, limits, file system, disk, shared memory, versions, what killed daemons left. Works with "
	 "and without a "
	 "running daemon. The exit code is 5 when there is a problem."},
	{"events", "", "F", "what has happened lately; works while the daemon hangs, and after it was killed",
	 cmd_events,
	 "The last 128: starts, stalls, failed jobs, sessions ended or refused, a full disk. With --json an object a "
	 "line. "
	 "--follow goes on until the daemon ends (exit code 3)."},
	{"metrics", "", "T", "every number for a monitoring system, as OpenMetrics", cmd_metrics,
	 "From the stats page alone. Also of a daemon that was killed: shale_up is then 0. tools/grafana has a "
	 "dashboard and "
	 "alert rules."},
	{"config", "show|check [FILE]", "", "the settings in force and where they come from; what is wrong with a file",
	 cmd_config,
	 "show: of the running daemon, or those that FILE and FILE.d/ would give. check: every unknown key (with the "
	 "one that was "
	 "likely meant) and wrong value, with its line; FILE is /etc/shale/shaled.conf if none is given. The exit code "
	 "is 5 when "
	 "something is wrong."},
	{"get", "KEY", "x", "print a value, byte for byte", cmd_get,
	 "A newline follows only on a terminal. Without such a key the exit code is 4."},
	{"put", "KEY VALUE", "y", "write a value; '-' takes it from standard input", cmd_put, NULL},
	{"del", "KEY...", "y", "delete keys, all at once", cmd_del, NULL},
	{"scan", "", "ftpnrk", "print entries in order, one a line", cmd_scan,
	 "Key and value are separated by a tab; \\t, \\n, \\\\ and \\xNN stand for what would break the line or is no "
	 "UTF-8. With --json, such bytes come as key_base64 or value_base64."},
	{"flush", "", "", "write the memtables out as tables", cmd_flush, NULL},
	{"compact", "[FROM [TO]]", "ftlWN", "compact a range of keys, or all; Ctrl-C ends it", cmd_compact,
	 "Ended by Ctrl-C, what was compacted until then stays so."},
	{"check", "", "", "hold the running database against its invariants, while everybody goes on", cmd_check,
	 "Levels, files, every entry of every table (checksums, order, key ranges), sequence numbers over levels, "
	 "rings "
	 "and snapshots. Reads go past the daemon's caches, at the daemon's engine.background_rate. The exit code is 5 "
	 "when "
	 "something is wrong. For root and the daemon's user: it reads the whole disk, and keeps deleted tables on it "
	 "until it ends. Ctrl-C ends it. verify looks more closely, at a database that nobody serves."},
	{"verify", "", "", "check every byte of the database in --db DIR, which nobody serves", cmd_verify,
	 "Reads everything and changes nothing: checksums, order, filters, indexes, key ranges, sequence numbers, "
	 "logs. The "
	 "exit code is 5 when there is a problem; what a crash leaves is a note, and no problem."},
	{"repair", "", "YDO", "make a damaged database usable again; what is lost is told, and kept in lost/",
	 cmd_repair,
	 "Nothing that was deleted comes back: older values of keys whose newest entry may be lost are withheld. "
	 "Damaged files "
	 "lie in lost/, as they were. Killed at any moment, it can be run again."},
	{"checkpoint", "DIR", "", "copy the database as it is now into DIR, while everybody goes on", cmd_checkpoint,
	 "Holds everything up to one sequence. Tables are hard links where DIR is on the same file system, else "
	 "copies. DIR must not "
	 "exist, or be an earlier checkpoint of this database, which becomes the new one at a stroke, keeping the "
	 "tables that "
	 "it has. The daemon makes it: for root and the daemon's user only, and where the daemon may write, which "
	 "under systemd is below its "
	 "state directory (/var/lib/shale). Ctrl-C leaves DIR as it was."},
	{"restore", "CHECKPOINT DIR", "H", "make DIR a database from a checkpoint; no daemon is needed", cmd_restore,
	 "CHECKPOINT may also be a copy of a database directory that nobody serves. DIR must not exist, or be empty. "
	 "Everything is verified before "
	 "DIR gets its name, so a damaged checkpoint (exit code 5), a full disk or Ctrl-C leave nothing there. Run by "
	 "root, DIR belongs to "
	 "whom the checkpoint belongs to, or the empty directory did."},
	{"export", "[FILE]", "BLUftpn", "write all entries, or a range, to FILE or standard output", cmd_export,
	 "As JSON lines, as scan --json prints them, with key_base64 and value_base64 for bytes that are no UTF-8; or "
	 "with --binary; or with "
	 "--leveldb as a directory that any LevelDB opens, also where the database itself uses zstd. All of it is the "
	 "state of one "
	 "moment; others go on writing. FILE must not exist, and has its name only when it is whole."},
	{"load", "[FILE]", "y", "write entries from FILE or standard input, as export writes them", cmd_load,
	 "Tells JSON lines and the binary form apart by itself. Entries are written in batches of up to 1000; what was "
	 "written before a "
	 "failure stays, and loading again does no harm. A binary file that is damaged or cut short is noticed."},
	{"dump", "FILE", "k", "print what a table, log, MANIFEST or CURRENT says, or a directory as a whole", cmd_dump,
	 "One item a line, sound or not; damage is a line with its offset, and the exit code 5."},
	{"version", "", "", "print the version", cmd_version, NULL},
	{"completion", "bash", "", "print the completion for a shell", cmd_completion,
	 "For this shell only: source <(shalectl completion bash)"},
	{"help", "[VERB]", "S", "print this, or a verb's options", cmd_help, NULL},
};
const size_t command_count = ARRAY_SIZE(command_table);

#define AT(field) offsetof(struct ctl, field)

const struct option_row option_table[] = {
	{'s', "socket", "PATH", OPTION_TEXT, AT(socket),
	 "the daemon's socket; default: $SHALE_SOCKET, else " SHALE_DEFAULT_SOCKET},
	{'d', "db", "DIR", OPTION_TEXT, AT(database),
	 "the daemon that serves this database directory, or the directory itself"},
	{'j', "json", NULL, OPTION_TRUE, AT(json), "answer in JSON"},
	{'w', "timeout", "MS", OPTION_MILLISECONDS, AT(timeout_ms),
	 "how long to wait for a connection, and five times as long for what is read; default 2000"},
	{'h', "help", NULL, OPTION_HELP, 0, "print this"},
	/* those of verbs */
	{'x', "hex", NULL, OPTION_TRUE, AT(hex), "print the value in hexadecimal"},
	{'y', "sync", NULL, OPTION_TRUE, AT(sync), "return when it is on disk"},
	{'f', "from", "KEY", OPTION_TEXT, AT(from), "begin at this key"},
	{'t', "to", "KEY", OPTION_TEXT, AT(to), "end before this key"},
	{'p', "prefix", "BYTES", OPTION_TEXT, AT(prefix), "only keys that begin so"},
	{'n', "limit", "N", OPTION_COUNT, AT(limit), "at most so many entries"},
	{'r', "reverse", NULL, OPTION_TRUE, AT(reverse), "from the last to the first"},
	{'k', "keys-only", NULL, OPTION_TRUE, AT(keys_only), "leave the values out"},
	{'l', "level", "N", OPTION_LEVEL, AT(level),
	 "only what level N holds, into the next one; the last is rewritten"},
	{'W', "wait", NULL, OPTION_FALSE, AT(no_wait), "return when it is done (the default)"},
	{'N', "no-wait", NULL, OPTION_TRUE, AT(no_wait), "return when it is begun"},
	{'P', "pid", "PID", OPTION_COUNT, AT(pid), "the sessions of this process"},
	{'Y', "yes", NULL, OPTION_TRUE, AT(yes), "do it without asking"},
	{'D', "dry-run", NULL, OPTION_TRUE, AT(dry_run), "say what would be done, and change nothing"},
	{'O', "keep-older", NULL, OPTION_TRUE, AT(keep_older),
	 "keep older values of keys whose newest entry may be lost: deleted data may come back"},
	{'i', "interval", "SECONDS", OPTION_SECONDS, AT(interval_s), "time between two looks; default 1"},
	{'1', "once", NULL, OPTION_TRUE, AT(once), "print one view, and end"},
	{'F', "follow", NULL, OPTION_TRUE, AT(follow), "go on, and print what happens as it does"},
	{'T', "text", NULL, OPTION_TRUE, AT(text),
	 "Prometheus's older text format, as node_exporter's textfile collector reads it"},
	{'H', "link", NULL, OPTION_TRUE, AT(link),
	 "link tables instead of copying them: fast, no space, and the same bytes as the checkpoint's"},
	{'B', "binary", NULL, OPTION_TRUE, AT(binary),
	 "in a binary form, smaller and faster than JSON, that tells when it is cut short"},
	{'L', "leveldb", NULL, OPTION_TRUE, AT(leveldb), "FILE is a directory, for LevelDB"},
	{'U', "no-compression", NULL, OPTION_TRUE, AT(uncompressed), "with --leveldb: without Snappy"},
	{'S', "scdoc", NULL, OPTION_TRUE, AT(scdoc), "print the manual page's source, for scdoc"},
};
const size_t option_count = ARRAY_SIZE(option_table);

/* ---- looking things up ---- */

const struct command *command_find(const char *name)
{
	const char *names[ARRAY_SIZE(command_table) + 1] = {0};
	const char *near;

	for (size_t i = 0; i < command_count; i++) {
		if (strcmp(command_table[i].name, name) == 0)
			return &command_table[i];
		names[i] = command_table[i].name;
	}
	near = did_you_mean(name, names);
	complain("no verb '%s'%s%s%s; shalectl help lists them", name, near ? ": did you mean '" : "", near ? near : "",
		 near ? "'?" : "");
	return NULL;
}

bool command_takes(const struct command *c, size_t option)
{
	return option < GLOBAL_OPTIONS || (c && strchr(c->options, option_table[option].letter));
}

bool command_operand(const struct command *c, int i, char *buf, size_t cap)
{
	const char *p = c->args;

	for (;; i--) {
		size_t n;

		p += strspn(p, " []");
		n = strcspn(p, " []");
		if (n == 0)
			return false;
		if (i == 0) {
			if (n > 3 && strncmp(p + n - 3, "...", 3) == 0)
				n -= 3;
			snprintf(buf, cap, "%.*s", (int)n, p);
			return true;
		}
		p += n;
	}
}

void command_operands(const struct command *c, int *min_out, int *max_out)
{
	bool optional = false;

	*min_out = *max_out = 0;
	for (const char *p = c->args; *p;) {
		size_t n = strcspn(p, " []");

		if (n) {
			*min_out += !optional;
			*max_out = strstr(p, "...") == p + n - 3 ? INT_MAX : *max_out + 1;
		} else {
			optional |= *p == '[';
			n = 1;
		}
		p += n;
	}
}
