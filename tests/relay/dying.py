"""A process that accepts three messages, delivers the second, tells no database: `python -m tests.relay.dying SPOOL`.

Prints its owner's name and the ids of the messages, and waits to be killed.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from gateway.accepted import State
from gateway.spool import Spool, new_owner
from gateway.spool.journal import Journal
from tests.store import make


async def accept(root: Path) -> None:
    spool = Spool(root, new_owner("dying"))
    journal = Journal(root / spool.owner)
    mail = [make.accepted(at=datetime.now(UTC)) for _ in range(3)]
    await spool.append([(one, (b"Subject: x\r\n\r\n",)) for one in mail])
    journal.note([make.settled(mail[1], State.DELIVERED)])
    journal.flush()
    print(json.dumps({"owner": spool.owner, "ids": [one.id for one in mail]}), flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(accept(Path(sys.argv[1])))
