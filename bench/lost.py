"""After a crash test: did everything that the server had accepted reach the sink?

    python -m bench.load ... --accepted-ids accepted.txt &     # meanwhile: kill -9 the server, start it again
    python -m bench.lost accepted.txt --control 2691 --wait 60

Prints one JSON object; exits 1 when an accepted message is missing after --wait seconds.  Duplicates are counted,
not failed: a crash between delivery and noting it may repeat a message.
"""

import argparse
import json
import pathlib
import sys
import time

from bench.sink import ask


def main():
    """Compare by command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("accepted", help="file that bench.load --accepted-ids has written")
    p.add_argument("--control", type=int, required=True)
    p.add_argument("--wait", type=float, default=60)
    args = p.parse_args()
    accepted = set(pathlib.Path(args.accepted).read_text().split())
    end = time.time() + args.wait
    while True:
        arrived = ask(args.control, "IDS")["ids"]
        missing = accepted - arrived.keys()
        if not missing or time.time() > end:
            break
        time.sleep(0.5)
    json.dump(
        {
            "accepted": len(accepted),
            "missing": len(missing),
            "missing_ids": sorted(missing)[:20],
            "arrived_twice": sum(1 for i in accepted if arrived.get(i, 0) > 1),
            "arrived_unanswered": sum(1 for i in arrived if i not in accepted),
        },
        sys.stdout,
        indent=1,
    )
    print()
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
