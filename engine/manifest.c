/*
 * manifest.c - writing the MANIFEST.
 *
 * A new one, step by step; a crash between any two leaves either the old state or the new one, whole:
 *
 *	1. MANIFEST-n: reserve, write, fdatasync       CURRENT names the old one; n is a stray
 *	2. sync the directory                          n is sure to be found
 *	3. n.dbtmp: write "MANIFEST-n\n", fdatasync    still the old one
 *	4. rename n.dbtmp to CURRENT                   old or new: both whole, both say the same but for the edit
 *	5. sync the directory                          new
 *	6. remove the old MANIFEST
 *
 * Up to and including a rename that was refused for lack of space nothing has changed, and the new file is removed. From the rename on
 * a failure leaves open which one a restart will read, and the record appended next would be lost if it read the other: hence
 * MANIFEST_UNKNOWN, and both files stay.
 *
 * A failed sync is never tried again: the kernel may have dropped the pages and cleared the error. Before the rename the old state is
 * good, but a device that cannot sync gets no more writes: MANIFEST_UNTRUSTED.
 */
#include "engine/manifest.h"

#include <stdlib.h>

#include "engine/filename.h"
#include "engine/kill_point.h"
#include "engine/log_format.h"
#include "engine/plant.h"
#include "shm/error.h"

enum {
	RESERVE = 64 << 10,  /* of a MANIFEST, bytes at a time */
	RESERVE_CURRENT = 1, /* CURRENT does not grow */
};

static bool no_space(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT;
}

static int failed(struct err_info *err, int rc, const char *doing, const char *name, uint64_t offset)
{
	if (no_space(rc))
		return err_set(err, rc,
			       "%s: %s at offset %llu: no space. Nothing was changed; free some space on the device",
			       name, doing, (unsigned long long)offset);
	return err_set(err, rc,
		       "%s: %s at offset %llu: %s. The device or file system refuses; see the kernel log (dmesg), then "
		       "restart",
		       name, doing, (unsigned long long)offset, shale_strerror(rc));
}

/* Makes sure that writing [0, end) cannot run out of space, @step bytes (a power of two) at a time. 0, or -ENOSPC and the like with nothing changed. */
static int reserve(struct io_queue *q, struct io_file *f, uint64_t end, uint64_t step, uint64_t *reserved_io)
{
	uint64_t to = align_up(end, step);
	int rc;

	if (end <= *reserved_io)
		return 0;
	rc = io_allocate(q, f, *reserved_io, to - *reserved_io);
	if (rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -EINVAL) {
		*reserved_io = UINT64_MAX; /* then a full disk is a failed append, and poisons */
		return 0;
	}
	if (rc == 0)
		*reserved_io = to;
	return rc;
}

/* Frames @records from file offset @offset on. 0 and malloc'ed bytes, or -ENOMEM. */
static int frame(uint64_t offset, const struct slice *records, unsigned count, unsigned char **data_out,
		 uint64_t *end_out)
{
	uint64_t end = offset;
	struct log_dest dest;
	unsigned char *data;

	for (unsigned i = 0; i < count; i++)
		end += log_framed_size(end, records[i].size);
	data = malloc(end - offset);
	if (!data)
		return -ENOMEM;
	dest = (struct log_dest){.base = data, .mask = UINT64_MAX, .shift = -offset};
	end = offset;
	for (unsigned i = 0; i < count; i++)
		end = log_frame(&dest, end, records[i]);
	*data_out = data;
	*end_out = end;
	return 0;
}

int manifest_append(struct version_set *vs, struct io_queue *q, struct slice record, enum manifest_damage *damage_out,
		    struct err_info *err)
{
	char name[FILE_NAME_MAX];
	unsigned char *data = NULL;
	uint64_t end = 0;
	int rc = frame(vs->manifest_offset, &record, 1, &data, &end);

	file_name(name, FILE_MANIFEST, vs->manifest_number);
	*damage_out = MANIFEST_WHOLE;
	if (rc < 0)
		return failed(err, rc, "putting a record together", name, vs->manifest_offset);
	rc = reserve(q, vs->manifest, end, RESERVE, &vs->manifest_reserved);
	if (rc < 0) {
		free(data);
		return failed(err, rc, "reserving space", name, vs->manifest_offset);
	}
	*damage_out = MANIFEST_UNKNOWN;
	rc = io_pwrite(q, vs->manifest, data, end - vs->manifest_offset, vs->manifest_offset);
	free(data);
	KILL_POINT("manifest_appended");
	if (rc < 0)
		return failed(err, rc, "appending a record", name, vs->manifest_offset);
	rc = PLANT("manifest-sync-skipped") ? 0 : io_fdatasync(q, vs->manifest);
	KILL_POINT("manifest_synced");
	if (rc < 0)
		return failed(err, rc, "syncing a record", name, vs->manifest_offset);
	vs->manifest_offset = end;
	return 0;
}

/* Writes @data to the new file @name, with space reserved in steps of @step, and syncs it. On failure the file is closed; it may be there. 0 and *@file_out. */
static int write_new(struct io_env *env, struct io_queue *q, const char *name, const void *data, size_t size,
		     uint64_t step, uint64_t *reserved_out, struct io_file **file_out, enum manifest_damage *damage_out,
		     struct err_info *err)
{
	struct io_file *f = NULL;
	uint64_t reserved = 0;
	const char *doing = "creating it";
	int rc = io_open(env, name, IO_OPEN_WRITE | IO_OPEN_CREATE, &f);

	*damage_out = MANIFEST_WHOLE;
	if (rc < 0)
		goto fail;
	doing = "reserving space";
	rc = reserve(q, f, size, step, &reserved);
	if (rc < 0)
		goto fail;
	doing = "writing it";
	rc = io_pwrite(q, f, data, size, 0);
	if (rc < 0)
		goto fail;
	doing = "syncing it";
	*damage_out = MANIFEST_UNTRUSTED;
	rc = io_fdatasync(q, f);
	if (rc < 0)
		goto fail;
	*reserved_out = reserved;
	*file_out = f;
	return 0;
fail:
	io_close(f);
	return failed(err, rc, doing, name, 0);
}

/* Steps 3 to 5: CURRENT names MANIFEST-@number. */
static int current_switch(struct io_env *env, struct io_queue *q, uint64_t number, enum manifest_damage *damage_out,
			  struct err_info *err)
{
	char name[FILE_NAME_MAX], temp[FILE_NAME_MAX], current[FILE_NAME_MAX];
	struct io_file *f = NULL;
	uint64_t reserved;
	size_t size;
	int rc;

	file_name(name, FILE_MANIFEST, number);
	file_name(temp, FILE_TEMP, number);
	file_name(current, FILE_CURRENT, 0);
	size = strlen(name);
	name[size++] = '\n';
	rc = write_new(env, q, temp, name, size, RESERVE_CURRENT, &reserved, &f, damage_out, err);
	if (rc < 0) {
		io_unlink(env, temp);
		return rc;
	}
	io_close(f);
	KILL_POINT("current_temp_written");
	rc = io_rename(env, temp, current);
	KILL_POINT("current_renamed");
	if (rc < 0) {
		*damage_out = no_space(rc) ? MANIFEST_WHOLE : MANIFEST_UNKNOWN;
		if (no_space(rc))
			io_unlink(env, temp);
		return failed(err, rc, "replacing it", current, 0);
	}
	*damage_out = MANIFEST_UNKNOWN;
	rc = PLANT("current-sync-skipped") ? 0 : io_sync_dir(env);
	if (rc < 0)
		return failed(err, rc, "syncing the directory after it was replaced", current, 0);
	return 0;
}

int manifest_begin(struct version_set *vs, struct io_queue *q, uint64_t number, const struct slice *records,
		   unsigned count, enum manifest_damage *damage_out, struct err_info *err)
{
	char name[FILE_NAME_MAX];
	unsigned char *data = NULL;
	struct io_file *f = NULL;
	uint64_t end = 0, reserved = 0;
	int rc = frame(0, records, count, &data, &end);

	file_name(name, FILE_MANIFEST, number);
	*damage_out = MANIFEST_WHOLE;
	if (rc < 0)
		return failed(err, rc, "putting its first records together", name, 0);
	rc = write_new(vs->env, q, name, data, end, RESERVE, &reserved, &f, damage_out, err);
	free(data);
	KILL_POINT("manifest_begun");
	if (rc == 0) {
		rc = io_sync_dir(vs->env);
		*damage_out = MANIFEST_UNTRUSTED;
		if (rc < 0)
			failed(err, rc, "syncing the directory after it was written", name, 0);
	}
	if (rc == 0)
		rc = current_switch(vs->env, q, number, damage_out, err);
	if (rc < 0) {
		io_close(f);
		if (*damage_out != MANIFEST_UNKNOWN)
			io_unlink(vs->env, name);
		return rc;
	}
	io_close(vs->manifest);
	vs->manifest = f;
	vs->manifest_offset = vs->manifest_begin_bytes = end;
	vs->manifest_reserved = reserved;
	/* The old one is of no use any more. A failure is harmless: whoever sweeps the directory at the next open sees a stray. */
	if (vs->manifest_number && vs->manifest_number != number)
		io_unlink(vs->env, file_name(name, FILE_MANIFEST, vs->manifest_number));
	return 0;
}
