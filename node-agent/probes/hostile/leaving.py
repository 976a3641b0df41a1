"""What one function leaves, and where another looks for it."""

import os
import socket

import files
import kernel
import resources
from trying import CHILDREN, KEPT, attempt, in_child


def leave(mark):
    os.environ["LEFT"] = mark
    for folder in ("/tmp", "/dev/shm", "/dev/mqueue", "/var/task", "/var/cache/lambda", "/run/lambda"):
        attempt(put, f"{folder}/{mark}", mark)
    attempt(kernel.plant_key, mark)
    attempt(resources.shared_memory, 4711, 1)
    for name in ("\0" + mark, f"/tmp/{mark}.sock"):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        attempt(listener.bind, name)
        attempt(listener.listen)
        KEPT.append(listener)
    CHILDREN.append(os.spawnle(os.P_NOWAIT, "/bin/sleep", "sleep", "1000", {"LEFT": mark}))
    in_child(lambda: attempt(put, "/proc/self/comm", mark[:15]))
    return True


def put(path, text):
    with open(path, "w") as file:
        file.write(text)


def look(reversed_mark):
    """Every place where the mark is: names and contents of files, processes, sockets, segments."""
    mark = reversed_mark[::-1]
    found = list(files.search([reversed_mark]).values())
    for top in ("/tmp", "/dev", "/run", "/var", "/proc"):
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name not in ("task", "map_files", "fdinfo")]
            found += [os.path.join(folder, name) for name in names if mark in name]
    if attempt(resources.remove_shared_memory, 4711) == 0:
        found.append("shared memory")
    if isinstance(attempt(files.connect, "@" + mark), socket.socket):
        found.append("an abstract socket")
    return found
