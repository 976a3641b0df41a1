"""What the probes see of the host: a privileged container in the host's process and IPC namespaces.

One JSON object per line in, one per line out: {"op": name, ...} → {"ok": value} or {"error": text}.

It also *is* a host to sandboxes whose network was taken away on purpose: its own network namespace has the addresses
that a sandbox must not reach, and remembers whoever reaches them.
"""

import base64
import ctypes
import fcntl
import hashlib
import json
import os
import re
import socket
import stat
import struct
import sys
import threading
import time

# The engine's shim, which started this and sees the host's files. The host's first process may be closed to everybody.
HOST_ROOT = f"/proc/{os.getppid()}/root"
NOGROUP = 65534
libc = ctypes.CDLL(None, use_errno=True)


def processes(container):
    """Every process of the container, as the host sees it."""
    return [found for found in map(describe, pids_of(container)) if found is not None]


def pids_of(container):
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and container in text(f"/proc/{name}/cgroup")]


def describe(pid):
    status = dict(re.findall(r"^(\w+):\s*(.*)$", text(f"/proc/{pid}/status"), re.M))
    if not status:
        return None
    return {
        "pid": pid,
        "name": status["Name"],
        "uids": [int(uid) for uid in status["Uid"].split()],
        "capabilities": [name for name in ("CapPrm", "CapEff", "CapInh", "CapAmb") if int(status[name], 16) != 0],
        "namespaces": links(f"/proc/{pid}/ns"),
        "descriptors": [held for held in map(lambda fd: descriptor(pid, fd), names(f"/proc/{pid}/fd")) if held],
        "environment": text(f"/proc/{pid}/environ"),
        "arguments": text(f"/proc/{pid}/cmdline"),
        "program": digest(f"/proc/{pid}/exe"),
    }


def descriptor(pid, fd):
    path = f"/proc/{pid}/fd/{fd}"
    try:
        held = {"target": os.readlink(path)}
        mode = os.stat(path)
    except OSError:
        return None
    if stat.S_ISCHR(mode.st_mode) or stat.S_ISBLK(mode.st_mode):
        held["device"] = f"{os.major(mode.st_rdev)}:{os.minor(mode.st_rdev)}"
    if stat.S_ISSOCK(mode.st_mode):
        try:
            held["protocol"] = os.getxattr(path, "system.sockprotoname").rstrip(b"\0").decode()
        except OSError:
            held["protocol"] = "unknown"
    return held


def mounts(container):
    """Mount points and filesystems that the container's processes have, and with which options."""
    found = set()
    for pid in pids_of(container):
        for line in text(f"/proc/{pid}/mountinfo").splitlines():
            before, _, after = line.partition(" - ")
            fields = before.split()
            found.add(" ".join([fields[4], fields[5].split(",")[0], after.split()[0]]))
    return sorted(found)


def cgroup(container):
    """Limits and counters of the container's control group, versions 1 and 2."""
    pids = pids_of(container)
    if not pids:
        return None
    folders = {}
    for line in text(f"/proc/{pids[0]}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            folders[name] = f"{HOST_ROOT}/sys/fs/cgroup/{name}{path}" if name else f"{HOST_ROOT}/sys/fs/cgroup{path}"

    def value(controller, v1, v2):
        folder = folders.get(controller)
        return text(f"{folder}/{v1}" if folder else f"{folders.get('')}/{v2}").strip()

    def counter(controller, file, name):
        found = re.search(rf"^{name} (\d+)", value(controller, file, file), re.M)
        return int(found[1]) if found else 0

    inside = [folder for folder in {os.path.realpath(path) for path in folders.values()} if container in folder]
    return {
        "limits": {
            "memory": value("memory", "memory.limit_in_bytes", "memory.max"),
            "swap": value("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
            "processes": value("pids", "pids.max", "pids.max"),
            "processor": value("cpu", "cpu.cfs_quota_us", "cpu.max"),
        },
        "groupsInside": [f"{path}/{name}" for path in inside for name in names(path) if os.path.isdir(f"{path}/{name}")],
        "processes": int(value("pids", "pids.current", "pids.current") or 0),
        "memoryPeak": int(value("memory", "memory.max_usage_in_bytes", "memory.peak") or 0),
        "throttled": counter("cpu", "cpu.stat", "nr_throttled"),
        "processorUs": int(value("cpuacct", "cpuacct.usage", "") or 0) // 1000
        if "cpuacct" in folders
        else counter("", "cpu.stat", "usage_usec"),
    }


def traces(containers):
    """What is left of containers: processes, mounts, control groups."""
    wanted = re.compile("|".join(containers))
    found = [f"process {name}" for name in os.listdir("/proc") if name.isdigit() and wanted.search(text(f"/proc/{name}/cgroup"))]
    found += [f"mount {line.split()[4]}" for line in text(f"/proc/{os.getppid()}/mountinfo").splitlines() if wanted.search(line)]
    for folder, folders, _ in os.walk(f"{HOST_ROOT}/sys/fs/cgroup"):
        found += [f"control group {folder}/{name}" for name in folders if wanted.search(name)]
    return found if containers else []


def read(paths):
    """The first bytes of files, base64; null where they cannot be read. Kernel files as the host's root sees them."""
    return {path: base64.b64encode(data(path)).decode() or None for path in paths}


def data(path, size=4096):
    try:
        with open(path if path.startswith("/proc/") else HOST_ROOT + path, "rb", buffering=0) as file:
            os.set_blocking(file.fileno(), False)
            return file.read(size) or b""
    except OSError:
        return b""


def write(path, value):
    with open(path, "w") as file:
        file.write(value)


def handle(path):
    """What open_by_handle_at needs to open a file of the host."""
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(-100, (HOST_ROOT + path).encode(), buffer, ctypes.byref(mount), 0) != 0:
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    size, kind = struct.unpack_from("Ii", buffer)
    return {"kind": kind, "bytes": base64.b64encode(buffer.raw[8 : 8 + size]).decode()}


def keys(uid):
    """Descriptions of the keys that a user of the host has."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setresuid(uid, uid, uid)
        os.write(writer, text("/proc/keys").encode())
        os._exit(0)
    os.close(writer)
    os.wait()
    with os.fdopen(reader) as pipe:
        return pipe.read()


def bystander(secret, uid):
    """A process of the host under a sandbox's own user, which keeps a secret in its environment."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(NOGROUP, NOGROUP, NOGROUP)
        os.setresuid(uid, uid, uid)
        os.execve("/bin/sleep", ["sleep", "100000"], {"SECRET": secret})
    return pid


def end(pid):
    os.kill(pid, 9)
    os.waitpid(pid, 0)


class StandIn:
    """The host's network, as far as a sandbox might look for it."""

    addresses = ("169.254.169.254", "172.17.0.1", "10.0.0.53")

    def __init__(self):
        self.hits = []
        for number, address in enumerate(self.addresses):
            self._add(f"lo:{number}", address)
        self._up(b"lo")
        for port in (53, 80):
            self._listen(socket.SOCK_STREAM, port)
        self._listen(socket.SOCK_DGRAM, 53)
        self._listen_abstract()

    def _listen(self, kind, port):
        listener = socket.socket(socket.AF_INET, kind)
        listener.bind(("0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        threading.Thread(target=self._serve, args=(listener, kind), daemon=True).start()

    def _listen_abstract(self):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("\0lambda-probes")
        listener.listen()
        threading.Thread(target=self._serve, args=(listener, None), daemon=True).start()

    def _serve(self, listener, kind):
        while True:
            if kind == socket.SOCK_DGRAM:
                _, peer = listener.recvfrom(512)
                self.hits.append(f"udp {listener.getsockname()[1]}")
                listener.sendto(b"answer", peer)
            else:
                connection, _ = listener.accept()
                here = connection.getsockname()
                self.hits.append(f"tcp {here[0]}:{here[1]}" if kind else "abstract")
                connection.sendall(b"answer")
                connection.close()

    def _add(self, name, address):
        request = struct.pack("16sH2s4s8s", name.encode(), socket.AF_INET, b"", socket.inet_aton(address), b"")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, 0x8916, request)

    def _up(self, name):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, 0x8914, struct.pack("16sH14s", name, 0x1, b""))


def text(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def names(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def links(folder):
    found = {}
    for name in names(folder):
        try:
            found[name] = os.readlink(f"{folder}/{name}")
        except OSError:
            # A namespace that has no process yet.
            continue
    return found


def digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


network = StandIn()
OPS = {
    "processes": processes,
    "mounts": mounts,
    "cgroup": cgroup,
    "traces": traces,
    "read": read,
    "write": write,
    "handle": handle,
    "keys": keys,
    "bystander": bystander,
    "end": end,
    "hits": lambda: [network.hits.pop(0) for _ in range(len(network.hits))],
    "shared_memory": lambda: text("/proc/sysvipc/shm"),
    "modules": lambda: sorted(line.split()[0] for line in text("/proc/modules").splitlines()),
    "clock": lambda: {"offset": time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), "name": text("/proc/sys/kernel/hostname")},
}
print(json.dumps({"ok": "ready"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"ok": OPS[request.pop("op")](**request)}
    except Exception as raised:  # noqa: BLE001 the test is told
        answer = {"error": f"{type(raised).__name__}: {raised}"}
    print(json.dumps(answer), flush=True)
