//! Cloning from a large process as cheaply as from a small one: the child shares the memory until it executes (as with
//! vfork), and never has more descriptors than it needs.
//!
//! A child made the usual way copies the page tables and descriptors of its parent, and takes both down again before exec.
//! The worker's grow with its Pods: at a thousand of them, that was more than all that the container's own set-up costs.
//!
//! A thread that makes such a child is suspended until the child has executed its program or ended, so it is not the loop's.
//! Threads here have a table of descriptors of their own, empty but for the standard streams; those of a job are fetched
//! under the numbers that its steps know them by. The child copies that table, which is small.
//!
//! ```text
//! thread ──▶ midwife                    joins namespaces, in the worker's cgroup; ends when the child has executed or ended
//!               └──▶ child              in its own cgroup, takes the steps; then the child of the next subreaper (the keeper)
//! ```
//!
//! All three share their memory. The kernel's OOM killer ends every process that shares its victim's memory, so the child must
//! never be one. It is none for as long as it is in vfork and **its parent has the same memory** (`in_vfork` of linux/sched/mm.h,
//! since 4.9), which the keeper has not: hence the midwife, by whose end the kernel gives the child to the keeper. What the child
//! may not take for want of memory fails with ENOMEM instead.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::io::{DupFlags, Errno};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use rustix::param::page_size;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitOptions, getpid, getppid, pidfd_getfd,
    pidfd_open, set_dumpable_behavior, set_parent_process_death_signal, waitpid,
};

use super::child::{self, Birthright};
use super::clone::{self, Birth, arguments};
use super::report::{ChildEnd, Said};
use super::step::Step;

/// Threads that wait for the next job. There are more only while more children are on their way to exec.
const IDLE_THREADS: usize = 1;
/// Bytes of a stack, of which few pages are ever touched, and below it one that none may touch.
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

/// Where the kernel stores PIDs before anything of the processes runs; 0 as long as there is none.
#[derive(Clone, Copy)]
pub struct Places {
    pub child: &'static AtomicU32,
    /// The only process that may yet make the child when the caller is gone; it is killed with the caller.
    pub midwife: &'static AtomicU32,
}

/// One child to be made, in the numbers of the process's own table.
struct Job {
    steps: Arc<dyn Steps>,
    namespaces: u64,
    cgroup: RawFd,
    report: ChildEnd,
    places: Places,
    /// Told once the descriptors have been fetched, before the clone.
    fetched: SyncSender<io::Result<()>>,
}

impl Spawner {
    /// Clones a child that takes the steps. Returns once the descriptors of the steps, `cgroup` and `theirs` are not needed any
    /// more, and waits for nothing that runs in `cgroup`. The report's first word is [`Said::Born`], or [`Said::NotBorn`] or a
    /// step that has failed if there never was a child.
    ///
    /// Until it has executed, its parent is a process of ours that nobody need know of; then the nearest subreaper above the
    /// caller's process is (prctl(2)). Where the steps have a [`Step::Fork`], those before it are taken outside of `cgroup`, and
    /// the child is the process that takes the others.
    ///
    /// # Errors
    /// When there can be no thread, or descriptors cannot be fetched.
    pub fn spawn(
        &self,
        steps: Arc<dyn Steps>,
        namespaces: u64,
        cgroup: BorrowedFd<'_>,
        report: ChildEnd,
        places: Places,
    ) -> io::Result<()> {
        self.collect();
        let (fetched, answer) = sync_channel(1);
        let cgroup = cgroup.as_raw_fd();
        self.give(Job { steps, namespaces, cgroup, report, places, fetched })?;
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
        let stacks = match leave_table().and_then(|()| Ok([Stack::new()?, Stack::new()?])) {
            Ok(stacks) => stacks,
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
            make(&job, &stacks);
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
fn make(job: &Job, stacks: &[Stack; 2]) {
    let fetched = fetch(job);
    let failed = fetched.is_err();
    // Who gave the job waits for this.
    let _ = job.fetched.send(fetched);
    if !failed && let Err(errno) = clone_and_wait(job, stacks) {
        say(job, Said::NotBorn { errno: errno.raw_os_error() });
    }
}

/// What cannot be said now is never said: the report ends without a word then.
fn say(job: &Job, said: Said) {
    let _ = job.report.say(said);
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

/// What midwife and child find, on the stack of the thread that waits for both.
struct Cradle<'a> {
    steps: &'a [Step],
    /// What the midwife does itself: the steps before a [`Step::Fork`].
    ahead: &'a [Step],
    /// The index of the child's first step.
    first: usize,
    slots: &'a mut [Option<OwnedFd>],
    report: ChildEnd,
    /// What they could not say because their cgroup has no memory for it: the thread says it.
    unsaid: Option<Said>,
    /// The process that all of this is memory of.
    worker: Pid,
    /// How the child is cloned.
    birth: libc::clone_args,
}

impl Cradle<'_> {
    fn birthright(&mut self) -> Birthright<'_> {
        Birthright { slots: self.slots, report: self.report, pid_out: None, unsaid: &mut self.unsaid }
    }
}

fn clone_and_wait(job: &Job, [stack, childs_stack]: &[Stack; 2]) -> Result<(), Errno> {
    let mut slots: Vec<Option<OwnedFd>> = std::iter::repeat_with(|| None).take(job.steps.slots()).collect();
    let steps = job.steps.steps();
    let fork = steps.iter().enumerate().find_map(|(index, step)| match step {
        Step::Fork { namespaces } => Some((index, *namespaces)),
        _ => None,
    });
    let (ahead, first, namespaces) = match fork {
        None => (&steps[..0], 0, job.namespaces),
        Some((index, namespaces)) => (&steps[..index], index + 1, namespaces),
    };
    let mut birth = sharing(job.places.child, namespaces, childs_stack);
    birth.flags |= clone::CLONE_INTO_CGROUP;
    birth.cgroup = job.cgroup as u64;
    let (report, worker, slots_of_both) = (job.report, getpid(), &mut slots[..]);
    let mut cradle =
        Cradle { steps, ahead, first, slots: slots_of_both, report, unsaid: None, worker, birth };
    let arguments = sharing(job.places.midwife, 0, stack);
    // SAFETY: both stacks are this thread's to lend and nobody else uses them; the thread is suspended until the midwife has
    // ended, and that until the child has memory of its own or none, so that all that `cradle` leads to stays as it is
    // (`wait_for` sees to it where somebody has killed the midwife); `deliver` never returns.
    let midwife = unsafe { clone::clone3_sharing(&arguments, deliver, (&raw mut cradle).cast::<c_void>()) };
    // Before the keeper can have told of the child's end.
    if let Some(said) = cradle.unsaid {
        say(job, said);
    }
    if let Ok(midwife) = midwife {
        wait_for(midwife);
    }
    // What has been left in them are numbers of other tables, not of this one.
    for fd in slots.into_iter().flatten() {
        let _ = fd.into_raw_fd();
    }
    // A child that became another user has made the memory it shared as dumpable as `fs.suid_dumpable` says.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    midwife.map(drop)
}

/// The arguments of a clone that shares its memory with the caller, which is suspended meanwhile.
fn sharing(pid_out: &AtomicU32, namespaces: u64, stack: &Stack) -> libc::clone_args {
    let birth = Birth { cgroup: None, namespaces, sibling: false, pid_out: Some(pid_out) };
    let mut arguments = arguments(birth, &[]);
    arguments.flags |= (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    arguments.stack = stack.lowest() as u64;
    arguments.stack_size = STACK as u64;
    arguments
}

/// Reaps the midwife. If somebody has killed it, the child may still be reading what this thread holds: then the thread holds it
/// for as long as the process lives.
fn wait_for(midwife: u32) {
    let status = waitpid(Pid::from_raw(midwife as i32), WaitOptions::empty());
    if !matches!(status, Ok(Some((_, status))) if status.exited()) {
        loop {
            std::thread::park();
        }
    }
}

/// The midwife's life.
extern "C" fn deliver(cradle: *mut c_void) -> ! {
    // SAFETY: `clone_and_wait` gave it, and waits; the child is given it when this one does not use it any more.
    let own = unsafe { &mut *cradle.cast::<Cradle<'_>>() };
    let (ahead, worker, birth) = (own.ahead, own.worker, own.birth);
    // Once before steps that may hang, and once after them, which may have undone it (a new user does).
    if ends_with(worker) && child::take_all(ahead, 0, own.birthright()) && ends_with(worker) {
        // SAFETY: as in `clone_and_wait`; this process is suspended until the child has memory of its own or none.
        let made = unsafe { clone::clone3_sharing(&birth, begin, cradle) };
        if let Err(errno) = made {
            // SAFETY: as above; there is no child.
            unsafe { &mut *cradle.cast::<Cradle<'_>>() }.unsaid =
                Some(Said::NotBorn { errno: errno.raw_os_error() });
        }
    }
    child::exit(0)
}

/// Has this process killed when `parent` ends, and says whether that is still there: the successor of a worker that was killed
/// must be able to rely on it that a child which it does not find will not come later.
fn ends_with(parent: Pid) -> bool {
    set_parent_process_death_signal(Some(Signal::KILL)).is_ok() && getppid() == Some(parent)
}

/// The child's first function.
extern "C" fn begin(cradle: *mut c_void) -> ! {
    // SAFETY: `clone_and_wait` gave it, and waits; the midwife is suspended.
    let cradle = unsafe { &mut *cradle.cast::<Cradle<'_>>() };
    match cradle.report.announce() {
        // The worker was killed meanwhile. Its successor finds the process by the PID that the clone has stored.
        Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
        Err(errno) => {
            cradle.unsaid = Some(Said::NotBorn { errno: errno.raw_os_error() });
            child::exit(127);
        }
    }
    child::run(cradle.steps, cradle.first, cradle.birthright())
}

/// Makes what the kernel needs beside the pages of a stack and of our own file.
///
/// A page of shared memory is counted as the worker's, whoever touches it first, but a page table and an `anon_vma` as that of the
/// one who does; and a child that gets none for want of memory would try the same access for ever (kernel 5.16 and later). What
/// the steps read and write beside has been written before.
fn make_ready(stack: &Stack) {
    /// What the least of page tables covers.
    const REACH: usize = 2 << 20;
    unsafe extern "C" {
        /// Where the linker has put what it linked.
        static __executable_start: u8;
        static _end: u8;
    }
    let file = [&raw const __executable_start, &raw const _end].map(|place| place as usize);
    let stack = [stack.lowest(), stack.lowest() + STACK];
    let size = page_size();
    for ([start, end], how) in [(file, Advice::LinuxPopulateRead), (stack, Advice::LinuxPopulateWrite)] {
        for place in (start..end).step_by(REACH).chain([end - 1]) {
            let page = (place & !(size - 1)) as *mut c_void;
            // SAFETY: changes nothing of what is in memory. Where there is none, nothing is made.
            let _ = unsafe { madvise(page, size, how) };
        }
    }
}

/// Memory for a process to run on, one after the other.
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
        make_ready(&stack);
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
