"""What this machine can do at most: disk flushes, durable stores, hashing, parsing.

    python -m bench.limits [--folder DIR] [--corpus DIR]

Prints one JSON object.  Every durable store is written so that a message is on the disk before it counts; batch N
means that N messages share one flush (group commit), as N concurrent SMTP connections would.  Rates are wall clock,
*_cpu_ms is the CPU of this process (user+system) per message.
"""

import argparse
import base64
import email
import email.policy
import functools
import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor


def timed(work, seconds=1.5, least=5):
    """Run `work()`, which does n messages and returns n, for about that long; (per second, CPU ms a message)."""
    work()
    count, rounds = 0, 0
    t0, c0 = time.perf_counter(), time.process_time()
    while time.perf_counter() - t0 < seconds or rounds < least:
        count += work()
        rounds += 1
    wall, cpu = time.perf_counter() - t0, time.process_time() - c0
    return {"per_s": round(count / wall, 1), "cpu_ms": round(1000 * cpu / count, 4)}


def flushes(folder):
    """Return how often 4 KB can be flushed: appended, and over blocks written before."""
    out = {}
    block = os.urandom(4096)
    for name, sync in (("fsync", os.fsync), ("fdatasync", os.fdatasync)):
        fd = os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        out[f"append_4k_{name}"] = timed(functools.partial(append_block, fd, block, sync))
        os.close(fd)
    fd = os.open(folder / "pre", os.O_CREAT | os.O_WRONLY)
    os.posix_fallocate(fd, 0, 64 << 20)
    os.pwrite(fd, bytes(1 << 20) * 64, 0)
    os.fsync(fd)
    place = [0]

    def prewritten():
        os.pwrite(fd, block, place[0] % (64 << 20))
        place[0] += 4096
        os.fdatasync(fd)
        return 1

    out["overwrite_4k_fdatasync"] = timed(prewritten)
    os.close(fd)
    return out


def append_block(fd, block, sync):
    """Append one block and flush it."""
    os.write(fd, block)
    sync(fd)
    return 1


def write_file(path, body):
    """Write one new file and flush it; returns its path."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    os.write(fd, body)
    os.fsync(fd)
    os.close(fd)
    return path


def file_per_message(folder, body, batch, flush_folder):
    """Measure a file for each message, `batch` of them at once; the folder's entry flushed too when asked."""
    spool = folder / f"files{batch}{flush_folder}"
    spool.mkdir()
    names, serial = [], itertools.count()

    def work():
        paths = [spool / f"{next(serial):08d}" for _ in range(batch)]
        names.extend(pool.map(write_file, paths, [body] * batch) if batch > 1 else [write_file(paths[0], body)])
        if flush_folder:
            fd = os.open(spool, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        while len(names) > 500:  # delivered ones are removed again
            os.unlink(names.pop(0))
        return batch

    with ThreadPoolExecutor(batch) as pool:
        result = timed(work)
    shutil.rmtree(spool)
    return result


def log_append(folder, body, batch):
    """Measure one growing file, `batch` messages to a flush."""
    path = folder / f"log{batch}"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def work():
        os.writev(fd, [body] * batch)
        os.fdatasync(fd)
        if os.lseek(fd, 0, os.SEEK_END) > 256 << 20:
            os.ftruncate(fd, 0)
        return batch

    result = timed(work)
    os.close(fd)
    path.unlink()
    return result


def sqlite_queue(folder, body, batch, with_body):
    """Measure a queue in SQLite with synchronous=FULL, `batch` messages to a transaction."""
    path = folder / f"q{batch}{with_body}.db"
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY", "cache_size=-20000"):
        db.execute("PRAGMA " + pragma)
    db.execute("CREATE TABLE message(id INTEGER PRIMARY KEY, sender TEXT, rcpt TEXT, state INT, at REAL, body BLOB)")
    db.execute("CREATE INDEX by_state ON message(state, at)")

    def work():
        row = ("a@example.com", "b@example.com", 0, time.time(), body if with_body else b"")
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO message(sender, rcpt, state, at, body) VALUES (?,?,?,?,?)", [row] * batch)
        last = db.execute("SELECT last_insert_rowid()").fetchone()[0]
        db.execute("DELETE FROM message WHERE id <= ?", (last - 2000,))  # delivered ones, in the same transaction
        db.execute("COMMIT")
        return batch

    result = timed(work)
    db.close()
    for extra in folder.glob(path.name + "*"):
        extra.unlink()
    return result


def stores(folder, size):
    """Return the rates of the durable stores with messages of `size` octets."""
    body = os.urandom(size // 2) + b"a" * (size // 2)
    out = {
        "file_per_message_1": file_per_message(folder, body, 1, False),
        "file_per_message_1_and_folder": file_per_message(folder, body, 1, True),
        "file_per_message_16_threads": file_per_message(folder, body, 16, False),
    }
    for batch in (1, 4, 16, 64):
        out[f"append_log_batch_{batch}"] = log_append(folder, body, batch)
    for batch in (1, 4, 16, 64):
        out[f"sqlite_wal_full_blob_batch_{batch}"] = sqlite_queue(folder, body, batch, True)
    for batch in (1, 16):
        out[f"sqlite_wal_full_row_only_batch_{batch}"] = sqlite_queue(folder, body, batch, False)
    return out


def headers_only(raw):
    """Parse the header of a message alone."""
    head = raw[: raw.find(b"\r\n\r\n") + 4]
    return email.message_from_bytes(head, policy=email.policy.compat32)


def lines(raw):
    """Look at each line of a message."""
    return sum(len(line) for line in raw.splitlines(True))


def walk_and_decode(raw):
    """Parse a message and decode its parts."""
    for part in email.message_from_bytes(raw, policy=email.policy.compat32).walk():
        if not part.is_multipart():
            part.get_payload(decode=True)


LINK = re.compile(rb"https?://[^\s\"'<>]+")
WORKS = {
    "sha256": lambda r: hashlib.sha256(r).digest(),
    "blake2b": lambda r: hashlib.blake2b(r).digest(),
    "find_end_of_data": lambda r: r.find(b"\r\n.\r\n"),
    "replace_dot_stuffing": lambda r: r.replace(b"\r\n..", b"\r\n."),
    "split_into_lines": lines,
    "regex_links_raw": LINK.findall,
    "headers_only_compat32": headers_only,
    "email_parse_compat32": lambda r: email.message_from_bytes(r, policy=email.policy.compat32),
    "email_parse_default_policy": lambda r: email.message_from_bytes(r, policy=email.policy.default),
    "email_parse_walk_decode": walk_and_decode,
    "email_parse_and_serialise": lambda r: email.message_from_bytes(r, policy=email.policy.compat32).as_bytes(),
}


def over(raws, function):
    """Call the function with each message; returns their number."""
    for raw in raws:
        function(raw)
    return len(raws)


def python_costs(corpus):
    """Return the CPU ms per message of the things a gateway does to each one, with the standard library."""
    raws = [p.read_bytes() for p in sorted(pathlib.Path(corpus).glob("*.eml"))]
    out = {"messages": len(raws), "mean_bytes": round(sum(map(len, raws)) / len(raws))}
    for name, function in WORKS.items():
        out[name + "_cpu_ms"] = timed(functools.partial(over, raws, function), 0.1, 1)["cpu_ms"]
    blob = os.urandom(1 << 20)
    b64 = base64.encodebytes(blob)
    out["sha256_mb_per_s"] = round(timed(lambda: len(hashlib.sha256(blob).digest()[:1]), 0.3)["per_s"] * 1.048576)
    out["base64_decode_mb_per_s"] = round(timed(lambda: bool(base64.b64decode(b64)), 0.3)["per_s"] * len(b64) / 1e6)
    return out


def main():
    """Measure by command line and print one JSON object."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--folder", default=".", help="on the disk that is to be measured")
    p.add_argument("--corpus", action="append", default=[])
    args = p.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(dir=args.folder))
    try:
        report = {
            "flushes": flushes(folder),
            "stores_20k": stores(folder, 20_000),
            "stores_140k": stores(folder, 140_000),
        }
    finally:
        shutil.rmtree(folder)
    for corpus in args.corpus:
        report[f"python_{pathlib.Path(corpus).name}"] = python_costs(corpus)
    json.dump(report, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
