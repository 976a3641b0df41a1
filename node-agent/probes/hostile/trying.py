"""What every attempt needs: calls that fail quietly, the kernel by number, and children that stay to be looked at."""

import base64
import ctypes
import errno
import os
import platform
import signal
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
ARM = platform.machine() == "aarch64"

# Objects and descriptors that must outlive the attempt, so that the host can find them.
KEPT = []
CHILDREN = []

# x86-64, arm64; from 424 on all architectures have the same numbers.
NUMBERS = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clone3": (435, 435),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "userfaultfd": (323, 282),
}


def attempt(work, *arguments):
    """What `work` returned, or the name of its error."""
    try:
        return work(*arguments)
    except OSError as raised:
        return errno.errorcode.get(raised.errno, str(raised))
    except Exception as raised:  # noqa: BLE001 whatever it is, it did not work
        return type(raised).__name__


def call(function, *arguments):
    """A function of the C library, or a system call by its name. Raises OSError."""
    if isinstance(function, str):
        result = libc.syscall(ctypes.c_long(NUMBERS[function][ARM]), *map(as_argument, arguments))
    else:
        result = function(*map(as_argument, arguments))
    if result == -1:
        raise OSError(ctypes.get_errno(), str(function))
    return result


def as_argument(value):
    return ctypes.c_long(value) if isinstance(value, int) else value


def in_child(work):
    """Runs `work` in a child that then waits to be looked at. What the child said of it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.write(writer, str(attempt(work)).encode()[:4000])
        os.close(writer)
        while True:
            signal.pause()
    os.close(writer)
    CHILDREN.append(child)
    with os.fdopen(reader) as pipe:
        return pipe.read()


def tidy():
    """Ends what attempts left behind."""
    for child in CHILDREN:
        attempt(os.kill, child, signal.SIGKILL)
        attempt(os.waitpid, child, 0)
    CHILDREN.clear()
    for kept in KEPT:
        attempt(os.close, kept) if isinstance(kept, int) else attempt(kept.close)
    KEPT.clear()


def read(path, size=4096):
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def encoded(value):
    return base64.b64encode(value).decode()


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def mount_points():
    return [line.split()[4] for line in open("/proc/self/mountinfo")]


def until(condition, seconds=2.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
