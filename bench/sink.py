"""An SMTP server that takes everything: the next hop behind the server being measured.

    python -m bench.sink --port 2626 --control 2627

It counts messages and bytes and remembers each message's X-Load-Id (put there by load.py), so that
"nothing lost, nothing duplicated" can be checked.  The control port takes one-line requests and answers
one line of JSON each:

    STATS   {"messages", "bytes", "ids", "duplicates", "without_id", "connections", "last_at"}
    RESET   forget everything counted so far
    IDS     {"ids": {id: times seen}}
    QUIT    stop the sink

Options for failure tests: --tempfail-every K answers 451 to every K-th message, --delay-ms D holds each
final reply, --store DIR keeps each message as a file (as it came over the wire, dots unstuffed).
Data are taken in chunks, the end searched for with bytes.find: no per-line work.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import socket
import ssl
import sys
import time

from bench.load import run_loop

HEAD = 65536  # the X-Load-Id line is looked for in this much of a message
EHLO_LINES = (b"sink.example.com", b"PIPELINING", b"SIZE 104857600", b"8BITMIME", b"SMTPUTF8", b"ENHANCEDSTATUSCODES")


class Tally:
    """What has arrived since the last reset."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.messages = self.bytes = self.duplicates = self.without_id = self.connections = 0
        self.ids: dict[str, int] = {}
        self.last_at = 0.0

    def add(self, ident, size):
        self.messages += 1
        self.bytes += size
        self.last_at = time.time()
        if ident is None:
            self.without_id += 1
        else:
            seen = self.ids.get(ident, 0)
            self.ids[ident] = seen + 1
            if seen:
                self.duplicates += 1

    def stats(self):
        return {
            "messages": self.messages,
            "bytes": self.bytes,
            "ids": len(self.ids),
            "duplicates": self.duplicates,
            "without_id": self.without_id,
            "connections": self.connections,
            "last_at": self.last_at,
        }


def load_id(head: bytes):
    """Return the value of the X-Load-Id field in the first octets of a message, None without one."""
    at = head.find(b"X-Load-Id: ")
    if at < 0:
        return None
    end = head.find(b"\n", at)
    return head[at + 11 : end if end > 0 else None].strip().decode("latin-1")


class Sink(asyncio.Protocol):
    """One SMTP session of the sink."""

    tally: Tally
    args: argparse.Namespace
    tls_context = None
    counter = 0

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""
        self.data = False
        self.in_tls = False
        self.handshake = False
        self.tally.connections += 1
        transport.write(b"220 sink.example.com ESMTP\r\n")

    def connection_lost(self, exc):
        self.data = False
        self.buffer = b""

    def data_received(self, data):
        if self.data:
            self.more_data(data)
            return
        if self.handshake:  # already deciphered, but start_tls has not yet given us the new transport
            self.buffer += data
            return
        self.buffer = self.buffer + data if self.buffer else data
        out: list[bytes] = []
        while self.buffer and not self.data:
            end = self.buffer.find(b"\n")
            if end < 0:
                break
            line, self.buffer = self.buffer[:end], self.buffer[end + 1 :]
            if self.command(line[:4].upper(), out):
                return
        if out:
            self.transport.write(b"".join(out))
        if self.data:
            rest, self.buffer = self.buffer, b""
            self.size, self.head, self.tail = 0, b"", b"\r\n"
            self.kept = [] if self.args.store else None
            if rest:
                self.more_data(rest)

    def command(self, verb, out):
        """Answer one command into `out`; True when the connection is no longer ours to read commands from."""
        if verb in (b"MAIL", b"RCPT", b"RSET", b"NOOP"):
            out.append(b"250 2.0.0 Ok\r\n")
        elif verb == b"DATA":
            out.append(b"354 go ahead\r\n")
            self.data = True
        elif verb == b"EHLO":
            lines = EHLO_LINES + ((b"STARTTLS",) if self.tls_context and not self.in_tls else ())
            out += [b"250-" + x + b"\r\n" for x in lines[:-1]] + [b"250 " + lines[-1] + b"\r\n"]
        elif verb == b"HELO":
            out.append(b"250 sink.example.com\r\n")
        elif verb == b"STAR" and self.tls_context and not self.in_tls:
            self.transport.pause_reading()  # what follows is TLS: start_tls reads on
            self.transport.write(b"220 2.0.0 Ready\r\n")
            self.buffer, self.handshake = b"", True
            self.tls_task = asyncio.ensure_future(self.start_tls())
            return True
        elif verb == b"QUIT":
            out.append(b"221 2.0.0 Bye\r\n")
            self.transport.write(b"".join(out))
            self.transport.close()
            return True
        else:
            out.append(b"502 5.5.2 Not here\r\n")
        return False

    async def start_tls(self):
        loop = asyncio.get_running_loop()
        try:
            self.transport = await loop.start_tls(self.transport, self, self.tls_context, server_side=True)
            self.in_tls, self.handshake = True, False
            if self.buffer:
                data, self.buffer = self.buffer, b""
                self.data_received(data)
        except (OSError, ssl.SSLError):
            self.transport.abort()

    def more_data(self, data):
        # self.tail holds the last few bytes before `data`, so an end mark cut in two is found as well
        window = self.tail + data
        end = window.find(b"\r\n.\r\n")
        taken = data if end < 0 else data[: max(0, end + 5 - len(self.tail))]
        self.size += len(taken)
        if len(self.head) < HEAD:
            self.head += taken[: HEAD - len(self.head)]
        if self.kept is not None:
            self.kept.append(taken)
        if end < 0:
            self.tail = window[-4:]
            return
        rest = window[end + 5 :]
        self.data = False
        self.finish(rest)

    def finish(self, rest):
        Sink.counter += 1
        every = self.args.tempfail_every
        if every and Sink.counter % every == 0:
            answer = b"451 4.3.0 Sink was told to fail\r\n"
        else:
            answer = b"250 2.0.0 Ok taken\r\n"
            self.tally.add(load_id(self.head), max(0, self.size - 3))
            if self.kept is not None:
                raw = b"".join(self.kept)[:-3].replace(b"\r\n..", b"\r\n.")
                (pathlib.Path(self.args.store) / f"{Sink.counter:08d}.eml").write_bytes(raw)
        self.head = self.tail = b""
        if self.args.delay_ms:
            asyncio.get_running_loop().call_later(self.args.delay_ms / 1000, self.answer, answer, rest)
        else:
            self.answer(answer, rest)

    def answer(self, answer, rest):
        self.transport.write(answer)
        if rest or self.buffer:
            data, self.buffer = rest + self.buffer, b""
            self.data_received(data)


class Control(asyncio.Protocol):
    """The control port: one word in, one line of JSON out."""

    tally: Tally
    stop: asyncio.Event

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        word = data.strip().upper()
        if word == b"RESET":
            self.tally.reset()
        answer = {"ids": self.tally.ids} if word == b"IDS" else self.tally.stats()
        self.transport.write(json.dumps(answer).encode() + b"\n")
        if word == b"QUIT":
            self.transport.close()
            self.stop.set()


def ask(port: int, word: str, host: str = "127.0.0.1"):
    """Send one request to a sink's control port and return its answer."""
    with socket.create_connection((host, port), 10) as s:
        s.sendall(word.encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            chunk = s.recv(1 << 20)
            if not chunk:
                break
            data += chunk
    return json.loads(data)


async def serve(args):
    """Listen on both ports until QUIT or the time is up, then print the counts."""
    loop = asyncio.get_running_loop()
    tally = Sink.tally = Control.tally = Tally()
    Sink.args = args
    Control.stop = asyncio.Event()
    if args.certificate:
        Sink.tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        Sink.tls_context.load_cert_chain(args.certificate, args.key)
    await loop.create_server(Sink, "127.0.0.1", args.port, backlog=1024)
    await loop.create_server(Control, "127.0.0.1", args.control)
    print(f"sink on 127.0.0.1:{args.port}, control on 127.0.0.1:{args.control}", flush=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(Control.stop.wait(), args.max_seconds)
    print(json.dumps(tally.stats()))


def main():
    """Run the sink by command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--control", type=int, required=True)
    p.add_argument("--certificate", help="offer STARTTLS with this PEM certificate")
    p.add_argument("--key", help="its key")
    p.add_argument("--store", metavar="DIR", help="keep each message as a file there")
    p.add_argument("--tempfail-every", type=int, default=0, metavar="K")
    p.add_argument("--delay-ms", type=float, default=0, metavar="D")
    p.add_argument("--loop", choices=("auto", "asyncio", "uvloop"), default="auto")
    p.add_argument("--max-seconds", type=float, default=3600, help="stops by itself after this long")
    args = p.parse_args()
    if args.store:
        pathlib.Path(args.store).mkdir(parents=True, exist_ok=True)
    run_loop(serve(args), args.loop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
