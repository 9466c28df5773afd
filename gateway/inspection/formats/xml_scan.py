"""XML as a stream of elements, read without a tree, without entities from elsewhere, and to its first fatal error."""

from typing import Protocol

from lxml import etree  # type: ignore[import-untyped]

from gateway.inspection.look import Look

FEED = 64 * 1024  # octets at a time, so that the clock is looked at now and then


class Target(Protocol):
    """What is told of the elements. Names have their namespace in braces, as lxml writes them."""

    def start(self, tag: str, attributes: dict[str, str]) -> None: ...

    def end(self, tag: str) -> None: ...

    def data(self, text: str) -> None: ...


class _Sink:
    """A target may not raise through libxml2 and close must return something: this stands between."""

    def __init__(self, target: Target) -> None:
        self.start = target.start
        self.end = target.end
        self.data = target.data

    def close(self) -> None:
        return None


def scan_xml(look: Look, data: bytes, target: Target) -> None:
    """Tell `target` what elements and text there are, in order; note damage."""
    parser = etree.XMLParser(target=_Sink(target), resolve_entities=False, no_network=True, load_dtd=False)
    try:
        for place in range(0, len(data), FEED):
            look.check_time()
            parser.feed(data[place : place + FEED])
        parser.close()
    except etree.XMLSyntaxError:
        look.note_problem("damaged")


def local(tag: str) -> str:
    """Return a name without its namespace."""
    return tag.rsplit("}", 1)[-1]


def plain(data: bytes) -> bytes:
    """Return octets in which ASCII words are found, whether it is written in 8 or 16 bits."""
    return data.replace(b"\0", b"") if b"\0" in data[:256] else data
