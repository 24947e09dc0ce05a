"""Runs a command in which changes of owner and user succeed without effect (single-user mode).

The filter is the one that Charliecloud calls `--force=seccomp`: the kernel answers 0 and does nothing.
Started as a program by the sandbox, never imported; it costs one start of Python.
"""

import ctypes
import os
import platform
import struct
import sys

# chown fchown lchown fchownat, setuid setgid setreuid setregid setgroups setresuid setresgid setfsuid setfsgid
_CALLS = {
    "x86_64": (0xC000003E, (92, 93, 94, 260, 105, 106, 113, 114, 116, 117, 119, 122, 123)),
    "aarch64": (0xC00000B7, (55, 54, 146, 144, 145, 143, 159, 147, 149, 151, 152)),
}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ANSWER_ZERO = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2


def _pretend() -> None:
    found = _CALLS.get(platform.machine())
    if found is None:
        return
    architecture, calls = found
    # (code, jump if true, jump if false, value): another architecture's calls pass; ours are compared one by one.
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 0, len(calls) + 1, architecture), (_LOAD, 0, 0, 0)]
    program += [(_EQUAL, len(calls) - index, 0, call) for index, call in enumerate(calls)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ANSWER_ZERO)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    libc.prctl(_SECCOMP, _FILTER, ctypes.c_void_p(ctypes.addressof(header)), 0, 0)


if __name__ == "__main__":
    _pretend()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - the sandbox's own command, as a list
