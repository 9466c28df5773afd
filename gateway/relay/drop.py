"""The built-in mail drop: an SMTP server that files everything into a Maildir.

The next hop of a first try, not a mailbox server.

It answers 250 when the file is in place (written, synced, renamed, as Maildir asks), so nothing is lost between relay
and drop.
"""

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from gateway import log
from gateway.relay.stopping import until_signal

LIMIT_BYTES = 1 << 30  # The relay in front has the real limit.
LINE_BYTES = 1 << 20


class MaildirHandler:
    """Files messages for aiosmtpd."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        for name in ("tmp", "new", "cur"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        head = f"Return-Path: <{envelope.mail_from}>\r\n" + "".join(
            f"Delivered-To: {to}\r\n" for to in envelope.rcpt_tos
        )
        raw = head.encode("utf-8", "surrogateescape") + content
        loop = asyncio.get_running_loop()
        try:
            name = await loop.run_in_executor(None, self._file, raw)
        except OSError as error:
            return f"452 4.3.1 Cannot file the message: {error.strerror}"
        log.debug("drop.received", file=name, size=len(raw))
        return "250 2.0.0 Filed"

    def _file(self, raw: bytes) -> str:
        self._count += 1
        name = f"{time.time():.6f}.P{os.getpid()}Q{self._count}.{socket.gethostname().replace('/', '_')}"
        partial = self._folder / "tmp" / name
        with partial.open("wb") as file:
            file.write(raw.replace(b"\r\n", b"\n"))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(self._folder / "new" / name)
        return name


class DropServer(SMTP):
    """aiosmtpd with the limits of real mail."""

    line_length_limit = LINE_BYTES
    command_size_limit = 4096

    async def handle_exception(self, error: Exception) -> str:
        log.error("session.failed", error=type(error).__name__)
        return "451 4.3.0 Cannot take the message now"


async def serve(folder: Path, listening: socket.socket) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    handler = MaildirHandler(folder)

    def protocol() -> Any:
        return DropServer(
            handler, data_size_limit=LIMIT_BYTES, enable_SMTPUTF8=True, hostname="drop.invalid", loop=loop
        )

    server = await loop.create_server(protocol, sock=listening)
    log.info("listener.listening", address=f"{listening.getsockname()}")
    await until_signal(loop).wait()
    server.close()
