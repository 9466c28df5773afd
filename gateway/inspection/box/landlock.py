"""Landlock (landlock(7)): no file, no TCP port, no abstract socket and no signal outside, whatever the owner may do."""

import ctypes
import os
import struct

# The same numbers on every machine (asm-generic/unistd.h).
CREATE_RULESET, RESTRICT_SELF = 444, 446
GET_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
NET_SINCE, SCOPES_SINCE = 4, 6  # versions of the interface, landlock(7)
NET_RIGHTS = 0b11  # bind, connect
SCOPES = 0b11  # abstract Unix sockets, signals


def _file_rights(version: int) -> int:
    """All rights that this version knows of: 13 at first, then REFER, TRUNCATE and IOCTL_DEV."""
    count = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    return (1 << count) - 1


def restrict(libc: ctypes.CDLL) -> bool:
    """Deny this process all that Landlock handles. False where there is no Landlock. Needs no_new_privs.

    Takes a free descriptor for a moment.
    """
    version = libc.syscall(CREATE_RULESET, None, 0, GET_VERSION)
    if version < 1:
        return False
    fields = [_file_rights(version)]
    if version >= NET_SINCE:
        fields.append(NET_RIGHTS)
    if version >= SCOPES_SINCE:
        fields.append(SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)  # struct landlock_ruleset_attr grew at its end
    ruleset = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        # No rule is added: what is handled and not allowed is denied.
        return bool(libc.syscall(RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)
