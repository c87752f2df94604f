/* log_exam.h - write-ahead logs: whether a record is the batch that must come next, and how far a log can be believed. */
#ifndef SHALE_ENGINE_LOG_EXAM_H
#define SHALE_ENGINE_LOG_EXAM_H

#include "engine/exam.h"
#include "shm/batch.h"

enum verdict_of_record { RECORD_GOOD, RECORD_BAD, RECORD_GAP };

/*
 * @known: the MANIFEST's last sequence; @last: of the records before, 0: this is the first. RECORD_GAP: sequences before the first record of a
 * log are missing, as after a power failure that took the end of the log before it. *@why_out: words for what is not good.
 */
enum verdict_of_record record_judge(uint64_t known, uint64_t last, struct slice record, bool first_of_log,
				    struct batch_info *info, const char **why_out);

struct log_exam {
	uint64_t size, whole; /* bytes of the file; of them, whole records that follow on one another */
	uint64_t records;
	uint64_t first, last; /* sequences; 0: none */
	enum verdict_of_record end; /* what stopped it; RECORD_GOOD: its end, clean or torn */
};

/* Reads log @name from its start, reports what is wrong. *@last_io: as record_judge's @last, carried from log to log. 0, or a failure with words. */
int log_examine(struct exam *x, const char *name, uint64_t known, uint64_t *last_io, struct log_exam *out, struct err_info *err);

#endif
