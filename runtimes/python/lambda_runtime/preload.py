"""Loads, in a runtime that has no code yet, what code will ask for."""

import os
import sys
from importlib import import_module

# A sandbox whose code is there already is told so at once, and must not wait for this.
_DELAY_MS = 100

# What most functions load first. About 20 ms that a start then does without, for 2.6 MB in each blank.
_MODULES = ("typing", "datetime", "dataclasses", "decimal", "uuid", "random", "hashlib")


class Preload:
    """Adds to ``sys.modules`` what a function would have added, unless the function has modules of these names itself."""

    def __init__(self):
        self._left = list(_MODULES)
        self._added = set()
        # How long the agent must want nothing before the next step; None when there is none.
        self.wait_ms = _DELAY_MS

    def step(self):
        """Loads one module."""
        before = set(sys.modules)
        try:
            import_module(self._left.pop(0))
        except ImportError:
            # A Python that was built without it.
            pass
        self._added |= set(sys.modules) - before
        self.wait_ms = 0 if self._left else None

    def give_way(self, folders):
        """The last step: forgets what has the name of something in these folders, from which code will import first."""
        self.wait_ms = None
        names = {entry.partition(".")[0] for folder in folders for entry in _entries(folder)}
        for module in self._added:
            if module.partition(".")[0] in names:
                sys.modules.pop(module, None)


def _entries(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return ()
