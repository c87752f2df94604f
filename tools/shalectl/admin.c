#include "shm/layout.h"
#include "shm/park.h"
#include "tools/shalectl/shalectl.h"

int cmd_ping(struct ctl *ctl)
{
	struct shale_db *db;
	uint64_t best = UINT64_MAX;
	int code = ctl_open(ctl, true, &db), rc = 0;

	if (code != EXIT_OK)
		return code;
	/* The first call opens the channel; a few more show what a warm one costs. */
	for (int i = 0; i < 5 && rc == 0; i++) {
		uint64_t start = monotonic_ns(), took;

		rc = shale_ping(db);
		took = monotonic_ns() - start;
		if (took < best)
			best = took;
	}
	if (rc < 0) {
		code = ctl_failed(db, "ping", rc);
	} else if (ctl->json) {
		print_json(json_pack("{s:f}", "round_trip_us", (double)best / 1e3));
		code = ctl_finish_output();
	} else {
		printf("serving; a round trip took %.2f us\n", (double)best / 1e3);
		code = ctl_finish_output();
	}
	shale_close(db);
	return code;
}

int cmd_flush(struct ctl *ctl)
{
	struct shale_db *db;
	int code = ctl_open(ctl, false, &db), rc;

	if (code != EXIT_OK)
		return code;
	rc = shale_flush(db);
	if (rc < 0)
		code = ctl_failed(db, "flush", rc);
	shale_close(db);
	return code;
}

int cmd_version(struct ctl *ctl)
{
	if (ctl->json)
		print_json(json_pack("{s:s,s:i}", "version", SHALE_VERSION, "abi", SHM_ABI));
	else
		printf("shalectl %s, protocol %d\n", SHALE_VERSION, SHM_ABI);
	return ctl_finish_output();
}
