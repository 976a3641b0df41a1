"""The Python runtime of Lambda Fleet: loads one function and calls its handler. ../../PROTOCOL.md is its contract."""
