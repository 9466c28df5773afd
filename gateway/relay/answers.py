"""Answer all questions of a message together: what only the store knows, from the store.

A failure is `Unknown`, never empty.
"""

import asyncio
from collections.abc import Sequence

from gateway.store import conversations
from gateway.store.database import Database, DatabaseAway
from gateway.verdict import Answer, Answers, Question, SentMessageQuestion, Unknown


class StoreAnswers:
    """Answers `SentMessageQuestion` in a thread; other questions have no engine yet and are unknown."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answer(self, asked: Sequence[Question]) -> Answers:
        loop = asyncio.get_running_loop()
        return {
            question: await loop.run_in_executor(None, self._look_up, question) for question in dict.fromkeys(asked)
        }

    def _look_up(self, question: Question) -> Answer:
        if not isinstance(question, SentMessageQuestion):
            return Unknown("no engine answers this")
        try:
            return tuple(sorted(conversations.sent_with(self._database, question.message_ids)))
        except DatabaseAway:
            return Unknown("database away")
