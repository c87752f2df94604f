#include <stdlib.h>

#include "tools/shalectl/shalectl.h"

/* Length of the UTF-8 sequence at @p, or 0 when there is none. Overlong forms and surrogates do not count. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	size_t n = *p < 0x80		     ? 1
		   : *p >= 0xc2 && *p < 0xe0 ? 2
		   : (*p & 0xf0) == 0xe0     ? 3
		   : *p >= 0xf0 && *p < 0xf5 ? 4
					     : 0;

	if (n == 0 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
	    (*p == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

void print_escaped(FILE *out, struct slice bytes)
{
	for (size_t i = 0; i < bytes.size;) {
		const unsigned char *p = bytes.data + i;
		size_t n = utf8_length(p, bytes.size - i);

		if (*p == '\t' || *p == '\n' || *p == '\\')
			fprintf(out, "\\%c", *p == '\t' ? 't' : *p == '\n' ? 'n' : '\\');
		else if (n == 0 || *p < 0x20 || *p == 0x7f || (n == 2 && *p == 0xc2 && p[1] < 0xa0))
			for (size_t k = 0; k < (n ? n : 1); k++)
				fprintf(out, "\\x%02x", p[k]);
		else
			fwrite(p, 1, n, out);
		i += n ? n : 1;
	}
}

static char *base64(struct slice in)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = malloc((in.size + 2) / 3 * 4 + 1), *p = text;

	if (!text)
		return NULL;
	for (size_t i = 0; i < in.size; i += 3) {
		unsigned left = in.size - i < 3 ? (unsigned)(in.size - i) : 3;
		unsigned v = (unsigned)in.data[i] << 16;

		v |= left > 1 ? (unsigned)in.data[i + 1] << 8 : 0;
		v |= left > 2 ? (unsigned)in.data[i + 2] : 0;
		*p++ = digits[v >> 18];
		*p++ = digits[v >> 12 & 63];
		*p++ = left > 1 ? digits[v >> 6 & 63] : '=';
		*p++ = left > 2 ? digits[v & 63] : '=';
	}
	*p = 0;
	return text;
}

void json_set_bytes(json_t *obj, const char *name, struct slice bytes)
{
	json_t *value = json_stringn(bytes.size ? (const char *)bytes.data : "", bytes.size);
	char name64[64], *text;

	if (value) {
		json_object_set_new(obj, name, value);
		return;
	}
	text = base64(bytes);
	snprintf(name64, sizeof(name64), "%s_base64", name);
	json_object_set_new(obj, name64, text ? json_string(text) : json_null());
	free(text);
}

void print_json(json_t *value)
{
	json_dumpf(value, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(value);
}

const char *size_text(uint64_t bytes, char buf[32])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1024 && u + 1 < ARRAY_SIZE(units))
		v /= 1024, u++;
	snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
	return buf;
}

/* Damerau-free edit distance, words of at most 31 bytes. */
static unsigned edit_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[32];

	if (la > 31 || lb > 31)
		return 99;
	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[lb];
}

const char *did_you_mean(const char *word, const char *const *names)
{
	const char *best = NULL;
	unsigned best_distance = 3;

	for (; *names; names++) {
		unsigned d = edit_distance(word, *names);

		if (d < best_distance && d < strlen(*names))
			best = *names, best_distance = d;
	}
	return best;
}
