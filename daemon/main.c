/* shaled - the daemon that owns one LevelDB database and serves it to every process of the machine. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/daemon.h"
#include "daemon/log.h"
#include "shm/base.h"
#include "shm/error.h"

/* What a supervisor or a script can tell apart. */
enum {
	EXIT_CLEAN = 0,
	EXIT_FAILED = 1, /* something else; also: the engine stopped after an I/O error, start again */
	EXIT_USAGE = 2,	 /* options or configuration */
	EXIT_LOCKED = 3, /* another process has this database open */
	EXIT_NO_DATABASE = 4,
	EXIT_PERMISSION = 5,
	EXIT_CORRUPT = 6,
	EXIT_COMPARATOR = 7,
	EXIT_DISK_FULL = 8,
};

static int exit_code(int rc)
{
	switch (rc) {
	case 0:
		return EXIT_CLEAN;
	case -SHALE_ECONFIG:
		return EXIT_USAGE;
	case -SHALE_ELOCKED:
		return EXIT_LOCKED;
	case -ENOENT:
	case -ENOTDIR:
	case -SHALE_ENODATABASE:
		return EXIT_NO_DATABASE;
	case -EACCES:
	case -EPERM:
	case -EROFS:
		return EXIT_PERMISSION;
	case -SHALE_ECORRUPT:
	case -SHALE_EMISSING:
		return EXIT_CORRUPT;
	case -SHALE_ECOMPARATOR:
		return EXIT_COMPARATOR;
	case -ENOSPC:
		return EXIT_DISK_FULL;
	default:
		return EXIT_FAILED;
	}
}

static const char help[] =
	"usage: shaled --db DIR [--socket PATH] [--config FILE]... [--set section.key=value]...\n"
	"\n"
	"Serves the LevelDB database in DIR to every process of this machine, in the foreground, until SIGTERM.\n"
	"\n"
	"  -d, --db DIR         the database directory (else $SHALE_DB); made when it is not there\n"
	"  -s, --socket PATH    where clients connect (default: DIR/shale.sock)\n"
	"  -c, --config FILE    settings, as an INI file (shaled.conf explains all of them), and those in "
	"FILE.d/*.conf;\n"
	"                       may be repeated; -FILE may be missing\n"
	"      --best-effort    serve what can be read of a damaged database (engine.best_effort = yes)\n"
	"      --set S.K=V      one setting, after the file's; may be repeated\n"
	"      --check-config   print the settings in force, each with its origin, and exit\n"
	"      --explain-config print every setting with its default and what it means, and exit\n"
	"      --version, --help\n"
	"\n"
	"exit codes: 0 clean end, 1 failed, 2 usage or configuration, 3 database in use, 4 no such database,\n"
	"            5 no permission, 6 corrupt, 7 foreign comparator, 8 disk full\n";

struct arguments {
	const char *database, *socket;
	bool check_config;
	struct config_sources sources;
	struct config config;
};

enum { OPT_SET = 256, OPT_BEST_EFFORT, OPT_CHECK, OPT_EXPLAIN, OPT_VERSION, OPT_HELP };

static const struct option options[] = {
	{"db", required_argument, NULL, 'd'},
	{"socket", required_argument, NULL, 's'},
	{"config", required_argument, NULL, 'c'},
	{"set", required_argument, NULL, OPT_SET},
	{"best-effort", no_argument, NULL, OPT_BEST_EFFORT},
	{"check-config", no_argument, NULL, OPT_CHECK},
	{"explain-config", no_argument, NULL, OPT_EXPLAIN},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

static int add_word(const char **list, unsigned *count, unsigned cap, const char *option, const char *word,
		    struct err_info *err)
{
	if (*count == cap)
		return err_set(err, -SHALE_ECONFIG, "%s: more than %u times", option, cap);
	list[(*count)++] = word;
	return 0;
}

static int add_set(struct arguments *a, const char *word, struct err_info *err)
{
	return add_word(a->sources.set, &a->sources.sets, CONFIG_SETS, "--set", word, err);
}

/* 0, a negative code with words, or an exit code plus one. */
static int read_arguments(int argc, char **argv, struct arguments *a, struct err_info *err)
{
	int rc = 0, c;

	while (rc == 0 && (c = getopt_long(argc, argv, "d:s:c:h", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			a->database = optarg;
			break;
		case 's':
			a->socket = optarg;
			break;
		case 'c':
			rc = add_word(a->sources.file, &a->sources.files, CONFIG_FILES, "--config", optarg, err);
			break;
		case OPT_SET:
			rc = add_set(a, optarg, err);
			break;
		case OPT_BEST_EFFORT:
			rc = add_set(a, "engine.best_effort=yes", err);
			break;
		case OPT_CHECK:
			a->check_config = true;
			break;
		case OPT_EXPLAIN:
			config_default(&a->config);
			config_write(&a->config, CONFIG_EXPLAINED, stdout);
			return EXIT_CLEAN + 1;
		case OPT_VERSION:
			puts("shaled " SHALE_VERSION);
			return EXIT_CLEAN + 1;
		case OPT_HELP:
		case 'h':
			fputs(help, stdout);
			return EXIT_CLEAN + 1;
		default:
			fputs("try shaled --help\n", stderr);
			return EXIT_USAGE + 1;
		}
	}
	if (rc == 0 && optind < argc)
		rc = err_set(err, -SHALE_ECONFIG, "\"%s\" is no option; the database is given by --db", argv[optind]);
	return rc == 0 ? config_gather(&a->sources, &a->config, err) : rc;
}

int main(int argc, char **argv)
{
	static struct arguments a;
	struct err_info err = {0};
	int rc;

	a.database = getenv("SHALE_DB");
	rc = read_arguments(argc, argv, &a, &err);
	if (rc > 0)
		return rc - 1;
	if (rc < 0) {
		log_line(LOG_ERR, "%s", err.text);
		return EXIT_USAGE; /* also when the file cannot be read */
	}
	if (a.check_config) {
		config_write(&a.config, CONFIG_WITH_ORIGINS, stdout);
		return EXIT_CLEAN;
	}
	if (!a.database || !*a.database) {
		log_line(LOG_ERR, "which database? Give its directory by --db DIR or in $SHALE_DB");
		return EXIT_USAGE;
	}
	rc = daemon_run(&a.config, &a.sources, a.database, a.socket, &err);
	if (rc < 0)
		log_line(LOG_ERR, "%s", *err.text ? err.text : shale_strerror(rc));
	return exit_code(rc);
}
