/* Linked into the release binary instead of functions that would bring far more than podkeep needs
   (docs/adr/018-what-is-not-linked.md). Whatever has a definition here, the linker no longer looks for in the C library. */

#define _GNU_SOURCE
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Instead of all that reads numbers and text in any locale (95 kB). One function calls it: pthread_getattr_np, by which Rust's
   start finds the main thread's stack in /proc/self/maps. */
int sscanf(const char *restrict line, const char *restrict format, ...)
{
  if (strcmp(format, "%lx-%lx") != 0)
    abort();
  va_list out;
  va_start(out, format);
  uintptr_t *from = va_arg(out, uintptr_t *), *to = va_arg(out, uintptr_t *);
  va_end(out);

  char *end;
  *from = strtoul(line, &end, 16);
  if (*end != '-')
    return 1;
  *to = strtoul(end + 1, NULL, 16);
  return 2;
}

/* Instead of what translates error texts (23 kB). Who never calls setlocale gets them as they are. */
char *__dcgettext(const char *domain, const char *text, int category)
{
  (void)domain, (void)category;
  return (char *)text;
}

/* Instead of the walk over the stack frames: there are no unwind tables to walk by (no-unwinding.ld, which puts this in the
   place of libgcc's _Unwind_Backtrace). 5 is _URC_END_OF_STACK. */
int no_frames(void)
{
  return 5;
}

/* Its instructions take the place of functions that shall do nothing (linker). */
void does_nothing(void)
{
}
