//! A process between clone and exec: it takes the steps of its plan, one after the other.
//!
//! Other threads of the parent may have held any lock when they were left behind, so nothing here allocates,
//! locks, logs or panics. Calls are made through rustix (inline assembly, the error as a value) and, where it
//! has none, `libc::syscall`, which only moves registers and stores `errno` in the thread's own memory. libc's
//! functions of the same names will not do: its `setuid`, for one, waits for threads that the child has not.

mod below;
mod copy_up;
mod devices;
mod execute;
mod identity;
mod mounts;
mod namespaces;
mod process;
mod root;
mod terminal;

use std::ffi::{CStr, c_int, c_long};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::process::chdir;

pub(super) use namespaces::set_host_name;

use super::inroot::{self, Kind, Links};
use super::report::{ChildEnd, Said};
use super::step::{Slot, Step};

/// What a process is born with beside its steps.
pub(super) struct Birthright<'a> {
    pub slots: &'a mut [Option<OwnedFd>],
    pub report: ChildEnd,
    /// Where the PID of a process that a [`Step::Fork`] makes is stored, before that first runs.
    pub pid_out: Option<&'a AtomicU32>,
    /// What the report did not take, for want of memory perhaps. Who shares the memory may say it instead.
    pub unsaid: &'a mut Option<Said>,
}

/// Takes the steps from the one with the index `first` on; returns to nobody. The last one should be [`Step::Execute`].
pub(super) fn run(steps: &[Step], first: usize, birthright: Birthright<'_>) -> ! {
    take_all(steps, first, birthright);
    exit(127)
}

/// Takes the steps from the one with the index `first` on, and says whether it could. A failure has been told when it returns.
pub(super) fn take_all(steps: &[Step], first: usize, birthright: Birthright<'_>) -> bool {
    let Birthright { slots, report, pid_out, unsaid } = birthright;
    let mut child =
        Child { slots, report, pid_out, later: None, root: None, null: None, empty: None, entered: false };
    for (index, step) in steps.iter().enumerate().skip(first) {
        if let Err(errno) = child.take(step) {
            let failed = Said::Failed { step: index as u32, errno: errno.raw_os_error() };
            *unsaid = child.report.say(failed).err().map(|_| failed);
            return false;
        }
    }
    true
}

pub(super) fn exit(code: c_int) -> ! {
    // SAFETY: ends the process without running anything of ours.
    unsafe { libc::_exit(code) }
}

/// Turns the result of `libc::syscall` into one that carries the error.
pub(super) fn check(result: c_long) -> Result<c_long, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    // SAFETY: the thread's own errno, always there.
    Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
}

/// What the steps so far have left behind.
struct Child<'a> {
    slots: &'a mut [Option<OwnedFd>],
    /// Where a failure is told.
    report: ChildEnd,
    pid_out: Option<&'a AtomicU32>,
    /// What the last steps need: where the byte that starts the program comes from, or the program. Once it has been
    /// moved out of the way.
    later: Option<RawFd>,
    /// The container's root, once opened.
    root: Option<OwnedFd>,
    /// The container's `/dev/null`, once verified.
    null: Option<OwnedFd>,
    /// The empty directory behind which masked ones hide, once mounted.
    empty: Option<OwnedFd>,
    /// Whether the working directory has been entered.
    entered: bool,
}

impl Child<'_> {
    fn take(&mut self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::ResetSignals => process::reset_signals(),
            Step::IgnoreChildren => process::ignore_children(),
            Step::AdoptOrphans => process::adopt_orphans(),
            Step::LimitResource(limit) => process::limit_resource(*limit),
            Step::AdjustOomScore { value } => process::adjust_oom_score(value),
            Step::SetIoPriority(priority) => process::set_io_priority(*priority),
            Step::SetScheduler(attributes) => process::set_scheduler(attributes),
            Step::NewSession => process::new_session(),
            Step::JoinKeyring { name } => process::join_keyring(name),
            Step::SetUmask(mask) => process::set_umask(*mask),
            Step::SetPersonality(number) => process::set_personality(*number),
            Step::Redirect { from, to } => process::redirect(from.as_raw_fd(), *to as RawFd),
            Step::CloseDescriptors { keep, later } => self.close_descriptors(*keep, *later),

            Step::JoinNamespace { namespace, .. } => namespaces::join(namespace.as_fd()),
            Step::JoinProcess { pidfd, namespaces } => namespaces::join_process(pidfd.as_fd(), *namespaces),
            Step::NewCgroupNamespace => namespaces::unshare(libc::CLONE_NEWCGROUP),
            Step::NewMountNamespace => namespaces::unshare(libc::CLONE_NEWNS),
            Step::NewTimeNamespace { offsets } => namespaces::new_time_namespace(offsets),
            Step::Fork { namespaces } => self.fork(*namespaces),
            Step::BecomeRoot => namespaces::become_root(),
            Step::SetHostName { name } => namespaces::set_host_name(name),
            Step::SetDomainName { name } => namespaces::set_domain_name(name),
            Step::RaiseLoopback => super::interface::set_up(c"lo"),

            Step::SetHostPropagation(propagation) => root::set_host_propagation(*propagation),
            Step::OpenSource { .. } => self.open_source(step),
            Step::MapLayers { layers_dir, map } => root::map_layers(layers_dir, map),
            Step::MountRoot { layers_dir, options, at } => root::mount(layers_dir, options, at),
            Step::OpenImage { layers_dir, options, at, below, slot } => {
                let image = root::open_image(layers_dir, options, at, below.as_ref())?;
                self.fill(*slot, image)
            }
            Step::EnterHostDirectory { path } => chdir(path),
            Step::AttachRoot { slot, at } => self.attach_root(*slot, at),
            Step::OpenRoot { at } => self.open_root(at),
            Step::PivotRoot => root::pivot(self.root()?),
            Step::MoveRoot => root::move_over(self.root()?),
            Step::SetRootPropagation(propagation) => mounts::propagate(self.root()?, *propagation),

            Step::Mount { .. } => self.mount(step),
            Step::Bind { slot, at, change, .. } => self.bind(*slot, at, change),
            Step::Remount { at, change } => self.remount(at, change),
            Step::Mask { path, options } => self.mask(path, options),
            Step::MakeReadOnly { path } => self.make_read_only(path),
            Step::MakeRootReadOnly => mounts::make_read_only(self.root()?),

            Step::OpenDirectory { at, slot } => self.open_directory(at, *slot),
            Step::MakeDirectory { below, path } => {
                inroot::ensure(self.slot(*below)?, path, Kind::Directory, Links::Refuse).map(drop)
            }
            Step::MakeNode { below, path, node } => devices::make_node(self.slot(*below)?, path, *node),
            Step::BindNode { below, path, node } => {
                devices::bind_node(self.slot(*below)?, path, self.slot(*node)?)
            }
            Step::MakeLink { below, path, to } => devices::make_link(self.slot(*below)?, path, to),
            Step::NullInput => self.null_input(),
            Step::OpenTerminal { socket, size, owner, console } => {
                terminal::open(self.root()?, socket.as_fd(), *size, *owner, *console)
            }
            Step::OpenPrivateProc { slot } => self.open_private_proc(*slot),
            Step::WriteProc { proc, path, value } => mounts::write(self.slot(*proc)?, path, value),
            Step::EnsureDirectory { path } => {
                inroot::ensure(self.root()?, path, Kind::Directory, Links::Follow).map(drop)
            }

            Step::AwaitHooks => self.await_hooks(),
            Step::AwaitStart { from } => self.await_start(from.as_raw_fd()),

            Step::BoundCapabilities(set) => identity::bound_capabilities(*set),
            Step::SetGroups(groups) => identity::set_groups(groups),
            Step::SetGid(gid) => identity::set_gid(*gid),
            Step::SetUid { uid, keep_capabilities } => identity::set_uid(*uid, *keep_capabilities),
            Step::SetCapabilities(sets) => identity::set_capabilities(*sets),
            Step::ForbidNewPrivileges => identity::forbid_new_privileges(),
            Step::InstallSeccomp(filter) => identity::install_seccomp(filter),
            Step::EnterDirectory { path, forgive } => self.enter(path, *forgive),
            Step::VerifyDirectory => execute::verify_directory(),
            Step::FindProgram { candidates } => execute::find(candidates),
            Step::Execute { candidates, arguments, environment } => {
                Err(execute::execute(candidates, arguments, environment))
            }
            Step::ExecuteFile { program, arguments } => {
                let program = self.later.unwrap_or(program.as_raw_fd());
                Err(execute::execute_file(program, arguments))
            }
        }
    }

    fn slot(&self, slot: Slot) -> Result<BorrowedFd<'_>, Errno> {
        self.slots.get(slot.0).and_then(Option::as_ref).map(OwnedFd::as_fd).ok_or(Errno::BADF)
    }

    fn fill(&mut self, slot: Slot, fd: OwnedFd) -> Result<(), Errno> {
        *self.slots.get_mut(slot.0).ok_or(Errno::BADF)? = Some(fd);
        Ok(())
    }

    fn root(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.root.as_ref().map(OwnedFd::as_fd).ok_or(Errno::BADF)
    }

    /// The next steps are taken by another process.
    fn fork(&mut self, namespaces: u64) -> Result<(), Errno> {
        match super::clone::clone_sibling(namespaces, self.pid_out)? {
            None => Ok(()),
            Some((pid, pidfd)) => {
                // Whoever does not hear it has gone, and the other one says the rest.
                let _ = self.report.hand_over(Said::Forked { pid }, pidfd.as_fd());
                exit(0)
            }
        }
    }

    fn await_hooks(&mut self) -> Result<(), Errno> {
        // Nobody else could be told that this failed.
        let _ = self.report.say(Said::Created);
        self.report.await_word()
    }

    fn await_start(&mut self, from: RawFd) -> Result<(), Errno> {
        let from = self.later.unwrap_or(from);
        let _ = self.report.say(Said::Ready);
        // SAFETY: opened before the clone, or the copy that `close_descriptors` made.
        let from = unsafe { BorrowedFd::borrow_raw(from) };
        let mut byte = [0u8; 1];
        loop {
            match rustix::io::read(from, &mut byte) {
                Err(Errno::INTR) => {}
                Ok(1) => return Ok(()),
                Ok(_) => return Err(Errno::PIPE),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Closes everything but the standard streams, those to keep and, moved behind them, the report and what is needed later.
    ///
    /// Marking them close-on-exec is too late: execve resolves the program, its `#!` interpreter and its loader first,
    /// and `/proc/self/fd/N/..` of one that leads to the host's files leads out of the root (CVE-2024-21626).
    fn close_descriptors(&mut self, keep: u32, later: Option<RawFd>) -> Result<(), Errno> {
        let first = 3 + keep as RawFd;
        // By way of two numbers beyond, so that neither takes the other's place.
        let report = process::duplicate_from(self.report.number(), first + 2)?;
        let later = later.map(|later| process::duplicate_from(later, first + 2)).transpose()?;
        self.report.move_to(process::duplicate_to(report, first)?);
        self.later = later.map(|later| process::duplicate_to(later, first + 1)).transpose()?;
        process::close_from(first + 1 + RawFd::from(self.later.is_some()))
    }

    /// Once entered, it stays so: a second step of the kind is for the directory that only the final user may enter.
    fn enter(&mut self, path: &CStr, forgive: bool) -> Result<(), Errno> {
        if self.entered {
            return Ok(());
        }
        match chdir(path) {
            Err(Errno::ACCESS | Errno::PERM) if forgive => Ok(()),
            Err(errno) => Err(errno),
            Ok(()) => {
                self.entered = true;
                Ok(())
            }
        }
    }
}
