"""Serve the web application with uvicorn on a socket that is bound already."""

import signal
import socket
import threading

import uvicorn

from gateway import metrics
from gateway.settings import Settings
from gateway.store.database import Database
from webui.app import create_app

SNAPSHOT_SECONDS = 1.0


def run(settings: Settings, listening: socket.socket) -> None:
    """Serve until SIGTERM."""
    database = Database(settings.url, data_dir=settings.data_dir, creates=False)
    config = uvicorn.Config(
        create_app(settings, database),
        loop="uvloop" if settings.loop == "uvloop" else "asyncio",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        limit_concurrency=200,
    )
    server = uvicorn.Server(config)

    def end(*_: object) -> None:
        server.should_exit = True

    # uvicorn has handlers of its own, and raises at its end what it caught: that must not cut our own end short.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    ended = threading.Event()
    beat = threading.Thread(target=_write_snapshots, args=(settings, ended), daemon=True)
    beat.start()
    try:
        server.run(sockets=[listening])
    finally:
        ended.set()
        beat.join()
        metrics.remove_snapshot(settings.run_dir, "web")
        database.close()


def _write_snapshots(settings: Settings, ended: threading.Event) -> None:
    while not ended.wait(SNAPSHOT_SECONDS):
        metrics.write_snapshot(settings.run_dir, "web")
