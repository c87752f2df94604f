/*
 * The parking protocol as a model: it must hold, and each planted fault must be found (park.pml tells which). Skipped where spin is not installed.
 */
#include "tests/test.h"

#include <stdio.h>
#include <sys/wait.h>

START_TEST(the_protocol_holds_and_each_fault_is_found)
{
	int status;

	fflush(stdout);
	status = system("tests/model/run.sh");
	ck_assert_msg(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77),
		      "tests/model/run.sh ended with status %#x", status);
}
END_TEST

TEST_MAIN("model", 250, the_protocol_holds_and_each_fault_is_found)
