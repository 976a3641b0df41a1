/**
 * The system calls that a sandbox under runc may make. It shares the host's kernel, so whatever a function has no use
 * for is not offered; the engine's own profile leaves open io_uring, AF_VSOCK (the hypervisor, from any network
 * namespace) and a dozen netlink protocols, or not, depending on its age. Under gVisor calls reach another kernel.
 *
 * Calls that are not here fail with EPERM, those newer than all of these with ENOSYS, so that libraries fall back.
 */

/** Only the machine's own 64-bit calls: those of 32-bit programs have `socketcall`, whose arguments no filter sees. */
const ARCHITECTURES = ['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64'];

const ALLOWED = {
  files: `
    open openat openat2 creat close close_range read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2
    lseek dup dup2 dup3 fcntl flock ioctl pipe pipe2 splice tee vmsplice sendfile copy_file_range readahead fadvise64
    fallocate truncate ftruncate umask memfd_create cachestat`,
  names: `
    stat lstat fstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat getdents getdents64
    getcwd chdir fchdir mkdir mkdirat rmdir rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mknod
    mknodat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat
    getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr lremovexattr
    fremovexattr inotify_init inotify_init1 inotify_add_watch inotify_rm_watch`,
  waiting: `
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2
    io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents futex futex_waitv futex_wait futex_wake futex_requeue
    get_robust_list set_robust_list restart_syscall`,
  memory: `
    brk mmap munmap mprotect mremap msync mincore madvise mlock mlock2 mlockall munlock munlockall pkey_alloc pkey_free
    pkey_mprotect remap_file_pages membarrier map_shadow_stack mseal`,
  processes: `
    execve execveat fork vfork exit exit_group wait4 waitid kill tkill tgkill pidfd_open pidfd_send_signal prctl arch_prctl
    set_tid_address set_thread_area get_thread_area rseq getpid getppid gettid getpgid setpgid getpgrp getsid setsid
    getrlimit setrlimit prlimit64 getrusage times getpriority setpriority ioprio_get ioprio_set sched_yield sched_getaffinity
    sched_setaffinity sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval getcpu uname sysinfo getrandom`,
  signals: `
    rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn
    sigaltstack signalfd signalfd4 pause`,
  time: `
    time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep alarm getitimer setitimer timer_create
    timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime
    adjtimex clock_adjtime`,
  // They change nothing for a user without capabilities, and programs call them to drop what they do not have.
  users: `
    getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid setgroups
    setfsuid setfsgid capget capset seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self`,
  // `socket` is below.
  sockets: `
    socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt shutdown sendto recvfrom
    sendmsg recvmsg sendmmsg recvmmsg`,
  // Of a namespace of its own.
  exchange: `
    shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend
    mq_timedreceive mq_notify mq_getsetattr`,
};

/** A sandbox has nothing to write to but memory, while these make the host write back for everybody, or flush a disk's cache. */
const POINTLESS = ['sync', 'syncfs', 'fsync', 'fdatasync', 'sync_file_range'];

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
/** Which addresses and routes there are: the C library asks. */
const NETLINK_ROUTE = 0;
/** Every kind of namespace that `clone` can make. */
const CLONE_NEW = 0x7e02_0000;
/** Of `personality`: Linux itself, and the question which it is. */
const PERSONALITIES = [0, 0xffff_ffff];
const ENOSYS = 38;

const equals = (index: number, value: number) => ({ index, value, op: 'SCMP_CMP_EQ' });
const allow = (names: readonly string[], args: readonly object[] = []) => ({ names, action: 'SCMP_ACT_ALLOW', args });
const answer = (names: readonly string[], errnoRet: number) => ({ names, action: 'SCMP_ACT_ERRNO', errnoRet });

/** As the engine's `seccomp=` option takes it. */
export const SECCOMP_PROFILE: string = JSON.stringify({
  defaultAction: 'SCMP_ACT_ERRNO',
  archMap: ARCHITECTURES.map((architecture) => ({ architecture, subArchitectures: [] })),
  syscalls: [
    allow(Object.values(ALLOWED).flatMap((names) => names.trim().split(/\s+/))),
    ...[AF_UNIX, AF_INET, AF_INET6].map((family) => allow(['socket'], [equals(0, family)])),
    allow(['socket'], [equals(0, AF_NETLINK), equals(2, NETLINK_ROUTE)]),
    ...PERSONALITIES.map((persona) => allow(['personality'], [equals(0, persona)])),
    allow(['clone'], [{ index: 0, value: CLONE_NEW, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }]),
    // Its flags lie in memory, where a filter cannot see them. Libraries fall back to `clone`.
    answer(['clone3'], ENOSYS),
    answer(POINTLESS, 0),
  ],
});
