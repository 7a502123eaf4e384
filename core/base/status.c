#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Ends a message that did not fit with "...", not in the middle of a UTF-8 sequence. */
static void end_with_dots(char *message) {
  size_t at = MA_MESSAGE_BYTES - 4;
  while (at > 0 && ((unsigned char)message[at] & 0xC0) == 0x80) at--;
  memcpy(message + at, "...", 4);
}

/* What a message quotes may come from a file: it stays one line, and a terminal gets no commands. */
static void make_printable(char *message) {
  for (; *message; message++)
    if ((unsigned char)*message < ' ' || *message == 0x7F) *message = '?';
}

static void format_into(char *message, const char *format, va_list args) {
  int length = vsnprintf(message, MA_MESSAGE_BYTES, format, args);
  if (length >= MA_MESSAGE_BYTES) end_with_dots(message);
  make_printable(message);
}

ma_status ma_fail(ma_error *err, ma_status code, const char *format, ...) {
  if (!err) return code;
  va_list args;
  va_start(args, format);
  err->code = code;
  format_into(err->message, format, args);
  va_end(args);
  return code;
}

ma_status ma_fail_at(ma_error *err, const char *format, ...) {
  char old[MA_MESSAGE_BYTES], prefix[MA_MESSAGE_BYTES];
  if (!err) return MA_BAD_ARGUMENT;
  va_list args;
  va_start(args, format);
  format_into(prefix, format, args);
  va_end(args);
  memcpy(old, err->message, sizeof old);
  return ma_fail(err, err->code, "%s: %s", prefix, old);
}
