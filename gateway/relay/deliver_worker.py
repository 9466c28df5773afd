"""The deliver process: works on the queue, sends notices, takes over what dead processes left."""

import asyncio
import contextlib

from gateway.accepted import Accepted, Location
from gateway.relay.dispatch import make_delivery
from gateway.relay.notices import Notices
from gateway.relay.queue_runner import QueueRunner
from gateway.relay.runtime import Runtime
from gateway.relay.stopping import run_loop, until_signal
from gateway.settings import Settings
from gateway.spool import Pieces

DELIVERY_SECONDS = 15.0  # for attempts under way, at an orderly end


def run(settings: Settings) -> None:
    """Work until SIGTERM."""
    run_loop(_serve(settings), settings.loop)


async def _serve(settings: Settings) -> None:
    stop = until_signal(asyncio.get_running_loop())
    runtime = Runtime(settings, "deliver", adopts=True)
    await runtime.start()
    importer = runtime.importer
    delivery = make_delivery(runtime, importer.settle)

    def queued(accepted: Accepted, location: Location, pieces: Pieces) -> None:
        importer.put(accepted, location)
        delivery.first_attempt(accepted, pieces, runtime.current.policy)

    notices = Notices(runtime.database, runtime.spool, lambda: runtime.current.policy, queued, owner=runtime.owner)
    runner = QueueRunner(
        runtime.database,
        settings.spool,
        runtime.owner,
        delivery,
        lambda: runtime.current.policy,
        notices,
        after_settle=importer.after_settle,
    )
    runtime.keeper.on_adopted = runner.wake
    work = asyncio.ensure_future(runner.run())
    runtime.watch_over(work)
    await stop.wait()
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    await runner.close(DELIVERY_SECONDS)
    await delivery.close(DELIVERY_SECONDS)
    await runtime.stop()
