"""Who a From or Sender value names, in every reading that some mail reader may have (RFC 5322 sections 3.4 and 4.4).

A value is read once as the grammar says, leniently where real mail is (dots and brackets in names, empty list
members). Only if an `@` is left over outside of quoted strings and comments, or something is not closed, all that
looks like an address is gathered as well. The work is linear and bounded whatever stands there.
`address.parse_author_list` is the public side.
"""

import binascii
import re
import unicodedata
from collections.abc import Iterator

MAX_VALUE = 64 * 1024  # characters that are read; of a longer value the two ends
MAX_AUTHORS = 100
MAX_AT_SIGNS = 1000

Mailbox = tuple[str, str]  # local part without quoting, domain in lower case

_RUN = r'[^\s"(),:;<>@\[\]\\]'
_QUOTED = r'"(?>(?:[^"\\]++|\\.)*)"'
_LITERAL = r"\[[^\s\[\]\\<>@]++\]"
_SPEC = rf"((?:{_QUOTED}|{_RUN}++))@((?:{_RUN}++|{_LITERAL}))"

# A display name without anything odd before one plain address: nearly every From field there is. For the caller to try
# before `read_authors`, which takes longer.
PLAIN = re.compile(
    r'(?>(?:((?:\s*+"[^"\\]*+"\s*+|[^"(),:;<>@\[\]\\]*+)<))?)\s*+'
    r"([A-Za-z0-9!#$%&'*+/^_`{|}~-]++(?>(?:\.[A-Za-z0-9!#$%&'*+/^_`{|}~-]++)*))"
    r"@([A-Za-z0-9_-]++(?>(?:\.[A-Za-z0-9_-]++)*))\s*+(?(1)>)\s*+"
)
_TOKEN = re.compile(
    rf"(?P<blank>\s++)"
    rf"|<\s*+(?>(?:@[^<>\"@:]++(?>(?:@[^<>\"@:]++)*):)?)\s*+(?P<angle>{_SPEC})\s*+>"
    rf"|(?P<empty><\s*+>)"
    rf"|(?P<spec>{_SPEC})(?=[\s,;(<>]|\Z)"
    rf"|(?P<quoted>{_QUOTED})"
    rf"|(?P<word>{_RUN}++)"
    rf"|(?P<other>.)",
    re.DOTALL,
)
_COMMENT_MARK = re.compile(r"[()]|\\.", re.DOTALL)
_COMMENT = re.compile(r"\([^()]*+\)")
_TAIL = re.compile(rf"{_RUN}+")
_WIDE_TAIL = re.compile(r"[^\s<>,;]+")
_HEAD = re.compile(rf"{_LITERAL}|[\w.\u3002\uff0e\uff61-]+")
_DOMAIN = re.compile(r"[\w-]+(?:\.[\w-]+)*|\[[0-9a-z:.-]+\]")
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\s]{0,1000})\?=")
_FULL_STOPS = str.maketrans("\u3002\uff0e\uff61", "...")
_CONTROLS = dict.fromkeys([*range(32), 127], " ")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TRIM = ".'`*!?|~"  # what stands beside an address in running text


class _Reading:
    """What the tokens of one value amount to: the mailboxes by the grammar, and whether other readings are possible."""

    def __init__(self) -> None:
        self.mailboxes: list[Mailbox] = []
        self.named: list[Mailbox] = []  # addresses in the place of a display name
        self.is_odd = False  # something is not closed or out of place: any reading is possible
        self.is_open = False  # an @ is left over
        self._bare: list[Mailbox] = []
        self._has_words = False
        self._has_angle = False

    def add(self, kind: str, spec: str) -> None:
        if kind in ("word", "quoted"):
            self._has_words = True
            # What a reader without escapes takes for the end of the string.
            self.is_odd = self.is_odd or self._has_angle or (kind == "quoted" and "\\" in spec and "@" in spec)
            return
        if kind == "empty":
            self.is_odd = self.is_odd or self._has_angle
            self._has_angle = True
            return
        mailbox = _split_spec(spec)
        if mailbox is None:
            self.is_odd = True
        elif kind == "angle":
            self.is_odd = self.is_odd or self._has_angle
            self.mailboxes.append(mailbox)
            self._has_angle = True
        else:
            self.is_odd = self.is_odd or self._has_angle
            self._bare.append(mailbox)

    def end_entry(self) -> None:
        """Close one member of the list: a bare address stands alone, beside an angle address it is a display name."""
        if self._has_angle:
            self.named += self._bare
        else:
            self.mailboxes += self._bare
            self.is_odd = self.is_odd or len(self._bare) > 1 or (self._has_words and bool(self._bare))
        self._bare = []
        self._has_words = self._has_angle = False


def read_authors(value: str) -> tuple[list[Mailbox], bool]:
    """Return the mailboxes of an unfolded value in all readings, at most 100, and whether readings differ."""
    if len(value) > MAX_VALUE:
        ends = [*_every_address(value[: MAX_VALUE // 2]), *_every_address(value[-MAX_VALUE // 2 :])]
        return _both_ends(_distinct(ends)), True
    reading = _read(value)
    found = _distinct(reading.mailboxes)
    others = list(reading.named)
    if reading.is_odd or reading.is_open:
        others += _every_address(value)
        if "(" in value:
            others += _every_address(_COMMENT.sub("", value))
    is_masked = any("=?" in local for local, _ in found) or not found
    if is_masked and "=?" in value:
        others += _every_address(_decoded(value))
    every = _distinct(found + others)
    # Mail readers cut an address at a NUL or drop what they cannot show, each in its own way.
    is_hidden = not all(f"{local}{domain}".isprintable() for local, domain in every)
    is_ambiguous = reading.is_odd or is_hidden or len(every) > len(found) or len(every) > MAX_AUTHORS
    return _both_ends(every), is_ambiguous


def _both_ends(mailboxes: list[Mailbox]) -> list[Mailbox]:
    """Return at most 100 mailboxes: of more the first and the last, so that a crowd hides none at the end."""
    if len(mailboxes) <= MAX_AUTHORS:
        return mailboxes
    return mailboxes[: MAX_AUTHORS // 2] + mailboxes[-MAX_AUTHORS // 2 :]


def _read(value: str) -> _Reading:
    reading = _Reading()
    at, end = 0, len(value)
    while at < end:
        token = _TOKEN.match(value, at)
        assert token is not None  # the last alternative takes any character
        kind = token.lastgroup or ""
        at = token.end()
        if kind == "other":
            at = _read_special(reading, value, at)
        elif kind != "blank":
            reading.add(kind, token[kind])
    reading.end_entry()
    return reading


def _read_special(reading: _Reading, value: str, at: int) -> int:
    """Take the special character before `at`; return where reading goes on."""
    special = value[at - 1]
    if special in ",;:":
        reading.end_entry()
    elif special == "@":
        reading.is_open = True
    elif special in '<>"':
        reading.is_odd = True
        if special == '"':
            return len(value)  # never closed: whatever follows has no certain reading
    elif special == "(":
        end = _comment_end(value, at)
        comment = value[at : end or None]
        reading.is_odd = reading.is_odd or not end or ("<" in comment and "@" in comment)
        return end or len(value)
    return at


def _comment_end(value: str, at: int) -> int:
    """Return the offset after the comment that was opened before `at`, 0 if it is never closed."""
    depth = 1
    for mark in _COMMENT_MARK.finditer(value, at):
        if mark[0] == "(":
            depth += 1
        elif mark[0] == ")":
            depth -= 1
            if depth == 0:
                return mark.end()
    return 0


def _split_spec(spec: str) -> Mailbox | None:
    local, _, domain = spec.rpartition("@")
    if local[0] == '"':
        local = _ESCAPED.sub(r"\1", local[1:-1])
    name = _clean_domain(domain)
    return (local, name) if name else None


def _clean_domain(text: str) -> str:
    """Return a domain as readers take it: mapped, lower case, no dot at the end; "" if none would."""
    if len(text) > 1000:
        return ""
    domain = text.translate(_FULL_STOPS)
    if not domain.isascii():
        domain = unicodedata.normalize("NFKC", domain).translate(_FULL_STOPS)
    domain = domain.lower().removesuffix(".")
    if domain.startswith("[ipv6:"):
        return domain.replace("[ipv6:", "[IPv6:", 1)
    return domain if _DOMAIN.fullmatch(domain) else ""


def _every_address(text: str) -> Iterator[Mailbox]:
    """Yield all that looks like an address around each `@`, with the narrow and the wide reading of its local part."""
    text = text.translate(_CONTROLS)
    at_signs = [at for at, letter in enumerate(text) if letter == "@"]
    if len(at_signs) > MAX_AT_SIGNS:
        at_signs = at_signs[: MAX_AT_SIGNS // 2] + at_signs[-MAX_AT_SIGNS // 2 :]
    for at in at_signs:
        after = text[at + 1 : at + 400]
        head = _HEAD.match(after.lstrip())
        domain = _clean_domain(head[0].rstrip(".")) if head else ""
        if not domain or (after[0].isspace() and "." not in domain):
            continue
        before = text[max(0, at - 200) : at].rstrip()[::-1]
        narrow = _TAIL.match(before)
        wide = _WIDE_TAIL.match(before)
        if narrow:
            yield narrow[0][::-1].lstrip(_TRIM) or narrow[0][::-1], domain
        if wide and (not narrow or wide[0] != narrow[0]):
            yield wide[0][::-1], domain


def _decoded(text: str) -> str:
    return _ENCODED_WORD.sub(_decode_word, text)


def _decode_word(word: re.Match[str]) -> str:
    """Decode one encoded word (RFC 2047), as readers do that decode before they look for addresses."""
    charset, encoding, data = word.groups()
    octets = data.encode("utf-8", "replace")
    try:
        if encoding in "qQ":
            return binascii.a2b_qp(octets, header=True).decode(charset, "replace")
        return binascii.a2b_base64(octets + b"==").decode(charset, "replace")
    except (ValueError, LookupError):  # ValueError covers binascii.Error and UnicodeError
        return word[0]


def _distinct(mailboxes: list[Mailbox]) -> list[Mailbox]:
    return list({(local.lower(), domain): (local, domain) for local, domain in reversed(mailboxes)}.values())[::-1]
