"""Asks the host to write back everything and to flush its disks, over and over."""

import os


def handler(event):
    code = os.open(__file__, os.O_RDONLY)
    while True:
        os.fsync(code)
        os.sync()
