/*
 * The static tracepoints are in the binary, and the manual page lists just those.
 */
#include <stdio.h>
#include <string.h>

#include "tests/proc/proc.h"

static char out[1 << 16];

/* With the header at build time, readelf finds every probe that shale-probes(7) has, and no other. */
START_TEST(probes_are_those_of_the_manual_page)
{
	char want[1 << 12];

#if !__has_include(<sys/sdt.h>)
	printf("<sys/sdt.h> (Debian: systemtap-sdt-dev) is not installed: there are no probes in this build\n");
	return;
#endif
	if (proc_shell(out, sizeof(out), "command -v readelf") != 0) {
		printf("readelf (Debian: binutils) is not installed\n");
		return;
	}
	/* "*sync-begin*(position), *sync-end*(…)": the words between stars that a parenthesis follows, of lines that begin with a star. */
	ck_assert_int_eq(proc_shell(want, sizeof(want),
				    "sed -n '/^# PROBES/,/^# EXAMPLES/p' daemon/man/shale-probes.7.scd | grep '^\\*' | "
				    "grep -oE '\\*[a-z]+-[a-z]+\\*\\(' | tr -d '*(' | LC_ALL=C sort"),
			 0);
	ck_assert_uint_gt(strlen(want), 100);
	ck_assert_int_eq(proc_shell(out, sizeof(out),
				    "readelf -n %s/shaled 2>/dev/null | grep -A1 'Provider: shale$' | sed -n 's/__/-/; "
				    "s/.*Name: //p' | "
				    "LC_ALL=C sort -u",
				    proc_build()),
			 0);
	ck_assert_str_eq(out, want);
}
END_TEST

TEST_MAIN("probes", 30 * PATIENCE, probes_are_those_of_the_manual_page)
