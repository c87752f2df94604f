#include "tests/engine/stock.h"

#include <string.h>

#include "tests/test.h"

void stock_must(char *error, const char *what)
{
	ck_assert_msg(!error, "stock LevelDB, %s: %s", what, error);
}

void stock_open(struct stock *s, const char *dir, bool create, bool snappy, int bloom_bits)
{
	char *error = NULL;

	memset(s, 0, sizeof(*s));
	s->options = leveldb_options_create();
	leveldb_options_set_paranoid_checks(s->options, 1);
	leveldb_options_set_create_if_missing(s->options, create);
	leveldb_options_set_error_if_exists(s->options, 0);
	leveldb_options_set_write_buffer_size(s->options, 1 << 20);
	leveldb_options_set_max_file_size(s->options, 1 << 20);
	leveldb_options_set_block_size(s->options, 1024);
	leveldb_options_set_compression(s->options, snappy ? leveldb_snappy_compression : leveldb_no_compression);
	if (bloom_bits) {
		s->filter = leveldb_filterpolicy_create_bloom(bloom_bits);
		leveldb_options_set_filter_policy(s->options, s->filter);
	}
	s->read = leveldb_readoptions_create();
	leveldb_readoptions_set_verify_checksums(s->read, 1);
	s->write = leveldb_writeoptions_create();
	s->db = leveldb_open(s->options, dir, &error);
	stock_must(error, "open");
}

void stock_close(struct stock *s)
{
	leveldb_close(s->db);
	leveldb_options_destroy(s->options);
	leveldb_readoptions_destroy(s->read);
	leveldb_writeoptions_destroy(s->write);
	if (s->filter)
		leveldb_filterpolicy_destroy(s->filter);
}
