"""aiosmtpd with a handler that does nothing, to show what receiving alone costs.

    python -m bench.peer_aiosmtpd --port 2525 [--processes 2] [--loop asyncio|uvloop] [--chunked] [--profile FILE]

--chunked replaces smtp_DATA by one that takes the data in chunks instead of line by line (it reaches into the
StreamReader's buffer to give back what follows the end mark: a demonstration).  --profile writes a cProfile file.
Needs aiosmtpd in the Python that runs it.  Stops on SIGTERM or after --max-seconds.
"""

import argparse
import asyncio
import contextlib
import cProfile
import functools
import signal
import sys

from aiosmtpd.smtp import MISSING, SMTP, syntax

from bench.ceiling import processes
from bench.load import run_loop


class Nothing:
    """The handler: takes everything, keeps nothing."""

    async def handle_DATA(self, server, session, envelope):
        return "250 2.0.0 Ok"


class Chunked(SMTP):
    """aiosmtpd with DATA read in chunks; what follows the end mark goes back to the command loop."""

    @syntax("DATA")
    async def smtp_DATA(self, arg: str) -> None:
        if await self.check_helo_needed() or await self.check_auth_needed("DATA"):
            return
        if not self.envelope.rcpt_tos:
            await self.push("503 Error: need RCPT command")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        chunks = await self.read_data()
        if chunks is None:
            return
        content = b"".join(chunks).replace(b"\r\n..", b"\r\n.")
        self.envelope.content = self.envelope.original_content = content
        status = await self._call_handler_hook("DATA")
        self._set_post_data_state()
        await self.push("250 OK" if status is MISSING else status)

    async def read_data(self):
        """Return the chunks up to the end mark; None when there were too many octets."""
        chunks, tail, size = [], b"\r\n", 0
        while True:
            data = await self._reader.read(1 << 18)
            if not data:
                raise asyncio.CancelledError
            self._timeout_handle.cancel()
            self._reset_timeout()
            window = tail + data
            end = window.find(b"\r\n.\r\n")
            if end >= 0:
                rest = window[end + 5 :]
                chunks.append(data[: max(0, end + 2 - len(tail))])
                if rest:
                    self._reader._buffer[:0] = rest
                return chunks
            chunks.append(data)
            tail = window[-4:]
            size += len(data)
            if self.data_size_limit and size > self.data_size_limit:
                await self.push("552 Error: Too much mail data")
                self.transport.close()
                return None


async def serve(args, listener):
    """Serve on the socket until SIGTERM or the time is up."""
    loop = asyncio.get_running_loop()
    kind = Chunked if args.chunked else SMTP
    options = {"data_size_limit": 60_000_000, "enable_SMTPUTF8": True, "timeout": 300}
    make = functools.partial(kind, Nothing(), hostname="gate.example.com", **options)
    await loop.create_server(make, sock=listener, backlog=1024)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), args.max_seconds)


def main():
    """Run by command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--processes", type=int, default=1)
    p.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    p.add_argument("--chunked", action="store_true")
    p.add_argument("--profile", metavar="FILE")
    p.add_argument("--max-seconds", type=float, default=600)
    args = p.parse_args()

    def work(listener):
        run_loop(serve(args, listener), args.loop)

    if args.profile:
        profile = cProfile.Profile()
        profile.runcall(processes, args.processes, args.port, work)
        profile.dump_stats(args.profile)
    else:
        processes(args.processes, args.port, work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
