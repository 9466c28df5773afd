"""The few exceptions that callers act on. Expected outcomes are values; these are for input and states that are not."""


class Malformed(ValueError):
    """Input cannot be read as what it claims to be. The text says what is wrong and quotes no hostile input."""


class NotFound(LookupError):
    """What was asked for does not exist, or not any more."""


class NotAllowed(Exception):
    """The actor may not do this."""


class Conflict(Exception):
    """The state changed in between, or such a thing exists already."""
