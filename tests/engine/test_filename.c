#include "engine/filename.h"
#include "tests/test.h"

/* Names are stock's to the letter: it deletes what it does not know as referenced, and we must see what it left. */
START_TEST(names_as_stock)
{
	static const struct {
		enum file_type type;
		uint64_t number;
		const char *name;
	} cases[] = {
		{FILE_LOG, 7, "000007.log"},
		{FILE_TABLE, 1234567, "1234567.ldb"},
		{FILE_SST, 0, "000000.sst"},
		{FILE_TEMP, 12, "000012.dbtmp"},
		{FILE_MANIFEST, 2, "MANIFEST-000002"},
		{FILE_LOG, UINT64_MAX, "18446744073709551615.log"},
		{FILE_MANIFEST, UINT64_MAX, "MANIFEST-18446744073709551615"},
		{FILE_CURRENT, 0, "CURRENT"},
		{FILE_LOCK, 0, "LOCK"},
		{FILE_INFO_LOG, 0, "LOG"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char buf[FILE_NAME_MAX];
		enum file_type type;
		uint64_t number;

		ck_assert_str_eq(file_name(buf, cases[i].type, cases[i].number), cases[i].name);
		ck_assert(file_parse(cases[i].name, &type, &number));
		ck_assert_int_eq(type, cases[i].type);
		ck_assert_uint_eq(number, cases[i].number);
	}
}
END_TEST

/* Other people's files are left alone: they must not parse. */
START_TEST(foreign_names_refused)
{
	static const char *const names[] = {
		"",
		"foo",
		"foo-dx-100.log",
		".log",
		"",
		"manifest",
		"CURREN",
		"CURREN",
		"MANIFES",
		"MANIFEST",
		"MANIFEST-",
		"XMANIFEST-3",
		"MANIFEST-3x",
		"LOC",
		"LOCKx",
		"LO",
		"LOGx",
		"18446744073709551616.log",
		"184467440737095516150.log",
		"100",
		"100.",
		"100.lop",
		"100.log.x",
		"-1.log",
		"+1.log",
		" 1.log",
		"SHALE",
		"MANIFEST-18446744073709551616",
	};
	enum file_type type;
	uint64_t number;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		ck_assert_msg(!file_parse(names[i], &type, &number), "%s", names[i]);
}
END_TEST

TEST_MAIN("filename", 10, names_as_stock, foreign_names_refused)
