"""The spool of one process: append accepted mail durably, and look after the segments until they are settled."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from gateway import log, metrics
from gateway.accepted import Accepted, Location
from gateway.mail.errors import Malformed, NotAllowed, NotFound
from gateway.spool import folder, record
from gateway.spool.gathering import MAX_BATCH_BYTES, Gathering
from gateway.spool.record import Pieces
from gateway.spool.request import Request, Roll, Unwritten
from gateway.spool.room import Room
from gateway.spool.segment import failure, sync_data
from gateway.spool.writer import Writer


class Usage(Struct, frozen=True):
    """What this process's spool holds and does. Octets, counts since the start, milliseconds of the last batch."""

    bytes: int
    segments: int
    waiting: int
    records: int
    batches: int
    failures: int
    last_batch: int
    last_flush_ms: float


class Spool:
    """The folder `root/owner`, its lock and its writer thread. Make it after the last fork; `close` it at the end."""

    def __init__(
        self,
        root: Path,
        owner: str,
        *,
        segment_bytes: int = 64 * 1024 * 1024,
        roll_seconds: float = 60.0,
        min_free: int = 0,
        reserve: int = 0,
        sync: Callable[[int], None] = sync_data,
    ) -> None:
        """Take the owner's place in the spool.

        `min_free` octets of the disk stay free of mail, of which `reserve` may be used by appends that say so. Raises
        Conflict when the owner's name is taken, SpoolFull and SpoolFailed when the folder cannot be made.
        """
        self.root = root
        self.owner = owner
        try:
            self._folder = folder.create(root, owner)
        except OSError as error:
            raise failure(error) from error
        self._room = Room(root, min_free=min_free, reserve=reserve)
        self._writer = Writer(
            self._folder, self._room, segment_bytes=segment_bytes, roll_seconds=roll_seconds, sync=sync
        )
        self._gathering: Gathering | None = None

    async def append(
        self, records: Sequence[tuple[Accepted, Pieces]], *, linger: bool = False, reserve: bool = False
    ) -> list[Location]:
        """Make the records durable, all or none, and return where they lie. Only then may they be answered with 250.

        The caller notes what was written before his next `await` (see `rolled_segments`). The pieces are written from
        where they are: they must not change until this returns. `linger`: another message is about to end, so the batch
        may wait up to 2 ms for it. `reserve`: what is written makes room again, or must be told. Raises SpoolFull,
        SpoolFailed. When the caller is cancelled the records may become durable all the same; nobody notes them then.
        """
        started = time.monotonic()
        locations = await self._write(_unwritten(records), linger=linger, reserve=reserve)
        metrics.observe("flush_seconds", time.monotonic() - started)
        return locations

    def has_room(self, size: int = 0) -> bool:
        """Say whether mail of `size` octets may still come. Cheap: the disk is asked once a second."""
        return self._room.allows(size)

    def read(self, location: Location) -> tuple[Accepted, bytes]:
        """Return a record of any owner of this spool; see `record.read`."""
        return record.read(self.root, location)

    def read_range(self, location: Location, start: int, end: int) -> bytes:
        """Return a range of a message of any owner of this spool; see `record.read_range`."""
        return record.read_range(self.root, location, start, end)

    async def roll(self) -> None:
        """Close the current segment, and return when it is among the `rolled_segments`. Age and size need no call."""
        wish = Roll(asyncio.get_running_loop())
        self._writer.put(wish)
        await wish.future

    def rolled_segments(self) -> list[str]:
        """Return our closed segments, oldest first: nothing is written to them any more.

        A segment is listed only when each append to it has returned and the caller has gone on to his next `await`. By
        then he has noted that the record needs the segment; who asks the database earlier would find nobody who does.
        """
        return [segment for segment in list(self._writer.rolled) if self._writer.is_taken(segment)]

    def unlink(self, segment: str) -> None:
        """Remove a closed segment of ours. The caller knows that nothing in it is needed, and knows it durably.

        Raises NotAllowed for one that may still be written, NotFound for one that is not ours.
        """
        current = self._writer.current
        if current and current[0] == segment:
            raise NotAllowed(f"{segment} is still being written")
        if segment not in self.rolled_segments():
            raise NotFound(f"{segment} is no closed segment of {self.owner}")
        (self.root / segment).unlink(missing_ok=True)
        size = self._writer.rolled.pop(segment, 0)
        self._room.spend(-size)

    async def copy_out(self, locations: Sequence[Location]) -> list[tuple[Location, Location]]:
        """Copy records of any owner to our current segment, durably, and return (old, new) pairs.

        What can be read no more is logged and left out. The caller writes the new places to the database, *durably*,
        and only then unlinks the old segments. A crash before that leaves both copies: recovery finds the record twice,
        and an import ignores what is there already. Raises SpoolFull, SpoolFailed; what was copied before is harmless.
        """
        loop = asyncio.get_running_loop()
        pairs: list[tuple[Location, Location]] = []
        for batch in _in_batches(locations):
            copies = await loop.run_in_executor(None, self._read_copies, batch)
            news = await self._write([copy for _, copy in copies], reserve=True)
            pairs.extend((old, new) for (old, _), new in zip(copies, news, strict=True))
        return pairs

    def usage(self) -> Usage:
        """Return numbers for the metrics."""
        writer = self._writer
        current = writer.current
        sizes = list(writer.rolled.values()) + ([current[1]] if current else [])
        return Usage(
            bytes=sum(sizes),
            segments=len(sizes),
            waiting=writer.waiting,
            records=writer.records,
            batches=writer.batches,
            failures=writer.failures,
            last_batch=writer.last_batch,
            last_flush_ms=writer.last_flush_ms,
        )

    def close(self) -> None:
        """Write what waits, roll, end the thread and let go of the folder; remove it when nothing is left in it.

        What is left is adopted by whoever comes next.
        """
        if self._gathering is not None:
            self._gathering.hand_over()
        self._writer.close()
        if self._folder.is_ours and not self._folder.remove():
            self._folder.release()

    async def _write(self, records: list[Unwritten], *, linger: bool = False, reserve: bool = False) -> list[Location]:
        if not records:
            return []
        gathering = self._gathering_of(asyncio.get_running_loop())
        request = Request(records, gathering.loop, reserve=reserve)
        gathering.add(request, linger=linger)
        try:
            return await request.future
        finally:
            gathering.came_back(request)

    def _gathering_of(self, loop: asyncio.AbstractEventLoop) -> Gathering:
        if self._gathering is None or self._gathering.loop is not loop:
            self._gathering = Gathering(loop, self._writer.put)
        return self._gathering

    def _read_copies(self, locations: list[Location]) -> list[tuple[Location, Unwritten]]:
        copies = []
        for location in locations:
            try:
                frame, raw = record.read_raw(self.root, location)
            except (Malformed, NotFound) as error:
                log.error("spool.damaged", what=str(error))
            else:
                copies.append((location, Unwritten(frame.head_size, [raw], frame.body_size, frame.check)))
        return copies


def _unwritten(records: Sequence[tuple[Accepted, Pieces]]) -> list[Unwritten]:
    """Encode the heads here, in the caller: what cannot be encoded fails him and not a whole batch."""
    unwritten = []
    for accepted, pieces in records:
        head = record.encode_head(accepted)
        octets: list[bytes | memoryview] = [head]
        size = 0
        for piece in pieces:
            flat = piece if isinstance(piece, bytes) else _flat(piece)
            if flat:
                octets.append(flat)
                size += len(flat)
        unwritten.append(Unwritten(len(head), octets, size))
    return unwritten


def _flat(piece: memoryview) -> memoryview:
    """Return a view whose length is its number of octets. Raises ValueError for one that is not contiguous."""
    if not piece.c_contiguous:
        raise ValueError("a piece of a message is not contiguous")
    return piece.cast("B")


def _in_batches(locations: Sequence[Location]) -> Iterator[list[Location]]:
    """Split so that the records of one part fit into memory together; a larger one comes alone."""
    batch: list[Location] = []
    size = 0
    for location in locations:
        if batch and size + location.length > MAX_BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(location)
        size += location.length
    if batch:
        yield batch
