"""A light SMTP load driver (uvloop used when present).

Opens N concurrent connections to an SMTP server on this machine and sends M messages in all,
either replaying a folder of .eml files or generating plain ones, then prints one JSON object.

    python -m bench.load --port 2525 --messages 2000 --connections 20 --corpus corpus/
    python -m bench.load --port 2525 --messages 5000 --connections 10 --size 4096 --starttls

Every message gets one extra header line at its top, `X-Load-Id: <run>-<number>`, unique per message,
so that sink.py can tell whether anything was lost or duplicated.  `--accepted-ids FILE` writes the ids
the server has answered 2xx for (what the server is now responsible for).

Bodies are made ready for the wire (CRLF, dot-stuffed) before the clock starts; each transaction is one
small asyncio state machine with no per-line work, so that the driver is not the bottleneck.
Latency is per transaction: MAIL sent -> final reply to the end of data.
"""

import argparse
import asyncio
import collections
import json
import os
import pathlib
import re
import resource
import ssl
import sys
import time

LOCAL_HOSTS = ("127.", "localhost", "::1")


def wire(raw: bytes) -> bytes:
    """A message as it goes over the wire after DATA: CRLF line ends, dots stuffed, with the final dot."""
    raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if raw.startswith(b"."):
        raw = b"." + raw
    raw = raw.replace(b"\r\n.", b"\r\n..")
    if not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    return raw + b".\r\n"


def generated(size: int) -> bytes:
    """Return a plain text message of about `size` octets."""
    head = (
        b"From: Load Driver <load@partner.example.com>\r\nTo: staff@corp.example.com\r\n"
        b"Subject: generated message of %d bytes\r\nDate: Mon, 06 Jan 2025 10:00:00 +0000\r\n"
        b"Message-ID: <generated.%d@partner.example.com>\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" % (size, size)
    )
    line = b"The quick brown fox jumps over the lazy dog while the quarterly report waits.\r\n"
    count = max(1, (size - len(head)) // len(line))
    return head + line * count


class Bag:
    """What one process shares between its connections: the messages left and the results so far."""

    def __init__(self, args, bodies, senders, first, last):
        self.args, self.bodies, self.senders = args, bodies, senders
        self.next, self.last = first, last  # message numbers [first, last)
        self.accepted = self.rejected = self.tempfailed = self.broken = 0
        self.bytes = 0
        self.latencies: list[float] = []
        self.accepted_ids: list[str] = []
        self.replies: dict[str, int] = {}
        self.connect_errors = 0
        self.deadline = 0.0

    def take(self):
        """Return the next message's number, or None when there is none left or the time is up."""
        if self.next >= self.last or time.monotonic() > self.deadline:
            return None
        number = self.next
        self.next += 1
        return number

    def note(self, code: int, text: bytes):
        """Count one message's final reply; texts other than 2xx are kept, twenty kinds at most."""
        if code // 100 == 2:
            self.accepted += 1
            return
        if code // 100 == 4:
            self.tempfailed += 1
        else:
            self.rejected += 1
        key = text[:100].decode("latin-1").strip()
        if key in self.replies or len(self.replies) < 20:
            self.replies[key] = self.replies.get(key, 0) + 1


class Client(asyncio.Protocol):
    """One connection.  `done` is resolved with True when more messages may be sent on a new connection."""

    def __init__(self, bag: Bag, done: asyncio.Future):
        self.bag, self.done = bag, done
        self.buffer = b""
        self.state = "banner"
        self.sent_here = 0
        self.number = None
        self.tls = False
        self.pipelining = False
        self.awaited = 0
        self.codes: list[tuple[int, bytes]] = []

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        if self.number is not None:
            self.bag.broken += 1
            self.number = None
        if not self.done.done():
            if self.state == "banner" or (self.sent_here == 0 and self.state != "quit"):
                self.bag.connect_errors += 1
            self.done.set_result(None)

    def data_received(self, data):
        self.buffer += data
        while True:
            end = self.buffer.find(b"\n")
            if end < 0:
                return
            line, self.buffer = self.buffer[: end + 1], self.buffer[end + 1 :]
            if self.state == "ehlo":
                word = line[4:].strip().upper()
                if word == b"PIPELINING" and not self.bag.args.no_pipelining:
                    self.pipelining = True
                elif word == b"STARTTLS":
                    self.offers_tls = True
            if line[3:4] == b"-":
                continue
            try:
                code = int(line[:3])
            except ValueError:
                self.transport.abort()
                return
            self.reply(code, line)

    def send_ehlo(self):
        self.state, self.offers_tls, self.pipelining = "ehlo", False, False
        self.transport.write(b"EHLO load.example.com\r\n")

    def reply(self, code, line):
        """Take one complete reply, by what was asked."""
        getattr(self, f"{self.state}_answered")(code, line)

    def banner_answered(self, code, line):
        if code == 220:
            self.send_ehlo()
        else:
            self.refuse()

    def ehlo_answered(self, code, line):
        wants_tls = self.bag.args.starttls and not self.tls
        if code != 250 or (wants_tls and not self.offers_tls):
            self.refuse()
        elif wants_tls:
            self.state = "starttls"
            self.transport.write(b"STARTTLS\r\n")
        else:
            self.next_message()

    def starttls_answered(self, code, line):
        if code != 220:
            self.refuse()
            return
        self.tls = True
        self.tls_task = asyncio.ensure_future(self.start_tls())

    def envelope_answered(self, code, line):
        self.codes.append((code, line))
        if len(self.codes) == self.awaited:
            self.send_data()
        elif not self.pipelining:
            if code >= 400 and len(self.codes) == 1:
                self.give_up(code, line)
            else:
                self.transport.write(self.commands[len(self.codes)])

    def final_answered(self, code, line):
        bag = self.bag
        bag.latencies.append(time.perf_counter() - self.started)
        bag.note(code, line)
        if code // 100 == 2:
            bag.bytes += len(self.body)
            if bag.args.accepted_ids:
                bag.accepted_ids.append(f"{bag.args.run}-{self.number}")
        self.number = None
        self.next_message()

    def rset_answered(self, code, line):
        self.next_message()

    def quit_answered(self, code, line):
        self.transport.close()

    def refuse(self):
        """The server does not want this connection, or cannot do what was asked for."""
        self.bag.connect_errors += 1
        self.quit()

    async def start_tls(self):
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(self.transport, self, self.bag.args.tls_context)
        except (OSError, ssl.SSLError, asyncio.CancelledError):
            self.bag.connect_errors += 1
            if not self.done.done():
                self.done.set_result(None)
            return
        self.transport = transport
        self.buffer = b""
        self.send_ehlo()

    def next_message(self):
        bag = self.bag
        limit = bag.args.per_connection
        if limit and self.sent_here >= limit:
            self.quit()
            return
        number = bag.take()
        if number is None:
            self.quit()
            return
        self.sent_here += 1
        self.number = number
        place = number % len(bag.bodies)
        self.body = bag.bodies[place]
        rcpts = bag.args.rcpt_lines
        mail = b"MAIL FROM:<%s>\r\n" % bag.senders[number % len(bag.senders)]
        self.codes = []
        self.awaited = 2 + len(rcpts)
        self.state = "envelope"
        self.started = time.perf_counter()
        if self.pipelining:
            self.transport.write(mail + b"".join(rcpts) + b"DATA\r\n")
        else:
            self.commands = [mail, *rcpts, b"DATA\r\n"]
            self.transport.write(mail)

    def send_data(self):
        """The whole envelope is answered: send the message, or take the refusal as its outcome."""
        code, line = self.codes[-1]
        if code != 354:
            bad = next((answer for answer in self.codes if answer[0] >= 400), (code, line))
            self.give_up(*bad)
            return
        self.state = "final"
        if not any(c // 100 == 2 for c, _ in self.codes[1:-1]):  # pipelined DATA went through without a recipient
            self.transport.write(b".\r\n")
            self.codes.append((0, b""))
            return
        self.transport.write(b"X-Load-Id: %s-%d\r\n" % (self.bag.args.run.encode(), self.number))
        self.transport.write(self.body)

    def give_up(self, code, line):
        """The envelope was refused: the refusal is the message's outcome."""
        self.bag.latencies.append(time.perf_counter() - self.started)
        self.bag.note(code, line)
        self.number = None
        if code == 421:
            self.quit()
            return
        self.state = "rset"
        self.transport.write(b"RSET\r\n")

    def quit(self):
        self.state = "quit"
        self.transport.write(b"QUIT\r\n")
        if not self.done.done():
            self.done.set_result(True)
        asyncio.get_running_loop().call_later(0.5, self.transport.abort)


async def worker(bag: Bag):
    """One connection after another until there is nothing left to send."""
    loop = asyncio.get_running_loop()
    failures = 0
    while bag.next < bag.last and time.monotonic() < bag.deadline:
        done = loop.create_future()
        before = bag.connect_errors
        try:
            client = Client(bag, done)
            transport, _ = await loop.create_connection(lambda c=client: c, bag.args.host, bag.args.port)
        except OSError:
            bag.connect_errors += 1
        else:
            try:
                await asyncio.wait_for(done, max(0.1, bag.deadline - time.monotonic()) + 5)
            except TimeoutError:
                transport.abort()
                return
        if bag.connect_errors > before:
            failures += 1
            if failures > 20:
                return
            await asyncio.sleep(min(1.0, 0.05 * 2**failures))


async def drive(bag: Bag, connections: int):
    """Send all of a bag over that many connections at once."""
    bag.deadline = time.monotonic() + bag.args.max_seconds
    await asyncio.gather(*(worker(bag) for _ in range(connections)))


def one_process(args, bodies, senders, first, last, connections):
    """Send the messages numbered [first, last) from this process and return what came of them."""
    bag = Bag(args, bodies, senders, first, last)
    if args.starttls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        args.tls_context = context
    started = time.time()
    run_loop(drive(bag, connections), args.loop)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "accepted": bag.accepted,
        "rejected": bag.rejected,
        "tempfailed": bag.tempfailed,
        "broken": bag.broken,
        "connect_errors": bag.connect_errors,
        "bytes": bag.bytes,
        "latencies": bag.latencies,
        "ids": bag.accepted_ids,
        "replies": bag.replies,
        "started": started,
        "ended": time.time(),
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def run_loop(coroutine, which="auto"):
    """asyncio.run, on uvloop where it is installed (or asked for)."""
    if which in ("auto", "uvloop"):
        try:
            import uvloop
        except ImportError:
            if which == "uvloop":
                raise
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(coroutine)
    return asyncio.run(coroutine)


def percentile(ordered, share):
    """Return the value below which `share` (0 to 1) of the sorted values lie, None of nothing."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def parse(argv=None):
    """Read the command line; `rcpt_lines` are the RCPT commands as they go over the wire."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--host", default="127.0.0.1", help="an address of this machine only")
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--connections", type=int, default=10)
    p.add_argument("--messages", type=int, default=1000, help="messages in the whole run")
    p.add_argument(
        "--per-connection", type=int, default=0, help="reconnect after this many messages (0: keep the connection)"
    )
    p.add_argument("--corpus", help="folder of .eml files, replayed in name order, again and again")
    p.add_argument("--size", type=int, default=4096, help="size of generated messages without --corpus")
    p.add_argument(
        "--mail-from",
        action="append",
        metavar="ADDRESS",
        help="envelope sender; repeat to rotate; 'header' takes each file's From address",
    )
    p.add_argument("--rcpt", action="append", metavar="ADDRESS", help="recipient; repeat for several")
    p.add_argument("--starttls", action="store_true", help="STARTTLS, the certificate not verified")
    p.add_argument("--no-pipelining", action="store_true")
    p.add_argument("--max-seconds", type=float, default=120, help="no message is begun after this")
    p.add_argument("--processes", type=int, default=1)
    p.add_argument("--loop", choices=("auto", "asyncio", "uvloop"), default="auto")
    p.add_argument("--run", default="", help="prefix of the X-Load-Id values (default: time and pid)")
    p.add_argument("--accepted-ids", metavar="FILE", help="write the accepted ids there, one a line")
    args = p.parse_args(argv)
    if not args.host.startswith(LOCAL_HOSTS):
        p.error("--host must be a loopback address")
    args.run = args.run or f"{int(time.time()):x}.{os.getpid():x}"
    args.rcpt_lines = [b"RCPT TO:<%s>\r\n" % a.encode() for a in (args.rcpt or ["staff@corp.example.com"])]
    return args


def messages_of(args):
    """Return the raw messages that the command line asks for, and the reverse-path for each in turn."""
    senders = [s.encode() for s in (args.mail_from or ["load@partner.example.com"])]
    if args.corpus:
        files = sorted(pathlib.Path(args.corpus).glob("*.eml"))
        if not files:
            sys.exit(f"no .eml files in {args.corpus}")
        raws = [f.read_bytes() for f in files]
    else:
        raws = [generated(args.size)]
    if senders == [b"header"]:
        found = [re.search(rb"(?mi)^From:[^\n]*?([\w.+-]+@[\w.-]+)", raw) for raw in raws]
        senders = [match.group(1) if match else b"" for match in found]
    return raws, senders


def share_out(args, count):
    """Cut messages and connections into `count` parts: (first, last, connections) of each."""
    return [
        (
            args.messages * i // count,
            args.messages * (i + 1) // count,
            args.connections * (i + 1) // count - args.connections * i // count,
        )
        for i in range(count)
    ]


def many_processes(args, bodies, senders, count):
    """Fork `count` children, each with its share, and return their results."""
    children = []
    for share in share_out(args, count):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            with os.fdopen(writer, "w") as out:
                json.dump(one_process(args, bodies, senders, *share), out)
            os._exit(0)
        os.close(writer)
        children.append((pid, reader))
    results = []
    for pid, reader in children:
        with os.fdopen(reader) as source:
            results.append(json.load(source))
        os.waitpid(pid, 0)
    return results


def rate(amount, seconds, digits=1):
    """Return the amount per second, None when no time went by."""
    return round(amount / seconds, digits) if seconds else None


def summary(args, results):
    """Add the processes' results up into the one report."""
    keys = ("accepted", "rejected", "tempfailed", "broken", "connect_errors", "bytes", "cpu_s")
    total = {k: sum(r[k] for r in results) for k in keys}
    started, ended = min(r["started"] for r in results), max(r["ended"] for r in results)
    wall = ended - started
    latencies = sorted(x for r in results for x in r["latencies"])
    replies: collections.Counter[str] = collections.Counter()
    for r in results:
        replies.update(r["replies"])
    answered = total["accepted"] + total["rejected"] + total["tempfailed"]
    shares = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
    return {
        "run": args.run,
        **total,
        "cpu_s": round(total["cpu_s"], 3),
        "unsent": args.messages - answered - total["broken"],
        "started": started,
        "ended": ended,
        "wall_s": round(wall, 4),
        "msgs_per_s": rate(answered, wall),
        "accepted_per_s": rate(total["accepted"], wall),
        "mb_per_s": rate(total["bytes"] / 1e6, wall, 2),
        "mean_bytes": round(total["bytes"] / total["accepted"]) if total["accepted"] else None,
        "latency_ms": {
            name: round(1000 * percentile(latencies, share), 2) if latencies else None for name, share in shares
        },
        "load_cpu_ms_per_msg": round(1000 * total["cpu_s"] / answered, 4) if answered else None,
        "other_replies": dict(replies),
    }


def main(argv=None):
    """Send the load and print the report as JSON; 1 when nothing at all was answered."""
    args = parse(argv)
    raws, senders = messages_of(args)
    bodies = [wire(r) for r in raws]
    count = max(1, min(args.processes, args.connections, args.messages))
    if count == 1:
        results = [one_process(args, bodies, senders, 0, args.messages, args.connections)]
    else:
        results = many_processes(args, bodies, senders, count)
    if args.accepted_ids:
        pathlib.Path(args.accepted_ids).write_text("".join(i + "\n" for r in results for i in r["ids"]))
    report = summary(args, results)
    json.dump(report, sys.stdout, indent=1)
    print()
    return 0 if report["msgs_per_s"] else 1


if __name__ == "__main__":
    sys.exit(main())
