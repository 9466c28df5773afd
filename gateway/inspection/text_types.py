"""What kind of text a text is. Programs in text have no signature: what its octets allow, the name decides.

A system runs a text by the extension of its name, whatever it holds. So a text that is named like a script is one; a
text that is not, but begins or reads like one, may be one: both are told.
"""

import re
from collections.abc import Iterator, Sequence

from gateway.inspection.file_names import extensions
from gateway.inspection.media_types import EXTENSIONS, NAMED_TEXT, PLAIN

LOOKED_AT = 16 * 1024  # characters at the begin that are looked at for words
_PROBE = 8 * 1024  # octets by which text is told from data

_CONTROLS = bytes(sorted({*range(32), 127} - {7, 8, 9, 10, 11, 12, 13, 26, 27}))

# What the text begins with, after white space, a byte order mark and comments of markup.
_BEGINS = (
    (re.compile(r"#!\s?\S{0,80}?/?(?:env\s+(?:-\S+\s+)?)?python"), "text/x-python"),
    (re.compile(r"#!\s?\S{0,80}?/?(?:env\s+(?:-\S+\s+)?)?perl"), "application/x-perl"),
    (re.compile(r"#!\s?\S{0,80}?/?(?:env\s+(?:-\S+\s+)?)?ruby"), "application/x-ruby"),
    (re.compile(r"#!\s?\S{0,80}?/?(?:env\s+(?:-\S+\s+)?)?(?:node|deno|bun)\b"), "text/javascript"),
    (re.compile(r"#!\s?\S{0,80}?/?(?:env\s+(?:-\S+\s+)?)?pwsh"), "application/x-powershell"),
    (re.compile(r"#!\s?/"), "application/x-sh"),
    (re.compile(r"<\?php|<\?="), "application/x-httpd-php"),
    (re.compile(r"#@~\^"), "application/x-jscript-encode"),
    (re.compile(r"(?i)\[internetshortcut[.\]]"), "application/x-mswinurl"),
    (re.compile(r"(?i)\[desktop entry\]"), "application/x-desktop"),
    (re.compile(r"(?i)\[shell\]\s*\r?\n\s*command"), "application/x-shell-command"),
    (re.compile(r"(?i)\[version\]\s*\r?\n\s*signature"), "application/x-setupscript"),
    (re.compile(r"(?:Windows Registry Editor Version|REGEDIT4)"), "application/x-ms-regedit"),
    (re.compile(r"(?i)@?echo\s+off\b|@?rem[ \t]|@?setlocal\b|@?cls\s*\r?\n"), "application/x-bat"),
    (re.compile(r"(?i)begin:vcalendar"), "text/calendar"),
    (re.compile(r"(?i)begin:vcard"), "text/vcard"),
    (re.compile(r"WEB\r?\n1\r?\n"), "application/x-ms-iqy"),
    (re.compile(r"ID;P"), "application/x-ms-slk"),
    (re.compile(r"begin [0-7]{3,4} \S"), "application/x-uuencode"),
    (re.compile(r"begin-base64 [0-7]{3,4} \S"), "application/x-uuencode"),
    (re.compile(r"From \S{1,200} {1,8}[A-Z][a-z]{2} "), "application/mbox"),
    (re.compile(r"-----BEGIN PGP MESSAGE"), "application/pgp-encrypted"),
    (re.compile(r"\{\\rt"), "application/rtf"),
    (re.compile(r"(?:full address|screen mode id):[si]:"), "application/x-rdp"),
)
_MESSAGE = re.compile(
    r"(?i)(?:(?:received|return-path|from|to|subject|date|message-id|mime-version|delivered-to|x-[a-z-]{1,40}):[ \t])"
)
_MESSAGE_FIELD = re.compile(r"(?im)^(?:from|to|subject|date|message-id|mime-version|content-type|received):[ \t]?")
_MARKUP = (  # in lower case
    (re.compile(r"<hta:application"), "application/hta"),
    (
        re.compile(r"<(?:!doctype\s+html|html|head|body|script|iframe|meta\s|title|table|form|a\s+href|img\s|div|base\s)"),
        "text/html",
    ),
    (re.compile(r"<(?:[a-z]{1,20}:)?svg[\s>]"), "image/svg+xml"),
    (re.compile(r"<(?:job|package|component|scriptlet)[\s>]"), "application/x-windows-script"),
    (re.compile(r"progid=\"word\.document\"|<w:worddocument"), "application/vnd.ms-word-xml"),
    (re.compile(r"progid=\"excel\.sheet\"|schemas-microsoft-com:office:spreadsheet"), "application/vnd.ms-excel-xml"),
    (re.compile(r"<pcsettings"), "application/x-ms-settings"),
    (re.compile(r"<librarydescription|<searchconnectordescription"), "application/x-ms-library"),
    (re.compile(r"urn:schemas-microsoft-com:asm\.v1"), "application/x-ms-application"),
)  # fmt: skip
_TAGS = re.compile(r"<(?:html|script|!doctype html|body|iframe)[\s>]")
_UUENCODED = re.compile(r"\nbegin [0-7]{3,4} \S")
_XML = re.compile(r"<\?xml[\s?]")
# Words of programs, in lower case; so many different ones of a line make a text one of that kind.
_WORDS = (
    (
        (
            "$env:", "$psscriptroot", "invoke-expression", "iex ", "iex(", "new-object ", "set-executionpolicy",
            "start-process", "write-host", "get-content", "downloadstring", "frombase64string", "invoke-webrequest",
            "cmdletbinding", " -encodedcommand", "[system.", "param(",
        ),
        2,
        "application/x-powershell",
    ),
    (
        (
            "createobject(", "wscript.shell", "wscript.", "on error resume next", "end sub", "end function", "\ndim ",
            "chr(", "chrw(", "\nset ", "msgbox", "execute(",
        ),
        3,
        "text/vbscript",
    ),
    (
        (
            "activexobject", "function(", "function (", "\nvar ", "eval(", "unescape(", "wscript.", "document.",
            "window.", "new array", "string.fromcharcode", ");\n", ");\r\n",
        ),
        4,
        "text/javascript",
    ),
)  # fmt: skip
_COMMENTS = re.compile(r"(?:\s++|<!--(?:[^-]|-(?!->)){0,4000}-->|\ufeff)*")
_EXTENSION_WORTH = 8  # extensions of all names that are looked up


def text_of(data: bytes) -> str | None:
    """Return the begin of a text, decoded well enough to look for words; None: it is no text."""
    probe = data[: LOOKED_AT * 2]
    if probe[:3] == b"\xef\xbb\xbf":
        return probe[3:].decode("utf-8", "replace")
    if probe[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return probe[: len(probe) & ~1].decode("utf-16", "replace")
    # A system starts what "#!" names, whatever follows.
    if probe[:2] != b"#!" and probe[:_PROBE].translate(None, _CONTROLS) != probe[:_PROBE]:
        return _utf16_without_mark(probe)
    return probe[:LOOKED_AT].decode("latin-1")


def _utf16_without_mark(probe: bytes) -> str | None:
    """ASCII in UTF-16 has a NUL in every other place; nothing else has them only there."""
    start = probe[:512][: len(probe) & ~1]
    for place, codec in ((1, "utf-16-le"), (0, "utf-16-be")):
        nuls = start[place::2]
        if len(nuls) > 8 and nuls.count(0) > len(nuls) * 0.9 and 0 not in start[1 - place :: 2]:
            return probe[: len(probe) & ~1].decode(codec, "replace")
    return None


def text_types(text: str, names: Sequence[str], declared_types: Sequence[str]) -> list[str]:
    """Return what a text may be: by its name first, as what it is declared, by how it reads; plain text at the last."""
    declared = [kind for kind in declared_types if kind in NAMED_TEXT]
    return list(dict.fromkeys([*_by_name(names), *declared, *read_types(text), PLAIN]))


def read_types(text: str) -> Iterator[str]:
    """Yield what a text may be by how it begins and by its words."""
    begin = text[_begin(text) :]
    lowered = text.lower()
    yield from (kind for pattern, kind in _BEGINS if pattern.match(begin))
    if begin.startswith("<"):
        lowered = begin.lower()
        yield from (kind for pattern, kind in _MARKUP if pattern.search(lowered))
        if _XML.match(begin):
            yield "application/xml"
    elif begin[:1] in ("{", "["):
        yield "application/json"
    elif _MESSAGE.match(begin) and len(set(_MESSAGE_FIELD.findall(begin[:4096]))) > 1:
        yield "message/rfc822"
    elif _TAGS.search(lowered):
        yield "text/html"
    if "\nbegin " in text and _UUENCODED.search(text):
        yield "application/x-uuencode"
    for words, wanted, kind in _WORDS:
        if sum(word in lowered for word in words) >= wanted:
            yield kind


def _begin(text: str) -> int:
    found = _COMMENTS.match(text)
    return found.end() if found else 0


def _by_name(names: Sequence[str]) -> Iterator[str]:
    """Yield the kinds of text that go by this name. The last extension counts, and that of an NTFS stream's file."""
    for name in names[:_EXTENSION_WORTH]:
        for extension in extensions(name)[:1]:
            kinds = EXTENSIONS.get(extension, ())[:1]
            yield from (kind for kind in kinds if kind in NAMED_TEXT)


def hidden_markup(data: bytes) -> bool:
    """Tell whether what begins like another format holds HTML near its begin: browsers and mail clients may show it."""
    return _HIDDEN_MARKUP.search(data, 0, 4096) is not None


_HIDDEN_MARKUP = re.compile(rb"(?i)<(?:script|html|body|iframe|!doctype html)[\s>]")
