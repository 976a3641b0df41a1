"""A job: ``job.py`` in the task root, compiled at INIT and run at INVOKE."""

import os
import sys
from types import ModuleType

from .call_handler import HandlerCall
from .errors import Fault
from .load_handler import prepend_paths, syntax_fault

_FILE = "job.py"
# Called with the arguments when the module has it; the first that it has.
_ENTRIES = ("main", "handler")


class Job:
    """Runs the module anew for each invocation: its globals are not shared."""

    def __init__(self, code, file):
        self._code = code
        self._file = file

    @classmethod
    def load(cls, task_root):
        """Raises Fault Runtime.ImportModuleError or Runtime.UserCodeSyntaxError."""
        file = os.path.join(task_root, _FILE)
        try:
            with open(file, "rb") as opened:
                source = opened.read()
        except OSError:
            raise Fault("Runtime.ImportModuleError", f"The job's code has no {_FILE}.") from None
        prepend_paths(task_root)
        try:
            return cls(compile(source, file, "exec", dont_inherit=True), file)
        except (SyntaxError, ValueError) as raised:
            # About a NUL or an unknown encoding they name no file; older Pythons raise a ValueError.
            fault = syntax_fault(raised, task_root) if isinstance(raised, SyntaxError) else None
            where = {"file": _FILE, "line": 1, "column": 1}
            raise fault or Fault("Runtime.UserCodeSyntaxError", f"{raised} ({_FILE}:1:1)", where) from None

    def __call__(self, args, context):
        module = ModuleType("job")
        module.__file__ = self._file
        module.args = args
        # Data classes and pickles look for their module by name.
        sys.modules["job"] = module
        exec(self._code, module.__dict__)
        for name in _ENTRIES:
            entry = getattr(module, name, None)
            if callable(entry):
                return HandlerCall(entry)(args, context)
        return getattr(module, "result", None)
