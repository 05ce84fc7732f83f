"""Become another program that the kernel kills when the parent ends: `python die_with_parent.py PARENT PROGRAM ...`.

A program of its own, because code between fork and exec is unsafe where there are threads. The process id stays.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Arrange for the kill, and become the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("The parent ended before its death could be watched.")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
