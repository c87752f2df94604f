/*
 * HELLO as the daemon receives it: accepted only when it is exactly what a library of this release sends.
 *
 * Input: a byte (bit 0: ABI and fingerprint are those of this build, so that the corpus outlives a change of either), then the message.
 */
#include <errno.h>

#include "shm/error.h"
#include "shm/handshake.h"
#include "shm/layout.h"
#include "tests/fuzz/fuzz.h"

FUZZ_TARGET(hello)
{
	struct input in = {data, data + size};
	bool current = input_byte(&in) & 1;
	struct slice rest = input_slice(&in, SIZE_MAX);
	unsigned char *message = input_copy(rest);
	struct err_info err = {0};
	struct hello hello, untouched;
	int rc;

	if (current && rest.size >= offsetof(struct hello, ring_entries)) {
		store_le32(message + offsetof(struct hello, abi), SHM_ABI);
		store_le64(message + offsetof(struct hello, fingerprint), layout_fingerprint());
	}
	memset(&hello, 0x5a, sizeof(hello));
	untouched = hello;
	rc = hello_check(message, rest.size, &hello, &err);
	if (rc == 0) {
		ENSURE(rest.size == sizeof(hello) && memcmp(&hello, message, sizeof(hello)) == 0);
		ENSURE(hello.magic == HELLO_MAGIC && hello.abi == SHM_ABI && !hello.reserved);
	} else {
		ENSURE(rc == -EPROTO || rc == -SHALE_EABI);
		ENSURE(err.text[0] && memcmp(&hello, &untouched, sizeof(hello)) == 0);
	}
	free(message);
	return 0;
}
