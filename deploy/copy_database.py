"""Copy an SQLite database before an upgrade, or put the copy back: `copy_database.py save|back COPY`.

Called by install.sh while all services are stopped, with the release's Python. PostgreSQL is left to its own tools.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from gateway.settings import load_settings


def database_file(url: str) -> Path | None:
    """Return the file of an SQLite URL, None for another database."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def save(file: Path, copy: Path) -> None:
    """Copy a database as it is now, its write-ahead log included."""
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    print(f"gatepost: the database as it was is in {copy}")


def back(file: Path, copy: Path) -> None:
    """Put the copy in the database's place; what was written since is gone."""
    for log in (Path(f"{file}-wal"), Path(f"{file}-shm")):
        log.unlink(missing_ok=True)
    copy.replace(file)
    print("gatepost: the database is as it was")


def main(way: str, copy: str) -> None:
    """Do one of the two where there is something to do."""
    file = database_file(load_settings().url)
    if file is None:
        print("gatepost: the database is not SQLite; its own tools (pg_dump) make copies of it")
    elif way == "save" and file.exists():
        save(file, Path(copy))
    elif way == "back" and Path(copy).exists():
        back(file, Path(copy))


if __name__ == "__main__":
    main(*sys.argv[1:])
