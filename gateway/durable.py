"""What a crash must not undo."""

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: a file that is synced itself may still lose its name (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
