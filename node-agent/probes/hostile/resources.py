"""Attempts to take more than was given, and to stay."""

import ctypes
import os
import resource
import signal
import socket
import sys
import threading
import time

from trying import CHILDREN, KEPT, attempt, call, libc


def fork_bomb(most=400):
    """Processes until there are no more. All of them wait; how many there were."""
    for number in range(most):
        child = attempt(os.fork)
        if child == 0:
            os.close(0)
            while True:
                signal.pause()
        if isinstance(child, str):
            return {"children": number, "said": child}
        CHILDREN.append(child)
    return {"children": most}


def thread_bomb(most=400):
    waiting = threading.Event()
    for number in range(most):
        said = attempt(threading.Thread(target=waiting.wait, daemon=True).start)
        if said is not None:
            waiting.set()
            return {"threads": number, "said": said}
    return {"threads": most}


def descriptors(most=5000):
    said = attempt(resource.setrlimit, resource.RLIMIT_NOFILE, (most, most))
    for number in range(most):
        opened = attempt(os.open, "/dev/null", os.O_RDONLY)
        if isinstance(opened, str):
            return {"descriptors": number, "said": [said, opened]}
        KEPT.append(opened)
    return {"descriptors": most}


def fill(megabytes):
    """Bytes into every folder that takes them."""
    written = 0
    for top in ("/tmp", "/dev/shm", "/dev", "/var/task", "/", "/run", "/dev/mqueue"):
        said = attempt(fill_folder, top, megabytes - written)
        written += said if isinstance(said, int) else 0
    return written


def fill_folder(top, megabytes):
    block = b"x" * (1 << 20)
    with open(f"{top}/filling", "wb") as file:
        for number in range(megabytes):
            if attempt(file.write, block) != len(block) or attempt(file.flush) is not None:
                return number
    return megabytes


def empty_files(count):
    """Names without bytes, and sparse files that claim to be huge."""
    os.makedirs("/tmp/many", exist_ok=True)
    with open("/tmp/sparse", "wb") as sparse:
        attempt(sparse.truncate, 1 << 42)
    for number in range(count):
        made = attempt(os.open, f"/tmp/many/{number}", os.O_CREAT | os.O_WRONLY)
        if isinstance(made, str):
            return {"files": number, "said": made}
        os.close(made)
    return {"files": count}


def shared_memory(key, megabytes):
    """Memory that outlives its process: System V segments, message queues, files without a name."""
    segment = attempt(call, libc.shmget, key, megabytes << 20, 0o1666)
    libc.shmat.restype = ctypes.c_void_p
    where = libc.shmat(segment, None, 0) if isinstance(segment, int) else None
    if where not in (None, 2**64 - 1):
        ctypes.memset(where, 1, megabytes << 20)
    return {"segment": segment, "files": attempt(fill_folder, "/dev/shm", 8)}


def remove_shared_memory(key):
    return attempt(call, libc.shmctl, call(libc.shmget, key, 0, 0), 0, None)


def memory(megabytes=4096):
    kept = []
    for _ in range(megabytes // 8):
        kept.append(b"x" * (8 << 20))
    return len(kept)


def spin(seconds, processes):
    """Burns processor time in several processes."""
    end = time.monotonic() + seconds
    children = []
    for _ in range(processes - 1):
        child = os.fork()
        if child == 0:
            while True:
                pass
        children.append(child)
    while time.monotonic() < end:
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return True


def refuse_to_end():
    """Ignores every signal, in sessions of their own, takes the runtime its way to exit, and never returns."""
    for module in list(sys.modules.values()):
        if hasattr(module, "_exit"):
            module._exit = lambda *_: time.sleep(1000)
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            os.fork()
            break
    for number in range(1, 65):
        attempt(signal.signal, number, signal.SIG_IGN)
    attempt(signal.pthread_sigmask, signal.SIG_BLOCK, range(1, 65))
    while True:
        time.sleep(1)


def work_after_result():
    """A child that goes on when the result has been sent."""
    child = os.fork()
    if child == 0:
        os.setsid()
        while True:
            pass
    CHILDREN.append(child)
    return child


def fill_processes_then_answer():
    return {**fork_bomb(), "threads": attempt(threading.Thread(target=print).start)}


def end_process_one(number):
    attempt(os.kill, 1, number)
    time.sleep(0.2)
    return "process 1 lives"


def pass_descriptors(most=3000):
    """Descriptors in flight count for the user and not for the process that sent them."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    KEPT.extend([left, right])
    null = os.open("/dev/null", os.O_RDONLY)
    for number in range(most):
        left.setblocking(False)
        said = attempt(socket.send_fds, left, [b"x"], [null])
        if isinstance(said, str):
            return {"in flight": number, "said": said}
    return {"in flight": most}


def long_arguments():
    """The longest arguments and environment that a program can be started with."""
    said = {}
    for kilobytes in (100, 1_900, 6_000):
        arguments = ["x" * 100_000] * (kilobytes // 100)
        said[kilobytes] = attempt(os.spawnve, os.P_WAIT, "/bin/true", ["true", *arguments], {"LONG": "x" * 100_000})
    return said


def memory_in_child(megabytes):
    child = os.fork()
    if child == 0:
        memory(megabytes)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def exit_with(status):
    os._exit(status)


def signal_self(number):
    os.kill(os.getpid(), number)
    time.sleep(5)
