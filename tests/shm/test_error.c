#include "shm/error.h"
#include "client/shale.h" /* repeats the codes: the compiler compares them here */

#include <limits.h>
#include <string.h>

#include "tests/test.h"

static const int own_codes[] = {
	SHALE_NOTFOUND, -SHALE_ECORRUPT,    -SHALE_EUNKNOWN,  -SHALE_EABI,	  -SHALE_EOUSTED,
	-SHALE_EFAILED, -SHALE_ECOMPARATOR, -SHALE_ENOTSHALE, -SHALE_EFORKED,	  -SHALE_ELOCKED,
	-SHALE_ECONFIG, -SHALE_EMISSING,    -SHALE_ESESSION,  -SHALE_ENODATABASE,
};

/* Every code of our own has a name and words that no other has, so that a log line can be traced to one cause. */
START_TEST(own_codes_have_words)
{
	const size_t n = sizeof(own_codes) / sizeof(own_codes[0]);

	for (size_t i = 0; i < n; i++) {
		ck_assert_msg(strncmp(error_name(own_codes[i]), "SHALE_", 6) == 0, "%d has no name", own_codes[i]);
		for (size_t j = 0; j < i; j++) {
			ck_assert_str_ne(error_name(own_codes[i]), error_name(own_codes[j]));
			ck_assert_str_ne(shale_strerror(own_codes[i]), shale_strerror(own_codes[j]));
		}
	}
	ck_assert_int_eq(n, SHALE_ENODATABASE - SHALE_ECORRUPT + 2); /* the list above is whole */
}
END_TEST

/* errnos keep the system's names; codes that nobody knows still get a text, never NULL. */
START_TEST(any_code_has_words)
{
	static const int odd[] = {0, 2, 77777, -77777, -5000, -5999, INT_MIN, INT_MAX};

	ck_assert_str_eq(error_name(-ENOENT), "ENOENT");
	ck_assert_str_eq(shale_strerror(-ENOENT), "No such file or directory");
	ck_assert_str_eq(error_name(-EPIPE), "EPIPE");
	ck_assert_ptr_nonnull(strstr(shale_strerror(-EPIPE), "daemon"));
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		ck_assert_ptr_nonnull(shale_strerror(odd[i]));
		ck_assert_ptr_nonnull(error_name(odd[i]));
	}
}
END_TEST

/* err_set returns its code, takes NULL, and cuts words that do not fit instead of writing past the buffer. */
START_TEST(err_set_formats_and_cuts)
{
	struct err_info err;
	char big[2000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	ck_assert_int_eq(err_set(NULL, -EIO, "nobody listens"), -EIO);
	ck_assert_int_eq(err_set(&err, -EIO, "%s: offset %d", "000005.log", 7), -EIO);
	ck_assert_int_eq(err.code, -EIO);
	ck_assert_str_eq(err.text, "000005.log: offset 7");
	err_set(&err, -EIO, "%s", big);
	ck_assert_uint_eq(strlen(err.text), sizeof(err.text) - 1);
}
END_TEST

/* A prefix goes before what is there, keeps the code, and cuts at the end. */
START_TEST(err_prefix_puts_words_before)
{
	struct err_info err;
	char big[2000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_prefix(NULL, "nobody listens");
	err_set(&err, -ENOENT, "CURRENT is missing");
	err_prefix(&err, "opening %s: ", "/db");
	ck_assert_str_eq(err.text, "opening /db: CURRENT is missing");
	ck_assert_int_eq(err.code, -ENOENT);
	err_prefix(&err, "%s", big);
	ck_assert_uint_eq(strlen(err.text), sizeof(err.text) - 1);
}
END_TEST

TEST_MAIN("error", 10, own_codes_have_words, any_code_has_words, err_set_formats_and_cuts, err_prefix_puts_words_before)
