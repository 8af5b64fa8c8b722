//! Cloning from a large process as cheaply as from a small one: the child shares the memory until it executes (as with
//! vfork), and never has more descriptors than it needs.
//!
//! A child made the usual way copies the page tables and descriptors of its parent, and takes both down again before exec.
//! The worker's grow with its Pods: at a thousand of them, that was more than all that the container's own set-up costs.
//!
//! A thread that makes such a child is suspended until the child has executed its program or ended, so it is not the loop's.
//! Threads here have a table of descriptors of their own, empty but for the standard streams; those of a job are fetched
//! under the numbers that its steps know them by. The child copies that table, which is small.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::io::{DupFlags, Errno};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::process::{
    DumpableBehavior, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open, set_dumpable_behavior,
};

use super::child::{self, Birthright};
use super::clone::{self, Birth, arguments};
use super::report::{ChildEnd, Said};
use super::step::Step;

/// Threads that wait for the next job. There are more only while more children are on their way to exec.
const IDLE_THREADS: usize = 1;
/// Bytes of a child's stack, of which few pages are ever touched, and below it one that none may touch.
const STACK: usize = 256 << 10;
const GUARD: usize = 4096;

/// What holds the steps of a child, and keeps them as they are while somebody has it.
pub trait Steps: Send + Sync {
    fn steps(&self) -> &[Step];
    /// How many descriptors are open between two steps.
    fn slots(&self) -> usize;
}

/// Threads that clone children for others. Cheap to clone.
#[derive(Clone, Default)]
pub struct Spawner {
    idle: Arc<Mutex<Vec<SyncSender<Job>>>>,
    /// What jobs were given. It owns descriptors of the process's table, which a thread with another one cannot close.
    returned: Arc<Mutex<Vec<Arc<dyn Steps>>>>,
}

/// One child to be made, in the numbers of the process's own table.
struct Job {
    steps: Arc<dyn Steps>,
    namespaces: u64,
    cgroup: RawFd,
    report: ChildEnd,
    pid_out: PidPlace,
    /// Told once the descriptors have been fetched, before the clone.
    fetched: SyncSender<io::Result<()>>,
}

/// Where the kernel stores the PID.
struct PidPlace(*const AtomicU32);

// SAFETY: an atomic that outlives the job: `Spawner::spawn` is given it for as long as the process lives.
unsafe impl Send for PidPlace {}

impl Spawner {
    /// Clones a child of the caller's parent that takes the steps, as [`clone::spawn`] does. Returns once the descriptors
    /// of the steps, `cgroup` and `theirs` are not needed any more; the child's first word is [`Said::Born`] then, or
    /// [`Said::NotBorn`].
    ///
    /// # Errors
    /// When there can be no thread, or descriptors cannot be fetched.
    pub fn spawn(
        &self,
        steps: Arc<dyn Steps>,
        namespaces: u64,
        cgroup: BorrowedFd<'_>,
        report: ChildEnd,
        pid_out: &'static AtomicU32,
    ) -> io::Result<()> {
        self.collect();
        let (fetched, answer) = sync_channel(1);
        let cgroup = cgroup.as_raw_fd();
        self.give(Job { steps, namespaces, cgroup, report, pid_out: PidPlace(pid_out), fetched })?;
        answer.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Lets go of the steps of children that have executed or ended. Called by every [`Spawner::spawn`]; whoever wants
    /// their descriptors closed before the next one calls it too.
    pub fn collect(&self) {
        let returned = std::mem::take(&mut *locked(&self.returned));
        drop(returned);
    }

    fn give(&self, mut job: Job) -> io::Result<()> {
        loop {
            let idle = locked(&self.idle).pop();
            let Some(idle) = idle else { break };
            match idle.send(job) {
                Ok(()) => return Ok(()),
                Err(back) => job = back.0,
            }
        }
        let (sender, jobs) = sync_channel(1);
        let spawner = self.clone();
        let thread = std::thread::Builder::new().name("podkeep-clone".to_owned());
        thread.spawn(move || spawner.work(job, &sender, &jobs)).map(drop)
    }

    fn give_back(&self, steps: Arc<dyn Steps>) {
        locked(&self.returned).push(steps);
    }

    /// One thread's life.
    fn work(&self, first: Job, sender: &SyncSender<Job>, jobs: &Receiver<Job>) {
        let stack = match leave_table().and_then(|()| Stack::new()) {
            Ok(stack) => stack,
            Err(error) => {
                let fetched = first.fetched.clone();
                self.give_back(first.steps);
                // Who gave the job waits for this.
                let _ = fetched.send(Err(error));
                return;
            }
        };
        let mut job = first;
        loop {
            make(&job, &stack);
            self.give_back(job.steps);
            // After that, since whoever hears the end of the child's report collects. It cannot fail for valid numbers, and
            // nothing of the next job's may be in the way.
            let _ = close_from_3(0);
            let mut idle = locked(&self.idle);
            if idle.len() >= IDLE_THREADS {
                return;
            }
            idle.push(sender.clone());
            drop(idle);
            job = match jobs.recv() {
                Ok(next) => next,
                Err(_) => return,
            };
        }
    }
}

/// Both lists are whole at every moment at which a thread could panic, so a poisoned lock is as good as another.
fn locked<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives this thread a table of descriptors of its own, with the standard streams and nothing else; and no signals: a
/// child inherits the mask, and resets its handlers before it lifts it.
fn leave_table() -> io::Result<()> {
    SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // The kernel copies nothing of what would be closed at once.
    close_from_3(libc::CLOSE_RANGE_UNSHARE)?;
    Ok(())
}

fn close_from_3(flags: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: in a table of this thread's own, whose numbers above the standard streams nobody owns.
    child::check(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) }).map(drop)
}

/// Makes one child, and comes back when it has executed its program or ended.
fn make(job: &Job, stack: &Stack) {
    let fetched = fetch(job);
    let failed = fetched.is_err();
    // Who gave the job waits for this.
    let _ = job.fetched.send(fetched);
    if !failed && let Err(errno) = clone_and_wait(job, stack) {
        job.report.say(Said::NotBorn { errno: errno.raw_os_error() });
    }
}

/// Copies the job's descriptors from the process's table into this thread's, under the same numbers.
fn fetch(job: &Job) -> io::Result<()> {
    let mut numbers = vec![job.cgroup, job.report.number()];
    numbers.extend(job.steps.steps().iter().filter_map(Step::descriptor));
    let highest = numbers.iter().copied().max().unwrap_or(0);
    // Out of the way of all of them, and its first number given up.
    let process = rustix::io::fcntl_dupfd_cloexec(pidfd_open(getpid(), PidfdFlags::empty())?, highest + 1)?;
    for number in numbers {
        let copy = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?;
        if copy.as_raw_fd() == number {
            // It stays until `close_from_3`.
            let _ = copy.into_raw_fd();
            continue;
        }
        // SAFETY: free, since each number is placed once; it stays open until `close_from_3`, without an owner.
        let mut place = unsafe { OwnedFd::from_raw_fd(number) };
        let placed = rustix::io::dup3(&copy, &mut place, DupFlags::CLOEXEC);
        let _ = place.into_raw_fd();
        placed?;
    }
    Ok(())
}

/// What the child finds at its birth, on the stack of the thread that waits for it.
struct Cradle<'a> {
    steps: &'a [Step],
    slots: &'a mut [Option<OwnedFd>],
    report: ChildEnd,
    pid_out: &'a AtomicU32,
}

fn clone_and_wait(job: &Job, stack: &Stack) -> Result<(), Errno> {
    let mut slots: Vec<Option<OwnedFd>> = std::iter::repeat_with(|| None).take(job.steps.slots()).collect();
    // SAFETY: `Spawner::spawn` was given a reference that never ends.
    let pid_out = unsafe { &*job.pid_out.0 };
    let steps = job.steps.steps();
    let birth = Birth { cgroup: None, namespaces: job.namespaces, sibling: true, pid_out: Some(pid_out) };
    let mut cradle = Cradle { steps, slots: &mut slots, report: job.report, pid_out };
    let mut arguments = arguments(birth, steps);
    arguments.flags |= clone::CLONE_INTO_CGROUP | (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    arguments.cgroup = job.cgroup as u64;
    arguments.stack = stack.lowest() as u64;
    arguments.stack_size = STACK as u64;
    // SAFETY: the stack is this thread's to lend and nobody else uses it; the thread is suspended until the child has memory
    // of its own or none, so that all that `cradle` leads to stays as it is; `begin` never returns.
    let made = unsafe { clone::clone3_sharing(&arguments, begin, (&raw mut cradle).cast::<c_void>()) };
    // What the child has left in them are numbers of its table, not of this one.
    for fd in slots.into_iter().flatten() {
        let _ = fd.into_raw_fd();
    }
    // A child that became another user has made the memory it shared as dumpable as `fs.suid_dumpable` says.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    made.map(drop)
}

/// The child's first function.
extern "C" fn begin(cradle: *mut c_void) -> ! {
    // SAFETY: `clone_and_wait` gave it, and waits.
    let cradle = unsafe { &mut *cradle.cast::<Cradle<'_>>() };
    cradle.report.announce();
    let pid_out = Some(cradle.pid_out);
    child::run(cradle.steps, Birthright { slots: cradle.slots, report: cradle.report, pid_out })
}

/// Memory for a child to run on, one after the other.
struct Stack(NonNull<u8>);

impl Stack {
    fn new() -> io::Result<Stack> {
        let flags = MapFlags::PRIVATE | MapFlags::STACK | MapFlags::NORESERVE;
        // SAFETY: a null hint lets the kernel choose free addresses.
        let address = unsafe {
            mmap_anonymous(std::ptr::null_mut(), GUARD + STACK, ProtFlags::READ | ProtFlags::WRITE, flags)
        }?;
        let stack = Stack(NonNull::new(address.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?);
        // SAFETY: the lowest page of what was mapped just now: running over ends the child instead of changing other memory.
        unsafe { mprotect(address, GUARD, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    fn lowest(&self) -> usize {
        self.0.as_ptr() as usize + GUARD
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped; no child is on it, since its thread has come back. Unmapping a whole mapping cannot fail.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), GUARD + STACK) };
    }
}
