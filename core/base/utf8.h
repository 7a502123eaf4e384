/* UTF-8, checked: overlong forms, surrogates and what lies above U+10FFFF are not UTF-8. */
#ifndef MASSACT_BASE_UTF8_H
#define MASSACT_BASE_UTF8_H

#include <stddef.h>

/* Offset of the first byte that cannot be, or `length` where all is well. */
size_t ma_utf8_bad_byte(const char *text, size_t length);
/* Bytes of the valid sequence at text (1 to 4), 0 where there is none. */
size_t ma_utf8_sequence(const char *text, size_t left);

#endif
