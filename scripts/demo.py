"""`make demo`: publish a ready policy, send thirty varied messages, and print what became of each and why.

Speaks to the gateway that `make run` has started; where none answers, one is started for as long as the demonstration
takes. Ends with status 1 when an outcome is not the expected one.
"""

import contextlib
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from gateway import metrics
from gateway.commands.migrate import prepare
from gateway.filters import registry
from gateway.mail.errors import Conflict
from gateway.policy.compile import compile
from gateway.policy.ledger import RecipientEntry, RelaySource, SendsAsUs
from gateway.settings import Settings, load_settings, split_address
from gateway.store import policies, recipients, relay_sources, sends_as_us, whitelist
from gateway.store.database import Database
from gateway.store.messages import find, outcomes
from scripts.demo_messages import COMMENT, DemoMessage, ledger, messages, policy

START_SECONDS = 60.0
EFFECT_SECONDS = 10.0
DELIVERY_SECONDS = 30.0


def main() -> int:
    settings = load_settings()
    with running(settings):
        database = Database(settings.url, data_dir=settings.data_dir)
        try:
            set_up(settings, database)
            return show(settings, database)
        finally:
            database.close()


def answers(address: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(split_address(address), 2) as probe:
        return probe.recv(64).startswith(b"220")
    return False


def listener(settings: Settings, kind: str) -> str:
    return next(one.address for one in settings.listeners if one.kind in (kind, "any"))


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Make sure that a gateway runs; end it afterwards if it was started here."""
    inbound = listener(settings, "inbound")
    if answers(inbound):
        yield
        return
    print("No gateway runs here; starting one for the demonstration.")
    prepare(settings)
    log = (settings.data_dir / "demo.log").open("ab")
    started = subprocess.Popen([sys.executable, "-m", "gateway", "run"], stdout=log, stderr=log)
    try:
        wait(lambda: answers(inbound) or started.poll() is not None, START_SECONDS, f"a greeting from {inbound}")
        if started.poll() is not None:
            raise SystemExit(f"the gateway did not start; see {settings.data_dir / 'demo.log'}")
        yield
    finally:
        started.terminate()
        started.wait(60)


def wait(condition, seconds: float, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


def set_up(settings: Settings, database: Database) -> None:
    """Publish the demonstration's policy and entries, and wait until every worker uses them."""
    now = datetime.now(UTC)
    document = policy(*split_address(settings.drop_bind))
    compile(document, registry())
    for entry in ledger():
        with contextlib.suppress(Conflict):
            if isinstance(entry, RecipientEntry):
                recipients.add(database, entry, by="demo", now=now, reason="demonstration")
            elif isinstance(entry, RelaySource):
                relay_sources.add(database, entry, by="demo", now=now)
            elif isinstance(entry, SendsAsUs):
                sends_as_us.add(database, entry, by="demo", now=now)
            else:
                whitelist.add(database, entry, by="demo", now=now)
    version = policies.publish(database, document, by="demo", comment=COMMENT, now=now)
    wait(lambda: in_force(settings, version), EFFECT_SECONDS, f"policy version {version} in every worker")
    print(f"Policy version {version}: {COMMENT}.\n")


def in_force(settings: Settings, version: int) -> bool:
    """Whether every live SMTP worker says so in its figures."""
    fresh = time.time() - 5
    shots = [
        shot for shot in metrics.read_snapshots(settings.run_dir) if shot.process.startswith("smtp") and shot.at > fresh
    ]
    return bool(shots) and all(shot.gauges.get("policy_version") == version for shot in shots)


def show(settings: Settings, database: Database) -> int:
    """Send all messages and print a line for each; return the exit status."""
    sent = [(message, *send(settings, message)) for message in messages(datetime.now(UTC))]
    wrong = 0
    for number, (message, outcome, reply) in enumerate(sent, 1):
        if outcome == "accepted":
            outcome, why = delivered(database, reply)
        else:
            why = reply
        mark = " " if outcome == message.expected else "!"
        wrong += mark == "!"
        print(f"{mark}{number:2}  {message.title:42}  {outcome:16}  {why}")
    print(f"\n{len(sent)} messages, {wrong} not as expected. See `gatepost messages`, `gatepost explain REFERENCE`,")
    print(f"the web page http://{settings.web_bind}/, and the delivered mail in {settings.drop}.")
    return 1 if wrong else 0


def send(settings: Settings, message: DemoMessage) -> tuple[str, str]:
    """Send one message; return its outcome at the door and the gateway's words."""
    host, port = split_address(listener(settings, "outbound" if message.outbound else "inbound"))
    with smtplib.SMTP(host, port, local_hostname="demo.example", timeout=30) as client:
        client.ehlo()
        client.docmd("XCLIENT", f"ADDR={'IPV6:' if ':' in message.peer else ''}{message.peer}")
        client.ehlo()
        return transaction(client, message)


def transaction(client: smtplib.SMTP, message: DemoMessage) -> tuple[str, str]:
    code, text = client.mail(message.mail_from, ["BODY=8BITMIME"])
    if code != 250:
        return "refused at MAIL", words(code, text)
    replies = [client.rcpt(recipient) for recipient in message.rcpt_to]
    if all(code >= 400 for code, _text in replies):
        return "refused at RCPT", words(*replies[0])
    code, text = client.docmd("DATA")
    if code != 354:
        return "refused", words(code, text)
    data = message.data if message.data.endswith(b"\r\n") else message.data + b"\r\n"
    client.send((b"." if data.startswith(b".") else b"") + data.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    code, text = client.getreply()
    return ("accepted" if code == 250 else "refused"), words(code, text)


def words(code: int, text: bytes) -> str:
    return f"{code} {text.decode('ascii', 'replace')}".replace("\n", " ")


def delivered(database: Database, reply: str) -> tuple[str, str]:
    """Wait for the message's deliveries; return the outcome and the next hop's words."""
    ref = reply.rpartition(" ")[2]
    deadline = time.monotonic() + DELIVERY_SECONDS
    while time.monotonic() < deadline:
        found = find(database, ref)
        rows = outcomes(database, found[0].id) if found else []
        if rows and all(row.state not in ("queued", "active") for row in rows):
            states = sorted({str(row.state) for row in rows})
            return ", ".join(states), f"{rows[0].last_reply} (ref {ref})"
        time.sleep(0.1)
    return "waiting", f"see `gatepost queue list` (ref {ref})"


if __name__ == "__main__":
    sys.exit(main())
