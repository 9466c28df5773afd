"""Accepted mail on disk: the record in a segment is the commit behind a 250.

A process that appends has a folder of segments below the spool's root and holds a lock on it for life. `Spool` appends
and owns the folder, `read` reads any record from any process, `adopt` takes over the folders of the dead. What is
waiting, delivered or settled is the database's business; nothing here knows SQL or reads the clock of the day.
"""

from gateway.spool.errors import SpoolFailed, SpoolFull
from gateway.spool.folder import is_here, new_owner
from gateway.spool.record import Pieces, read, read_range
from gateway.spool.recovery import Adopted, Damage, adopt
from gateway.spool.spool import Spool, Usage

__all__ = [
    "Adopted",
    "Damage",
    "Pieces",
    "Spool",
    "SpoolFailed",
    "SpoolFull",
    "Usage",
    "adopt",
    "is_here",
    "new_owner",
    "read",
    "read_range",
]
