"""What the rules see of one message: each field is read once, and prepared once in each form that operators want."""

import unicodedata
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Protocol

from gateway.inspection.words import decode_words
from gateway.mail.address import parent_domains
from gateway.policy.ledger import Ledger
from gateway.policy.rules.addresses import networks_of
from gateway.policy.rules.fields import FieldRef, Type, Values
from gateway.verdict import Answer, Answers, Case, Finding, Question, Unknown

NOT_ASKED = Unknown("not asked")
NOT_YET = Unknown("not judged yet")
DIFFERS = Unknown("not the same for all recipients")
MAX_MATCHED = 64 * 1024  # octets of one value that patterns see
MAX_DOMAIN = 255  # characters, RFC 5321 section 4.5.3.1.2


class Ours(Protocol):
    """What fields need of the policy."""

    @property
    def own_domains(self) -> frozenset[str]: ...
    @property
    def ledger(self) -> Ledger: ...


def plain(text: str) -> str:
    """Return text as people read it: compatibility forms are made one (NFKC)."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def folded(text: str) -> str:
    """Return text in which letters of either case are the same."""
    if text.isascii():
        return text.lower()
    # Folding can make what another normalisation would change (Unicode 15, section 3.13, D146).
    return unicodedata.normalize("NFKC", plain(text).casefold())


class View:
    """One message while its rules are judged.

    `place` is that of the recipient whom a condition of the kind `each` is about; None: all at once, where such a
    condition is unknown unless it is the same for all.
    `findings` are those of the filters that count, None before they ran; `tags` those of the sections before, for each
    recipient.
    """

    __slots__ = (
        "_folded", "_keys", "_octets", "_plain", "_shares", "_values", "answers", "case", "findings", "hits",
        "is_split", "ours", "place", "tags", "zone",
    )  # fmt: skip

    def __init__(
        self,
        case: Case,
        ours: Ours,
        zone: tzinfo,
        answers: Answers | None = None,
        findings: Sequence[Finding] | None = None,
    ) -> None:
        self.case, self.ours, self.zone = case, ours, zone
        self.answers: Answers = answers or {}
        self.findings = findings
        # For each recipient; None before the filters ran.
        self.tags: tuple[frozenset[str], ...] | None = None
        # A finding that concerns some recipients only is nothing that could be said of the message.
        self.is_split = any(one.recipients is not None for one in findings or ())
        self.place: int | None = 0 if len(case.envelope.recipients) == 1 else None
        self._shares: list[list[Finding]] | None = None
        self.hits: dict[object, frozenset[int] | Unknown] = {}  # of pattern pools
        self._values: dict[FieldRef, Values] = {}
        self._plain: dict[FieldRef, Sequence[str]] = {}
        self._folded: dict[FieldRef, Sequence[str]] = {}
        self._octets: dict[FieldRef, Sequence[bytes]] = {}
        self._keys: dict[FieldRef, frozenset[str]] = {}

    def tags_here(self) -> frozenset[str] | Unknown:
        """Return the tags of the recipient who is asked about, or of all if they have the same."""
        if self.tags is None:
            return NOT_YET
        if self.place is not None:
            return self.tags[self.place]
        return self.tags[0] if len(set(self.tags)) == 1 else DIFFERS

    def findings_here(self) -> Sequence[Finding] | Unknown:
        """Return the findings about the recipient who is asked about, or about all if they have the same."""
        if self.findings is None:
            return NOT_YET
        if not self.is_split:
            return self.findings
        if self.place is None:
            return DIFFERS
        if self._shares is None:
            self._shares = self._share_out(self.findings)
        return self._shares[self.place]

    def _share_out(self, findings: Sequence[Finding]) -> list[list[Finding]]:
        """Return the findings about each recipient."""
        meant = [(one, None if one.recipients is None else frozenset(one.recipients)) for one in findings]
        recipients = [recipient.address for recipient in self.case.envelope.recipients]
        return [[one for one, whom in meant if whom is None or address in whom] for address in recipients]

    @property
    def local_time(self) -> datetime:
        return self.case.now.astimezone(self.zone)

    def answer(self, question: Question) -> Answer:
        return self.answers.get(question, NOT_ASKED)

    def values(self, ref: FieldRef) -> Values:
        """Return the field's values as they were read."""
        if ref.spec.is_late:  # tags change from section to section
            return ref.spec.read(self, ref.name)
        found = self._values.get(ref)
        if found is None:
            found = self._values[ref] = ref.spec.read(self, ref.name)
        return found

    def plain(self, ref: FieldRef) -> Sequence[str] | Unknown:
        """Return the values decoded and normalised; as written where the condition says so."""
        if (ready := self._plain.get(ref)) is not None:
            return ready
        values = self.values(ref)
        if isinstance(values, Unknown):
            return values
        texts = [str(value) for value in values]
        if not ref.raw:
            texts = [plain(decode_words(text) if ref.spec.is_encoded else text) for text in texts]
        if not ref.spec.is_late:
            self._plain[ref] = texts
        return texts

    def folded(self, ref: FieldRef) -> Sequence[str] | Unknown:
        """Return the values as they are compared."""
        if (ready := self._folded.get(ref)) is not None:
            return ready
        texts = self.plain(ref)
        if isinstance(texts, Unknown):
            return texts
        ready = texts if ref.raw else [folded(text) for text in texts]
        if not ref.spec.is_late:
            self._folded[ref] = ready
        return ready

    def octets(self, ref: FieldRef) -> Sequence[bytes] | Unknown:
        """Return the values as patterns see them: decoded, in UTF-8, cut at 64 KiB."""
        if (ready := self._octets.get(ref)) is not None:
            return ready
        texts = self.plain(ref)
        if isinstance(texts, Unknown):
            return texts
        ready = [cut_octets(text) for text in texts]
        if not ref.spec.is_late:
            self._octets[ref] = ready
        return ready

    def keys(self, ref: FieldRef) -> frozenset[str] | Unknown:
        """Return the values as sets know them: a domain also as `*.` and each above it, an address by its networks."""
        if (ready := self._keys.get(ref)) is not None:
            return ready
        texts = self.folded(ref)
        if isinstance(texts, Unknown):
            return texts
        ready = frozenset(texts)
        if ref.spec.type is Type.DOMAIN:
            ready |= {f"*.{above}" for text in texts for above in parent_domains(text[:MAX_DOMAIN])}
        elif ref.spec.type is Type.NETWORK:
            ready = ready.union(*[networks_of(text) for text in texts])
        if not ref.spec.is_late:
            self._keys[ref] = ready
        return ready


def cut_octets(text: str) -> bytes:
    octets = text[:MAX_MATCHED].encode("utf-8", "replace")
    if len(octets) <= MAX_MATCHED:
        return octets
    return octets[:MAX_MATCHED].decode("utf-8", "ignore").encode()
