"""The policy in force in this process: polled by revision, compiled off the loop, swapped whole, kept on disk.

A document that does not compile never replaces a good one. While the database is away the last good policy goes on,
and says so.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway import log
from gateway.filters import registry
from gateway.mail.errors import NotFound
from gateway.policy.compile import Compiled, Policy, PolicyError, compile
from gateway.policy.document import Document
from gateway.policy.ledger import LedgerEntry
from gateway.store import ledger, policies, revisions
from gateway.store.database import Database, DatabaseAway
from gateway.store.revisions import Revisions

POLL_SECONDS = 0.4  # A published change is in force within two seconds, compile time included.
SAVE_LEDGER_SECONDS = 60.0  # A ledger change alone is written to the last good copy at most so often.
MAX_SAID = 500  # characters of what is wrong with a document


class NoPolicy(Exception):
    """There is neither a database nor a last good copy to start from."""


class LastGood(Struct, frozen=True):
    """The copy on disk."""

    version: int
    revision: int
    document: str  # JSON
    entries: tuple[LedgerEntry, ...]


class CurrentPolicy:
    """Holds the one `Policy` that new transactions pin.

    `saves` is True for the one process of a group that keeps the copy on disk. While there is none, whoever has a good
    policy makes it: the others may still be starting.
    """

    def __init__(
        self,
        database: Database,
        file: Path,
        *,
        hop_key: bytes,
        match_key: bytes = b"",
        hostname: str,
        saves: bool = False,
    ) -> None:
        self._database = database
        self._file = file
        self._hop_key = hop_key
        self._match_key = match_key
        self._hostname = hostname
        self._saves = saves
        self._saved_at = 0.0
        self._seen_version = 0  # of the document last tried, good or not
        self._entries: dict[str, LedgerEntry] = {}
        self._policy: Policy | None = None
        self.is_database_away = False
        self.on_change: list[Callable[[Policy], None]] = []

    @property
    def policy(self) -> Policy:
        """The policy in force; raise NoPolicy before `start`."""
        if self._policy is None:
            raise NoPolicy("no policy has been loaded")
        return self._policy

    def start(self) -> None:
        """Load the policy; fall back on the copy on disk. Raise NoPolicy when there is neither."""
        try:
            self._refresh()
        except NoPolicy:
            raise
        except NotFound:
            self._load_last_good("the database has no policy (`gatepost migrate` makes one)")
        except Exception as error:  # border: whatever is wrong with the database, there may be a policy to go on with
            self._load_last_good(f"the database cannot be used ({_told(error)})")
            self.is_database_away = True

    async def follow(self) -> None:
        """Poll until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.refresh(loop)

    async def refresh(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look once for a newer policy."""
        before = self._policy
        try:
            await loop.run_in_executor(None, self._refresh)
        except Exception as error:  # border: one look; whatever is wrong there, the policy in force goes on
            if not self.is_database_away:
                self.is_database_away = True
                tell = log.warning if isinstance(error, DatabaseAway) else log.error
                tell("database.away", error=_told(error), policy_version=self.policy.version)
            return
        if self.is_database_away:
            self.is_database_away = False
            log.info("database.back")
        if self._policy is not before and self._policy is not None:
            for listener in self.on_change:
                listener(self._policy)

    def _refresh(self) -> None:
        now = revisions.current(self._database)
        policy = self._policy
        if policy is None or now.policy_version != self._seen_version:
            self._load_document(now)
        if self._policy is not None and self._policy.revision != now.ledger_revision:
            self._load_changes(self._policy)
        is_new = self._policy is not None and self._policy is not policy
        if is_new and (self._saves or not self._file.exists()):
            self._save(document_changed=policy is None or policy.version != self.policy.version)

    def _load_document(self, now: Revisions) -> None:
        try:
            version, document = policies.load(self._database, now.policy_version)
            compiled = self._compile(document)
        except (PolicyError, ValueError) as error:
            # The console refuses such a document; it can still come from another release or a hand in the database.
            self._refuse(now, error)
            return
        rows = ledger.load(self._database)
        self._entries = {entry.id: entry for entry in rows.entries}
        self._seen_version = version
        self._take(compiled, version, rows.revision)

    def _refuse(self, now: Revisions, error: Exception) -> None:
        """Stay with the good policy, which after a start is the copy on disk; look again only at another version."""
        said = _told(error)
        log.error("policy.refused", version=now.policy_version, error=said)
        if self._policy is None:
            self._load_last_good(f"policy version {now.policy_version} cannot be used ({said})")
        self._seen_version = now.policy_version

    def _compile(self, document: Document) -> Compiled:
        hostname = document.hostname or self._hostname
        return compile(document, registry(), hop_key=self._hop_key, match_key=self._match_key, hostname=hostname)

    def _take(self, compiled: Compiled, version: int, revision: int) -> None:
        self._policy = Policy.of(compiled, version, revision, tuple(self._entries.values()))
        log.info("policy.loaded", version=version, revision=revision, entries=len(self._entries))

    def _load_changes(self, policy: Policy) -> None:
        delta = ledger.changes(self._database, policy.revision)
        for ended in delta.ended:  # before what was added: a renewed entry ends and begins under the same id
            self._entries.pop(ended, None)
        for entry in delta.added:
            self._entries[entry.id] = entry
        self._policy = policy.with_ledger(delta)

    def _save(self, *, document_changed: bool) -> None:
        moment = time.monotonic()
        if not document_changed and moment - self._saved_at < SAVE_LEDGER_SECONDS:
            return
        self._saved_at = moment
        policy = self.policy
        copy = LastGood(
            policy.version, policy.revision, policy.document.model_dump_json(), tuple(self._entries.values())
        )
        partial = self._file.with_suffix(f".{os.getpid()}")
        try:
            partial.write_bytes(msgspec.json.encode(copy))
            partial.replace(self._file)
        except OSError as error:
            log.warning("policy.last_good", error=str(error))

    def _load_last_good(self, cause: str) -> None:
        try:
            copy = msgspec.json.decode(self._file.read_bytes(), type=LastGood)
            compiled = self._compile(Document.model_validate_json(copy.document))
        except (OSError, ValueError, PolicyError) as error:
            raise NoPolicy(f"{cause} and there is no last good policy in {self._file} ({_told(error)})") from None
        self._entries = {entry.id: entry for entry in copy.entries}
        self._take(compiled, copy.version, copy.revision)
        log.warning("policy.last_good", version=copy.version, error=cause)


def _told(error: Exception) -> str:
    """Return an error in one line."""
    text = " ".join(str(error).split())[:MAX_SAID]
    return text if isinstance(error, DatabaseAway | PolicyError) else f"{type(error).__name__}: {text}"
