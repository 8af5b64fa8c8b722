//! An allocator for tests: it ends any process that allocates after it was cloned from the one that began.
//!
//! A test program that starts containers with it proves that nothing is allocated between clone and exec: such a process
//! ends with [`CODE`] instead of becoming its program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, Ordering};

/// What a process ends with that should not have allocated.
pub const CODE: i32 = 99;

/// The process that has allocated first; 0 as long as none has. A cloned process has a copy of it.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// Use it as `#[global_allocator]`.
#[derive(Clone, Copy, Debug)]
pub struct ForkGuard;

impl ForkGuard {
    fn check() {
        // SAFETY: takes nothing, cannot fail.
        let own = unsafe { libc::getpid() };
        match FIRST.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {}
            Err(first) if first == own => {}
            Err(_) => {
                const SAID: &[u8] = b"allocated between clone and exec\n";
                // SAFETY: writes bytes that live for ever, and ends the process without running anything of it.
                unsafe {
                    libc::write(libc::STDERR_FILENO, SAID.as_ptr().cast(), SAID.len());
                    libc::_exit(CODE)
                }
            }
        }
    }
}

// SAFETY: what the system's allocator does, and nothing that allocates before it.
unsafe impl GlobalAlloc for ForkGuard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ForkGuard::check();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    /// Freed in a cloned process is what a step has dropped: that takes the same lock.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ForkGuard::check();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}
