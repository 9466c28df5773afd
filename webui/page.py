"""What a page of the console says of itself: where it is, what it is called, and under which heading it stands.

Pages without a place in the sidebar (one message, an error) have no `Page`.
"""

from msgspec import Struct

WATCH, DECIDE, POLICY, SYSTEM = GROUPS = ("Watch", "Decide", "Policy", "System")


class Page(Struct, frozen=True):
    """One entry of the sidebar. `icon` is a name in static/icons.svg."""

    path: str
    label: str
    group: str
    icon: str

    def holds(self, path: str) -> bool:
        """Tell whether `path` is this page or one below it."""
        return path == self.path or path.startswith(f"{self.path}/")
