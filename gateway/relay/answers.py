"""Answer all questions of a message together: what only the store knows, from the store.

Mail that was just accepted is in the spool before it is in the database, and for long while the database takes no
writes; so for what was sent both are asked. A failure is `Unknown`, never empty. Uses of a key are granted to all until
a message is about to be accepted: then they are claimed.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from gateway.spool.sent import SentIds
from gateway.store import claims, conversations
from gateway.store.database import Database, DatabaseAway
from gateway.verdict import Answer, Answers, KeyUseQuestion, Question, SentMessageQuestion, Unknown

ELSEWHERE_SECONDS = 1.0  # in which another host imports what it accepted, if the database takes it


class StoreAnswers:
    """Answers `SentMessageQuestion` in threads and grants uses; other questions have no engine yet and are unknown.

    `is_away` says whether the database takes no writes of this process.
    """

    def __init__(self, database: Database, sent: SentIds, is_away: Callable[[], bool]) -> None:
        self._database = database
        self._sent = sent
        self._is_away = is_away
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="sent")  # one: it reads on where it stopped

    async def answer(self, asked: Sequence[Question]) -> Answers:
        return {question: await self._answer(question) for question in dict.fromkeys(asked)}

    async def _answer(self, question: Question) -> Answer:
        if isinstance(question, KeyUseQuestion):
            return question.recipients
        if not isinstance(question, SentMessageQuestion):
            return Unknown("no engine answers this")
        loop = asyncio.get_running_loop()
        message_ids = question.message_ids[: conversations.MAX_ASKED]
        known = await loop.run_in_executor(None, self._in_database, message_ids)
        if known and not isinstance(known, Unknown):
            return known
        in_spool = await loop.run_in_executor(self._reader, self._in_spool, message_ids)
        # Found, or not to be told by one of the two.
        if in_spool or known:
            return in_spool or known
        # The spool first and then the database: a record leaves the spool only after its import.
        known = await loop.run_in_executor(None, self._in_database, message_ids)
        return known or await self._elsewhere(message_ids)

    async def claim(self, question: KeyUseQuestion, sha256: str, recipients: Sequence[str]) -> Answer:
        """Claim a use of a key for each of these recipients; return for whom there was one."""
        return await asyncio.get_running_loop().run_in_executor(None, self._claim, question, sha256, recipients)

    def _claim(self, question: KeyUseQuestion, sha256: str, recipients: Sequence[str]) -> Answer:
        now = datetime.now(UTC)
        try:
            return claims.claim(
                self._database, question.entry, question.uses, sha256=sha256, recipients=recipients, now=now
            )
        except DatabaseAway:
            return Unknown("database away")

    async def _elsewhere(self, message_ids: Sequence[str]) -> Answer:
        """Answer for hosts of a cluster, whose spools we do not see: not sent only if they could have told us."""
        if self._database.is_sqlite:
            return ()
        if not self._is_away():
            await asyncio.sleep(ELSEWHERE_SECONDS)
        known = await asyncio.get_running_loop().run_in_executor(None, self._in_database, message_ids)
        return known or (Unknown("database takes no writes") if self._is_away() else ())

    def _in_database(self, message_ids: Sequence[str]) -> Answer:
        try:
            return tuple(sorted(conversations.sent_with(self._database, message_ids)))
        except DatabaseAway:
            return Unknown("database away")

    def _in_spool(self, message_ids: Sequence[str]) -> Answer:
        found = self._sent.find(message_ids)
        return found if isinstance(found, Unknown) else tuple(sorted(found))
