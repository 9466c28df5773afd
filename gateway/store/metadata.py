"""What all tables share: the naming convention, column types, and text made fit to be stored."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, ColumnElement, DateTime, Dialect, MetaData, Text, literal_column
from sqlalchemy.types import TypeDecorator

CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

MAX_TEXT = 1000  # characters of a hostile text that are kept

METADATA = MetaData(naming_convention=CONVENTION)

# Tables that exist on PostgreSQL only: partitioned by day there, one SQLite file for each day otherwise
# (store/days.py).
DAY_METADATA = MetaData(naming_convention=CONVENTION)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware in Python, `timestamptz` on PostgreSQL, text in UTC on SQLite. A naive value is a mistake."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """A value of JSON kept as text, which both databases show as it is. None is SQL's NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class Texts(TypeDecorator[tuple[str, ...]]):
    """A list of texts, kept as JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Iterable[str] | None, dialect: Dialect) -> str:
        return json.dumps(list(value or ()), ensure_ascii=False, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...]:
        return tuple(json.loads(value)) if value else ()


def one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    """Return the constraint that `column` holds one of `values`.

    Not by IN: SQLite makes a table of such a list for each row that it checks, which doubled the time of an insert.
    """
    return CheckConstraint(" OR ".join(f"{column} = '{value}'" for value in values), name=column)


def is_literally(column: Column[str], *values: StrEnum | str) -> ColumnElement[bool]:
    """Compare with constants in the statement: a partial index is used if the planner sees its condition."""
    constants: list[ColumnElement[str]] = [literal_column(f"'{value}'") for value in values]
    return column == constants[0] if len(constants) == 1 else column.in_(constants)


def storable(text: str, limit: int = MAX_TEXT) -> str:
    """Cut hostile text to `limit` characters and replace what a database cannot store (NUL, lone surrogates)."""
    if len(text) > limit:
        text = text[:limit]
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "\ufffd") if "\0" in text else text


def all_storable(texts: Sequence[str]) -> Sequence[str]:
    """Make several texts `storable`: looked at together, since nearly always nothing has to be done."""
    joined = "".join(texts)
    if len(joined) <= MAX_TEXT and joined.isascii() and "\0" not in joined:
        return texts
    return [storable(text) for text in texts]
