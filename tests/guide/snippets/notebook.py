"""Writes down what the guide's workers did, one file for each process: what their left-out helpers do here."""

import json
import os


def note(kind, value):
    """Add a line to the file of this process in the folder NOTES."""
    line = json.dumps([kind, value]).encode() + b"\n"
    file = os.open(f"{os.environ['NOTES']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, line)
    finally:
        os.close(file)
