#include "engine/crc32c.h"
#include "tests/test.h"

/* The vectors of RFC 3720, B.4: files of stock LevelDB carry this CRC and no other. */
START_TEST(standard_vectors)
{
	unsigned char buf[32];

	memset(buf, 0, sizeof(buf));
	ck_assert_uint_eq(crc32c(buf, sizeof(buf)), 0x8a9136aa);
	memset(buf, 0xff, sizeof(buf));
	ck_assert_uint_eq(crc32c(buf, sizeof(buf)), 0x62a8ab43);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (unsigned char)i;
	ck_assert_uint_eq(crc32c(buf, sizeof(buf)), 0x46dd794e);
	ck_assert_uint_eq(crc32c("123456789", 9), 0xe3069283);
	ck_assert_uint_eq(crc32c(NULL, 0), 0);
}
END_TEST

/* A CRC may be built in pieces, at any cut and any alignment: records are framed so. */
START_TEST(extend_equals_whole)
{
	const char text[] = "  the quick brown fox jumps over the lazy dog, and over the next one as well";

	for (size_t start = 0; start < 3; start++) {
		for (size_t cut = start; cut <= sizeof(text); cut++) {
			uint32_t head = crc32c(text + start, cut - start);

			ck_assert_uint_eq(crc32c_extend(head, text + cut, sizeof(text) - cut),
					  crc32c(text + start, sizeof(text) - start));
		}
	}
}
END_TEST

/* A stored CRC differs from the CRC, and comes back: else a CRC over stored CRCs would be weak. */
START_TEST(mask_round_trip)
{
	uint32_t crc = crc32c("foo", 3);

	ck_assert_uint_ne(crc32c_mask(crc), crc);
	ck_assert_uint_ne(crc32c_mask(crc32c_mask(crc)), crc);
	ck_assert_uint_eq(crc32c_unmask(crc32c_mask(crc)), crc);
	ck_assert_uint_eq(crc32c_mask(0), 0xa282ead8);
}
END_TEST

TEST_MAIN("crc32c", 10, standard_vectors, extend_equals_whole, mask_round_trip)
