"""What the platform compiled of a function's code: making it, and loading modules from it.

``<code cache>/python/<cache tag>/<path>.pyc`` is the module ``<path>.py`` below the task root: 16 bytes as in any file of
compiled Python (the interpreter's magic number and 12 zeros), the marshalled code, and its CRC-32.
"""

import _imp
import marshal
import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import MAGIC_NUMBER
from time import monotonic
from types import CodeType
from zlib import crc32

_FILES_MAX = 4_000
_BYTES_MAX = 32 * 1024 * 1024
_FILE_BYTES_MAX = 6 * 1024 * 1024
_TIME_S_MAX = 10

_HEAD = MAGIC_NUMBER + bytes(12)
_CHECKSUM_BYTES = 4


def _folder():
    return os.path.join("python", sys.implementation.cache_tag)


def compile_tree(task_root):
    """Yields ``(path in the code cache, bytes)`` for the modules below the task root. Runs nothing of them."""
    until = monotonic() + _TIME_S_MAX
    left = _BYTES_MAX
    for file in _sources(task_root):
        compiled = _compiled(file)
        if compiled is None or len(compiled) > min(left, _FILE_BYTES_MAX):
            continue
        left -= len(compiled)
        yield os.path.join(_folder(), os.path.relpath(file, task_root) + "c"), compiled
        if monotonic() > until:
            return


def _sources(task_root):
    """The nearest first."""
    folders = [task_root]
    found = 0
    for folder in folders:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and len(folders) < _FILES_MAX:
                folders.append(entry.path)
            elif entry.name.endswith(".py") and entry.is_file() and found < _FILES_MAX:
                found += 1
                yield entry.path


def _compiled(file):
    try:
        with open(file, "rb") as opened:
            source = opened.read()
        data = marshal.dumps(compile(source, file, "exec", dont_inherit=True))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        # Importing it will say so, if anyone does.
        return None
    return _HEAD + data + crc32(data).to_bytes(_CHECKSUM_BYTES, "little")


def use_code_cache(code_cache, task_root):
    """Lets modules below the task root be loaded from there; whatever does not fit is passed over."""
    if code_cache is None:
        return
    folder = os.path.join(code_cache, _folder())
    if not os.path.isdir(folder):
        return

    class CachedLoader(_CachedLoader):
        cache_folder = folder
        source_folder = os.path.join(task_root, "")

    def finder(path):
        if not os.path.join(path, "").startswith(CachedLoader.source_folder) or not os.path.isdir(path):
            raise ImportError
        return FileFinder(
            path,
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (CachedLoader, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )

    sys.path_hooks.insert(0, finder)
    sys.path_importer_cache.pop(task_root, None)


class _CachedLoader(SourceFileLoader):
    cache_folder = ""
    source_folder = ""

    def get_code(self, fullname):
        code = _cached(os.path.join(self.cache_folder, self.path[len(self.source_folder) :] + "c"))
        if code is None:
            return super().get_code(fullname)
        # It may have been compiled under another path. Python does the same with what it has cached itself.
        _imp._fix_co_filename(code, self.path)
        return code


def _cached(file):
    try:
        with open(file, "rb") as opened:
            data = memoryview(opened.read())
        code = data[len(_HEAD) : -_CHECKSUM_BYTES]
        if data[: len(_HEAD)] != _HEAD or crc32(code) != int.from_bytes(data[-_CHECKSUM_BYTES:], "little"):
            return None
        loaded = marshal.loads(code)
    except (OSError, ValueError, EOFError, TypeError):
        return None
    return loaded if isinstance(loaded, CodeType) else None
