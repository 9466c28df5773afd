"""A disk that a test holds up or breaks: Python imports this first in a process with this folder on its path.

The folder that `TEST_DISK` names has the files `held` (syncs wait while it is there) and `broken` (they fail); a sync
that waits makes the file `waiting`.
"""

import errno
import os
import pathlib
import time

_folder = pathlib.Path(os.environ["TEST_DISK"])
_sync = os.fdatasync


def fdatasync(file: int) -> None:
    while (_folder / "held").exists():
        (_folder / "waiting").touch()
        time.sleep(0.005)
    if (_folder / "broken").exists():
        raise OSError(errno.EIO, "the test's disk is broken")
    _sync(file)


os.fdatasync = fdatasync
