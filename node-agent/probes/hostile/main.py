"""A function that tries what it is told to, and tells what it got. What it says about success is not believed."""

import importlib


def handler(event):
    module, _, name = event["attempt"].partition(".")
    return getattr(importlib.import_module(module), name)(**event.get("with", {}))
