"""How fast can Python go?  A bare asyncio SMTP receiver and relay, to show what is possible, not to use.

    python -m bench.ceiling --port 2525 --mode discard|commit|relay [--processes 2] [--folder F] ...

  discard  receives (chunked DATA, one bytes.find per chunk) and forgets
  commit   appends each message to a segment file and answers 250 after fdatasync; messages that wait share one flush
  relay    commit, then delivers over kept pipelined connections to the sink and drops the segment when all of it is out

Several processes share the port with SO_REUSEPORT.  No scanning, no policy, one recipient check, no TLS.
Prints its pid(s); stops on SIGTERM or after --max-seconds.
"""

import argparse
import asyncio
import collections
import contextlib
import os
import pathlib
import queue
import signal
import socket
import sys
import threading

from bench.load import run_loop

LIMIT = 60_000_000


class Store(threading.Thread):
    """Group commit: everything that has come in since the last flush goes out with the next one."""

    def __init__(self, loop, folder):
        super().__init__(daemon=True)
        self.loop, self.folder = loop, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.inbox: queue.SimpleQueue = queue.SimpleQueue()
        self.segment = 0
        self.open_segment()
        self.flushes = 0

    def open_segment(self):
        self.segment += 1
        self.path = self.folder / f"{os.getpid()}.{self.segment:06d}"
        self.fd = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self.size = 0
        self.left = [0, self.path, False]  # undelivered, file, closed

    def run(self):
        while True:
            batch = [self.inbox.get()]
            while len(batch) < 200 and not self.inbox.empty():
                batch.append(self.inbox.get())
            pieces = []
            for _, message in batch:
                sender, rcpts, chunks = message[:3]
                head = b"%d %s %s\n" % (sum(map(len, chunks)), sender, b",".join(rcpts))
                pieces += [head, *chunks]
                message[3] = self.left
            self.left[0] += len(batch)
            for at in range(0, len(pieces), 500):
                part = pieces[at : at + 500]
                want, got = sum(map(len, part)), os.writev(self.fd, part)
                if got < want:
                    os.write(self.fd, b"".join(part)[got:])
                self.size += want
            os.fdatasync(self.fd)
            self.flushes += 1
            self.loop.call_soon_threadsafe(self.release, batch)
            if self.size > 64 << 20:
                os.close(self.fd)
                left = self.left
                self.open_segment()
                self.loop.call_soon_threadsafe(self.closed, left)

    @staticmethod
    def release(batch):
        for session, message in batch:
            session.committed(message)

    @staticmethod
    def closed(left):
        left[2] = True
        if not left[0]:
            left[1].unlink(missing_ok=True)


class Out(asyncio.Protocol):
    """One kept connection to the next hop; takes a message from the backlog whenever it is idle."""

    def __init__(self, relay):
        self.relay, self.buffer, self.waiting, self.message = relay, b"", 1, None
        self.stage, self.ready = "banner", False

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        if self.message is not None:
            self.relay.backlog.appendleft(self.message)
        self.relay.gone(self)

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\n")) >= 0:
            line, self.buffer = self.buffer[:end], self.buffer[end + 1 :]
            if line[3:4] == b"-":
                continue
            self.waiting -= 1
            if line[:1] not in b"23":
                self.transport.abort()
                return
            if self.waiting:
                continue
            if self.stage == "banner":
                self.stage, self.waiting = "ehlo", 1
                self.transport.write(b"EHLO gate.example.com\r\n")
            elif self.stage == "envelope":
                self.stage, self.waiting = "body", 1
                self.transport.writelines(self.message[2])
            else:
                if self.stage == "body":
                    left = self.message[3]
                    left[0] -= 1
                    if left[2] and not left[0]:
                        left[1].unlink(missing_ok=True)
                    self.message = None
                self.next()

    def next(self):
        if not self.relay.backlog:
            self.stage = "idle"
            self.relay.idle.append(self)
            return
        self.message = message = self.relay.backlog.popleft()
        self.stage, self.waiting = "envelope", 2 + len(message[1])
        self.transport.write(
            b"MAIL FROM:<%s>\r\n" % message[0] + b"".join(b"RCPT TO:<%s>\r\n" % r for r in message[1]) + b"DATA\r\n"
        )


class Relay:
    """The backlog and the kept connections that work on it."""

    def __init__(self, loop, port, most=10):
        self.loop, self.port, self.most = loop, port, most
        self.backlog: collections.deque = collections.deque()
        self.idle: list[Out] = []
        self.count = 0

    def add(self, message):
        self.backlog.append(message)
        if self.idle:
            self.idle.pop().next()
        elif self.count < self.most:
            self.count += 1
            self.loop.create_task(self.loop.create_connection(lambda: Out(self), "127.0.0.1", self.port))

    def gone(self, out):
        self.count -= 1
        if out in self.idle:
            self.idle.remove(out)
        if self.backlog:
            self.loop.call_later(0.2, lambda: self.backlog and self.add(self.backlog.popleft()))


class Receiver(asyncio.Protocol):
    """An SMTP session.  Commands are parsed by line, data by chunk."""

    store: Store | None = None
    relay: Relay | None = None

    def connection_made(self, transport):
        self.transport, self.buffer, self.in_data, self.sender, self.rcpts = transport, b"", False, None, []
        transport.write(b"220 gate.example.com ESMTP\r\n")

    def data_received(self, data):
        if self.in_data:
            self.body(data)
            return
        self.buffer += data
        out = []
        while not self.in_data and (end := self.buffer.find(b"\n")) >= 0:
            line, self.buffer = self.buffer[:end].rstrip(b"\r"), self.buffer[end + 1 :]
            self.command(line, out)
        self.transport.write(b"".join(out))
        if self.in_data and self.buffer:
            rest, self.buffer = self.buffer, b""
            self.body(rest)

    def command(self, line, out):
        """Answer one command into `out`."""
        verb = line[:4].upper()
        if verb == b"MAIL":
            self.sender = line[line.find(b"<") + 1 : line.find(b">")]
            self.rcpts = []
            out.append(b"250 2.1.0 Ok\r\n")
        elif verb == b"RCPT" and self.sender is not None:
            self.rcpts.append(line[line.find(b"<") + 1 : line.find(b">")])
            out.append(b"250 2.1.5 Ok\r\n")
        elif verb == b"DATA" and self.rcpts:
            self.in_data, self.chunks, self.tail, self.size = True, [], b"\r\n", 0
            out.append(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        elif verb == b"EHLO":
            out.append(b"250-gate.example.com\r\n250-PIPELINING\r\n250-SIZE %d\r\n250 8BITMIME\r\n" % LIMIT)
        elif verb in (b"RSET", b"NOOP", b"HELO"):
            out.append(b"250 2.0.0 Ok\r\n")
        elif verb == b"QUIT":
            self.transport.write(b"".join([*out, b"221 2.0.0 Bye\r\n"]))
            self.transport.close()
            self.buffer = b""
            out.clear()
        else:
            out.append(b"503 5.5.1 Not now\r\n")

    def body(self, data):
        end = (self.tail + data[:8]).find(b"\r\n.\r\n") if len(data) < 5 or self.tail else -1
        if end >= 0:
            cut = end + 5 - len(self.tail)
        else:
            at = data.find(b"\r\n.\r\n")
            cut = at + 5 if at >= 0 else -1
        if cut < 0:
            self.chunks.append(data)
            self.tail = (self.tail + data[-4:])[-4:] if len(data) < 4 else data[-4:]
            return
        self.chunks.append(data[:cut])
        self.buffer = data[cut:]
        self.in_data = False
        # the chunks are kept in wire form (dots stuffed, final dot): just what the next hop is sent
        message = [self.sender, self.rcpts, self.chunks, None]
        self.sender, self.rcpts, self.chunks = None, [], None
        if self.store is None:
            self.committed(message)
        else:
            self.transport.pause_reading()
            self.store.inbox.put((self, message))

    def committed(self, message):
        if not self.transport.is_closing():
            self.transport.write(b"250 2.0.0 Ok\r\n")
            if self.store is not None:
                self.transport.resume_reading()
        if self.relay is not None:
            self.relay.add(message)
        if self.buffer:
            self.data_received(b"")


async def serve(args, listener):
    """Serve on the socket until SIGTERM or the time is up."""
    loop = asyncio.get_running_loop()
    if args.mode != "discard":
        Receiver.store = Store(loop, pathlib.Path(args.folder))
        Receiver.store.start()
    if args.mode == "relay":
        Receiver.relay = Relay(loop, args.sink_port)
    await loop.create_server(Receiver, sock=listener, backlog=1024)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), args.max_seconds)


def listener_on(port):
    """Return a listening socket that shares the port with the other processes' sockets."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", port))
    s.listen(1024)
    s.setblocking(False)
    return s


def processes(count, port, work):
    """Run `work(listener)` in that many processes, each with its own socket on the port; returns when all ended."""
    children = []
    for _ in range(count - 1):
        pid = os.fork()
        if pid == 0:
            work(listener_on(port))
            os._exit(0)
        children.append(pid)
    work(listener_on(port))
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def main():
    """Run by command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--mode", choices=("discard", "commit", "relay"), default="relay")
    p.add_argument("--sink-port", type=int, default=2626)
    p.add_argument("--folder", default="ceiling-queue")
    p.add_argument("--processes", type=int, default=1)
    p.add_argument("--loop", choices=("auto", "asyncio", "uvloop"), default="auto")
    p.add_argument("--max-seconds", type=float, default=600)
    args = p.parse_args()
    processes(args.processes, args.port, lambda listener: run_loop(serve(args, listener), args.loop))
    return 0


if __name__ == "__main__":
    sys.exit(main())
