"""What an append can end in besides success. After either, nothing of it may be answered with 250."""


class SpoolFull(Exception):
    """There is no room: the disk is full, or mail would eat into the space that is kept free. Answer 452."""


class SpoolFailed(Exception):
    """The record may not be on disk: the disk failed, or the spool is closed. Answer 451."""
