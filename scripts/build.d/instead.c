/* Linked into the release binary instead of functions that would bring far more than podkeep needs
   (docs/adr/018-what-is-not-linked.md). Whatever has a definition here, the linker no longer looks for in the C library. */

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
