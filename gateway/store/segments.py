"""Which records in the spool somebody still needs: to deliver them, to look at them, to notify of them."""

from collections.abc import Sequence

from sqlalchemy import bindparam, select, update

from gateway.accepted import Location
from gateway.store.database import Database
from gateway.store.mail_tables import deliveries


def unsettled_segments(db: Database, segments: Sequence[str]) -> set[str]:
    """Return those of the segments that hold bytes which somebody still needs: to deliver, to review, to notify."""
    column = deliveries.c.segment
    with db.reading() as connection:
        query = select(column).where(column.in_(list(segments)), column.is_not(None)).distinct()
        return set(connection.execute(query).scalars())


def waiting_locations(db: Database, segment: str) -> list[Location]:
    """Return the records of a segment that are still needed, in their order."""
    table = deliveries.c
    query = select(table.segment, table.segment_offset, table.segment_length).where(table.segment == segment).distinct()
    with db.reading() as connection:
        return [Location(*row) for row in connection.execute(query.order_by(table.segment_offset))]


def relocate(db: Database, moves: Sequence[tuple[Location, Location]]) -> None:
    """Note that records have been copied from their old place to a new one."""
    if not moves:
        return
    table = deliveries.c
    statement = (
        update(deliveries)
        .where(table.segment == bindparam("old_segment"), table.segment_offset == bindparam("old_offset"))
        .values(segment=bindparam("to_segment"), segment_offset=bindparam("at"), segment_length=bindparam("long"))
    )
    rows = [
        {
            "old_segment": old.segment,
            "old_offset": old.offset,
            "to_segment": new.segment,
            "at": new.offset,
            "long": new.length,
        }
        for old, new in moves
    ]
    # Durable: the old segment may go at once, and no import would bring the new place back.
    with db.writing(durable=True) as connection:
        connection.execute(statement, rows)
