#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

/* Unicode standard, table 3-7: the second byte has a narrower range after E0, ED, F0 and F4. */
size_t ma_utf8_sequence(const char *text, size_t left) {
  const uint8_t *s = (const uint8_t *)text;
  if (left == 0) return 0;
  if (s[0] < 0x80) return 1;
  size_t n = s[0] >= 0xC2 && s[0] <= 0xDF ? 2 : (s[0] & 0xF0) == 0xE0 ? 3 : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4 : 0;
  if (n == 0 || n > left) return 0;
  uint8_t low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
  uint8_t high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
  if (s[1] < low || s[1] > high) return 0;
  for (size_t i = 2; i < n; i++)
    if ((s[i] & 0xC0) != 0x80) return 0;
  return n;
}

size_t ma_utf8_bad_byte(const char *text, size_t length) {
  size_t at = 0;
  while (at < length) {
    uint64_t eight;
    if (length - at >= sizeof eight) {
      memcpy(&eight, text + at, sizeof eight);
      if (!(eight & 0x8080808080808080u)) { /* ASCII, eight at a time */
        at += sizeof eight;
        continue;
      }
    }
    size_t n = ma_utf8_sequence(text + at, length - at);
    if (n == 0) return at;
    at += n;
  }
  return length;
}
