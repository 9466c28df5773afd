"""Walk through files and print what each is, a line of JSON for each. Run as a program: a parser may crash it.

python -m tests.inspection.formats.walk_files FILE ...
"""

import json
import locale
import resource
import sys
import time
from pathlib import Path

from gateway.inspection import second_opinion
from gateway.inspection.facts import Lock
from gateway.inspection.task import Bounds
from tests.inspection.formats.walking import walked

MEMORY = 512 << 20


def main(files: list[str]) -> None:
    """Walk through each file under the limits of a child of the box."""
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    second_opinion.warm_up()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for file in files:
        path = Path(file)
        began = time.process_time()
        parts = walked(path.read_bytes(), path.name, passwords=("infected",), bounds=Bounds(seconds=2.0))
        print(
            json.dumps(
                {
                    "file": file,
                    "types": parts[0].found_types,
                    "problems": sorted({problem for part in parts for problem in part.problems}),
                    "is_locked": any(part.lock is Lock.LOCKED for part in parts),
                    "count": len(parts),
                    "seconds": time.process_time() - began,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
