"""Finds a function's handler: ``package/module.function`` or ``package.module.function``."""

import importlib
import importlib.util
import os
import sys

from .errors import Fault


def load_handler(name, task_root):
    """The handler, a callable. Raises Fault where PROTOCOL.md names one under INIT, or what the code raised."""
    module_name, function_name = _parse_name(name)
    file = _find_file(module_name, task_root)
    prepend_paths(task_root)
    try:
        module = _import(module_name, file)
    except ImportError as raised:
        raise Fault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {raised}") from None
    except SyntaxError as raised:
        fault = syntax_fault(raised, task_root)
        if fault is None:
            raise
        raise fault from None
    return _find_function(module, module_name, function_name)


def own_folders(task_root):
    """Where the function's own modules are, the last of them first in line."""
    return [path for path in (*os.environ.get("PYTHONPATH", "").split(os.pathsep), task_root) if path]


def prepend_paths(task_root):
    """Lets the function's own modules be imported."""
    for path in own_folders(task_root):
        if path not in sys.path:
            sys.path.insert(0, path)
    # The task root was empty when this process started, and Python remembers folders.
    importlib.invalidate_caches()


def _parse_name(name):
    path, _, function_name = name.rpartition(".")
    if not path or not function_name:
        raise Fault(
            "Runtime.MalformedHandlerName",
            f'The handler "{name}" is not of the form "file.function", such as "main.handler".',
        )
    if name.startswith("/") or "\0" in name or ".." in name:
        raise Fault("Runtime.MalformedHandlerName", f'The handler "{name}" leaves the function\'s folder.')
    return path.replace("/", "."), function_name


def _find_file(module_name, task_root):
    base = os.path.join(task_root, *module_name.split("."))
    for file in (base + ".py", os.path.join(base, "__init__.py")):
        if os.path.isfile(file):
            return file
    path = module_name.replace(".", "/")
    raise Fault(
        "Runtime.ImportModuleError",
        f"Cannot find module '{path}': the function's code has no {path}.py or {path}/__init__.py. "
        + _listing(task_root),
    )


def _listing(task_root):
    try:
        names = sorted(os.listdir(task_root))
    except OSError:
        # The message is complete without it.
        return ""
    if not names:
        return "It is empty."
    return f"It holds {', '.join(names[:10])}{', …' if len(names) > 10 else ''}."


def _import(module_name, file):
    if module_name not in sys.modules:
        return importlib.import_module(module_name)
    # A module of the standard library that the runtime uses has the same name: the
    # function's own is loaded beside it and does not take its place for everyone else.
    spec = importlib.util.spec_from_file_location(module_name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def syntax_fault(error, task_root):
    """A Fault when ``error`` is about a file, None when the code itself raised it or compiled a text of its own."""
    if not error.filename or not os.path.isfile(error.filename):
        return None
    root = os.path.join(task_root, "")
    file = error.filename[len(root) :] if error.filename.startswith(root) else error.filename
    location = {"file": file, "line": max(1, error.lineno or 1), "column": max(1, error.offset or 1)}
    where = f"{file}:{location['line']}:{location['column']}"
    return Fault("Runtime.UserCodeSyntaxError", f"{error.msg} ({where})", location)


def _find_function(module, module_name, function_name):
    missing = object()
    function = getattr(module, function_name, missing)
    if callable(function):
        return function
    names = [name for name in vars(module) if not name.startswith("_")]
    listing = f"It defines {', '.join(names[:20])}." if names else "It defines nothing."
    if function is missing:
        raise Fault("Runtime.HandlerNotFound", f'{module_name} has no function named "{function_name}". {listing}')
    raise Fault(
        "Runtime.HandlerNotFound",
        f'"{function_name}" of {module_name} is not a function but of type {type(function).__name__}. {listing}',
    )
