/* The one error idiom of the C core: a function that can fail returns `ma_status` (0 is good) and
 * fills the caller's `ma_error` with one line that says what is wrong, where, and what to do.
 * No errno, no global handler, no abort: main.c is the only place that prints or exits. */
#ifndef MASSACT_BASE_STATUS_H
#define MASSACT_BASE_STATUS_H

#if defined(__GNUC__)
#define MA_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define MA_PRINTF(format_index, first)
#endif

typedef enum ma_status {
  MA_OK = 0,
  MA_NO_MEMORY,    /* an allocation failed */
  MA_BAD_ARGUMENT, /* the caller asked for something that makes no sense (shape, dtype, index) */
  MA_BAD_FILE,     /* a file says something that cannot be true */
  MA_IO,           /* the operating system refused: missing file, full disk, no permission */
  MA_UNSUPPORTED,  /* valid, but this build, backend or family does not have it */
  MA_INTERRUPTED,  /* the user asked to stop (Ctrl-C) */
  MA_CALLBACK      /* a visitor failed; whoever called it keeps the error itself */
} ma_status;

enum { MA_MESSAGE_BYTES = 512 };

typedef struct ma_error {
  ma_status code;
  char message[MA_MESSAGE_BYTES];
} ma_error;

/* Fills `err` (may be NULL) and returns `code`, so that a failure is one statement:
 * `return ma_fail(err, MA_BAD_FILE, "%s: ...", path);`.  Too long a message ends in "..."; control
 * characters become '?'. */
ma_status ma_fail(ma_error *err, ma_status code, const char *format, ...) MA_PRINTF(3, 4);

/* Prepends "prefix: " to the message in `err` and returns its code: adds the place while unwinding. */
ma_status ma_fail_at(ma_error *err, const char *format, ...) MA_PRINTF(2, 3);

/* Inside a function with `ma_status st = MA_OK;` and one cleanup label `done`. */
#define MA_TRY(call)            \
  do {                          \
    st = (call);                \
    if (st != MA_OK) goto done; \
  } while (0)

#endif
