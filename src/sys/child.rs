//! A container's first process between clone and exec: it takes the steps of its plan, one after the other.
//!
//! Other threads of the parent may have held any lock when they were left behind, so nothing here allocates,
//! locks, logs or panics. Calls are made through rustix (inline assembly, the error as a value) and, where it
//! has none, `libc::syscall`, which only moves registers and stores `errno` in the thread's own memory. libc's
//! functions of the same names will not do: its `setuid`, for one, waits for threads that the child has not.

use std::ffi::{CStr, c_int, c_long};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, major, makedev, minor, mknodat,
    open, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{Resource, Rlimit, chdir, getrlimit, pivot_root, setrlimit, setsid, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, move_into_link_name_space, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::inroot::{self, Kind, Links};
use super::mount::set_attributes;
use super::step::{MountOption, Node, Slot, Step, Stream, StringArray};

/// What a failed child writes: the step's index and the error, both little-endian.
pub const REPORT_LENGTH: usize = 8;

const ATTR_RDONLY: u64 = 0x1;

/// Takes the steps; returns to nobody. The last one should be [`Step::Execute`].
pub(super) fn run(steps: &[Step], slots: &mut [Option<OwnedFd>], report: RawFd) -> ! {
    let mut child = Child { slots, report, root: None, null: None, empty: None, entered: false };
    for (index, step) in steps.iter().enumerate() {
        if let Err(errno) = child.take(step) {
            say(child.report, index, errno);
            break;
        }
    }
    // SAFETY: ends the process without running anything of ours.
    unsafe { libc::_exit(127) }
}

fn say(report: RawFd, index: usize, errno: Errno) {
    let mut record = [0; REPORT_LENGTH];
    record[..4].copy_from_slice(&(index as u32).to_le_bytes());
    record[4..].copy_from_slice(&errno.raw_os_error().to_le_bytes());
    // SAFETY: the parent made this descriptor before the clone, and the child never closes it.
    let report = unsafe { BorrowedFd::borrow_raw(report) };
    // Nobody else could be told that even this failed.
    let _ = rustix::io::write(report, &record);
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
    report: RawFd,
    /// The container's root, once pivoted.
    root: Option<OwnedFd>,
    /// The container's `/dev/null`, once verified.
    null: Option<OwnedFd>,
    /// The empty directory behind which masked ones hide, once mounted.
    empty: Option<OwnedFd>,
    /// Whether the working directory has been entered.
    entered: bool,
}

impl Child<'_> {
    /// Closes everything but the standard streams and the report, which moves to 3.
    ///
    /// Marking them close-on-exec is too late: execve resolves the program, its `#!` interpreter and its loader first,
    /// and `/proc/self/fd/N/..` of one that leads to the host's files leads out of the root (CVE-2024-21626).
    fn close_descriptors(&mut self) -> Result<(), Errno> {
        const REPORT: RawFd = 3;
        if self.report != REPORT {
            // SAFETY: whatever 3 was is not needed any more; a step that did need it comes before this one.
            let moved = unsafe { libc::syscall(libc::SYS_dup3, self.report, REPORT, libc::O_CLOEXEC) };
            check(moved)?;
            self.report = REPORT;
        }
        // SAFETY: no later step uses a descriptor beyond 3, and the owners in this copy of the parent's memory are never
        // dropped: the child ends by exec or `_exit`.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, REPORT + 1, u32::MAX, 0 as c_int) };
        check(closed).map(drop)
    }

    fn take(&mut self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::ResetSignals => reset_signals(),
            Step::LimitOpenFiles(soft) => limit_open_files(*soft),
            Step::NewSession => setsid().map(drop),
            Step::JoinNamespace { namespace, .. } => move_into_link_name_space(namespace.as_fd(), None),
            Step::NewCgroupNamespace => new_cgroup_namespace(),
            Step::Redirect { from, to } => redirect(from.as_raw_fd(), stream_number(*to)),
            Step::SetUmask(mask) => {
                umask(Mode::from_raw_mode(*mask));
                Ok(())
            }
            Step::MakeMountsPrivate => {
                mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            }
            Step::OpenSource { source, recursive, slot } => self.open_source(source, *recursive, *slot),
            Step::MountRoot { layers_dir, options, at } => mount_root(layers_dir, options, at),
            Step::PivotRoot { at } => self.pivot(at),
            Step::Mount { kind, options, attributes, at, slot } => {
                self.mount(kind, options, *attributes, at, *slot)
            }
            Step::Bind { slot, at, attributes, recursive, .. } => {
                self.bind(*slot, at, *attributes, *recursive)
            }
            Step::MakeDirectory { below, path } => {
                inroot::ensure(self.slot(*below)?, path, Kind::Directory, Links::Refuse).map(drop)
            }
            Step::MakeNode { below, path, node } => make_node(self.slot(*below)?, path, *node),
            Step::MakeLink { below, path, to } => {
                symlinkat(to.as_c_str(), self.slot(*below)?, path.as_c_str())
            }
            Step::NullInput => self.null_input(),
            Step::EnsureDirectory { path } => {
                inroot::ensure(self.root()?, path, Kind::Directory, Links::Follow).map(drop)
            }
            Step::Mask { path } => self.mask(path),
            Step::MakeReadOnly { path } => self.make_read_only(path),
            Step::MakeRootReadOnly => set_attributes(self.root()?, ATTR_RDONLY, false),
            Step::CloseDescriptors => self.close_descriptors(),
            Step::BoundCapabilities(set) => bound_capabilities(*set),
            Step::SetGroups(groups) => set_groups(groups),
            Step::SetGid(gid) => set_gid(*gid),
            Step::SetUid(uid) => set_uid(*uid),
            Step::SetCapabilities(set) => limit_capabilities(*set),
            Step::ForbidNewPrivileges => set_no_new_privs(true),
            Step::InstallSeccomp(program) => install_seccomp(program),
            Step::EnterDirectory { path, forgive } => self.enter(path, *forgive),
            Step::VerifyDirectory => verify_directory(),
            Step::Execute { candidates, arguments, environment } => {
                Err(execute(candidates, arguments, environment))
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

    fn open_source(&mut self, source: &CStr, recursive: bool, slot: Slot) -> Result<(), Errno> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        let tree = open_tree(CWD, source, flags)?;
        self.fill(slot, tree)
    }

    /// With both arguments `.` the old root ends up on top of the new one, and no directory is needed for it.
    fn pivot(&mut self, at: &CStr) -> Result<(), Errno> {
        chdir(at)?;
        pivot_root(c".", c".")?;
        unmount(c".", UnmountFlags::DETACH)?;
        chdir(c"/")?;
        self.root = Some(open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
        Ok(())
    }

    fn mount(
        &mut self,
        kind: &CStr,
        options: &[MountOption],
        attributes: u64,
        at: &CStr,
        slot: Option<Slot>,
    ) -> Result<(), Errno> {
        let target = inroot::ensure(self.root()?, at, Kind::Directory, Links::Refuse)?;
        let mounted = new_mount(kind, options, attributes)?;
        attach(mounted.as_fd(), target.as_fd())?;
        match slot {
            Some(slot) => self.fill(slot, mounted),
            None => Ok(()),
        }
    }

    fn bind(&mut self, slot: Slot, at: &CStr, attributes: u64, recursive: bool) -> Result<(), Errno> {
        let source = self.slot(slot)?;
        let kind = if is_directory(source)? { Kind::Directory } else { Kind::File };
        let target = inroot::ensure(self.root()?, at, kind, Links::Follow)?;
        if attributes != 0 {
            set_attributes(source, attributes, recursive)?;
        }
        attach(source, target.as_fd())
    }

    /// The container's `/dev/null`, only if it is what it should be (CVE-2025-31133).
    fn open_null(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let null = inroot::open(self.root()?, c"/dev/null", flags | OFlags::NOFOLLOW, Links::Refuse)?;
        let stat = fstat(&null)?;
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        let is_null = device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
        if is_null { Ok(null) } else { Err(Errno::NXIO) }
    }

    fn null_input(&self) -> Result<(), Errno> {
        redirect(self.open_null(OFlags::RDONLY)?.as_raw_fd(), libc::STDIN_FILENO)
    }

    /// What is there is pinned by its descriptor before anything is put over it.
    fn pin(&self, path: &CStr) -> Result<Option<OwnedFd>, Errno> {
        match inroot::open(self.root()?, path, OFlags::PATH | OFlags::NOFOLLOW, Links::Refuse) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn mask(&mut self, path: &CStr) -> Result<(), Errno> {
        let Some(target) = self.pin(path)? else { return Ok(()) };
        if is_directory(target.as_fd())? { self.mask_directory(&target) } else { self.mask_file(&target) }
    }

    fn mask_file(&mut self, target: &OwnedFd) -> Result<(), Errno> {
        if self.null.is_none() {
            self.null = Some(self.open_null(OFlags::PATH)?);
        }
        let null = self.null.as_ref().ok_or(Errno::BADF)?;
        attach(copy(null.as_fd(), false)?.as_fd(), target.as_fd())
    }

    /// One empty file system serves all: the first is mounted, the others are copies of that mount.
    fn mask_directory(&mut self, target: &OwnedFd) -> Result<(), Errno> {
        if let Some(empty) = &self.empty {
            return attach(copy(empty.as_fd(), false)?.as_fd(), target.as_fd());
        }
        let attributes = ATTR_RDONLY
            | u64::from((MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV).bits())
            | u64::from(MountAttrFlags::MOUNT_ATTR_NOEXEC.bits());
        let empty = new_mount(c"tmpfs", &[], attributes)?;
        attach(empty.as_fd(), target.as_fd())?;
        self.empty = Some(empty);
        Ok(())
    }

    fn make_read_only(&self, path: &CStr) -> Result<(), Errno> {
        let Some(target) = self.pin(path)? else { return Ok(()) };
        let tree = copy(target.as_fd(), true)?;
        set_attributes(tree.as_fd(), ATTR_RDONLY, true)?;
        attach(tree.as_fd(), target.as_fd())
    }

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

fn stream_number(stream: Stream) -> RawFd {
    match stream {
        Stream::Stdout => libc::STDOUT_FILENO,
        Stream::Stderr => libc::STDERR_FILENO,
    }
}

/// The size of the kernel's signal set, bytes.
const SIGNAL_SET: usize = 8;

fn reset_signals() -> Result<(), Errno> {
    // All zero is the default action; the kernel's `struct sigaction` is at most this long.
    let default = [0u64; 4];
    let none = 0u64;
    let nowhere = std::ptr::null_mut::<u64>();
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: reads `default`, writes nothing.
        let result =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), nowhere, SIGNAL_SET) };
        check(result)?;
    }
    let how = libc::SIG_SETMASK;
    // SAFETY: reads `none`, writes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, std::ptr::from_ref(&none), nowhere, SIGNAL_SET)
    };
    check(result).map(drop)
}

fn new_cgroup_namespace() -> Result<(), Errno> {
    // SAFETY: does not touch the descriptors or memory of the process, the two things that make unshare unsafe.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }
}

fn redirect(from: RawFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: descriptors 0 to 2 belong to nobody in the child.
    check(unsafe { libc::syscall(libc::SYS_dup3, from, to, 0) }).map(drop)
}

fn mount_root(layers_dir: &CStr, options: &CStr, at: &CStr) -> Result<(), Errno> {
    chdir(layers_dir)?;
    mount(c"overlay", at, c"overlay", MountFlags::empty(), options)
}

/// A file system that is mounted nowhere yet.
fn new_mount(kind: &CStr, options: &[MountOption], attributes: u64) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for option in options {
        match option {
            MountOption::Flag(name) => fsconfig_set_flag(&context, name.as_c_str())?,
            MountOption::Value(name, value) => {
                fsconfig_set_string(&context, name.as_c_str(), value.as_c_str())?;
            }
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A copy of the mount that the descriptor leads to.
fn copy(of: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(of, c"", flags)
}

fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", by_descriptor)
}

fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

/// Permissions are set once more, without the umask.
fn make_node(below: BorrowedFd<'_>, path: &CStr, node: Node) -> Result<(), Errno> {
    let permissions = Mode::from_raw_mode(node.mode);
    let device = makedev(node.major, node.minor);
    mknodat(below, path, FileType::from_raw_mode(node.mode), permissions, device)?;
    chmodat(below, path, permissions, AtFlags::empty())?;
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    chownat(below, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// The hard limit stays.
fn limit_open_files(soft: u64) -> Result<(), Errno> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(soft, |maximum| soft.min(maximum)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum })
}

fn bound_capabilities(set: u64) -> Result<(), Errno> {
    for capability in (0..64u32).filter(|capability| set & (1 << capability) == 0) {
        // SAFETY: takes numbers only.
        let result = unsafe {
            libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, c_long::from(capability), 0, 0, 0)
        };
        match check(result) {
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            result => result?,
        };
    }
    Ok(())
}

fn limit_capabilities(set: u64) -> Result<(), Errno> {
    let wanted = CapabilitySet::from_bits_retain(set) & capabilities(None)?.permitted;
    let sets = CapabilitySets { effective: wanted, permitted: wanted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)
}

fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    const { assert!(size_of::<Gid>() == size_of::<u32>()) };
    // SAFETY: `Gid` is a transparent `u32`.
    let groups = unsafe { std::slice::from_raw_parts(groups.as_ptr().cast::<Gid>(), groups.len()) };
    set_thread_groups(groups)
}

fn set_gid(gid: u32) -> Result<(), Errno> {
    let gid = Gid::from_raw(gid);
    set_thread_res_gid(gid, gid, gid)
}

fn set_uid(uid: u32) -> Result<(), Errno> {
    let uid = Uid::from_raw(uid);
    set_thread_res_uid(uid, uid, uid)
}

fn install_seccomp(program: &[libc::sock_filter]) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let place = std::ptr::from_ref(&program);
    // SAFETY: the kernel only reads `program` and the `len` instructions that it leads to.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, place) }).map(drop)
}

fn verify_directory() -> Result<(), Errno> {
    let mut space = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most as many bytes as `space` has.
    check(unsafe { libc::syscall(libc::SYS_getcwd, space.as_mut_ptr(), space.len()) })?;
    // Outside of the root the kernel says `(unreachable)` first.
    if space[0] == b'/' { Ok(()) } else { Err(Errno::XDEV) }
}

/// Returns only if no candidate could be executed. As a shell does: what is missing is passed over, and what may
/// not be executed is remembered.
fn execute(candidates: &[std::ffi::CString], arguments: &StringArray, environment: &StringArray) -> Errno {
    let mut error = Errno::NOENT;
    for path in candidates {
        // SAFETY: a string and two arrays of strings with null at their ends, all outliving the call.
        let result = unsafe {
            libc::syscall(libc::SYS_execve, path.as_ptr(), arguments.as_ptr(), environment.as_ptr())
        };
        match check(result) {
            Err(Errno::NOENT | Errno::NOTDIR) | Ok(_) => {}
            Err(Errno::ACCESS) => error = Errno::ACCESS,
            Err(errno) => return errno,
        }
    }
    error
}
