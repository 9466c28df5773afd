"""One SMTP worker: listens, takes messages, delivers them for the first time."""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from gateway import log
from gateway.inspection.box.channel import Channel
from gateway.inspection.box.client import Box
from gateway.inspection.box.crashes import CrashTable
from gateway.mail.envelope import ListenerKind
from gateway.relay import tls
from gateway.relay.admission import AdmissionTable
from gateway.relay.answers import StoreAnswers
from gateway.relay.dispatch import make_delivery
from gateway.relay.events import SessionEvents
from gateway.relay.intake import Intake
from gateway.relay.listener import make_protocol
from gateway.relay.runtime import Runtime
from gateway.relay.services import DataCount, ListenerSettings, Services
from gateway.relay.sockets import BACKLOG, Bound
from gateway.relay.stopping import run_loop, until_signal
from gateway.settings import ListenerSetting, Settings
from gateway.spool.sent import SentIds

DRAIN_SECONDS = 20.0  # for open transactions, at an orderly end
DELIVERY_SECONDS = 5.0  # for first attempts under way; then the queue has them


class Shared(Struct, frozen=True):
    """What all workers of a host have together. Make it before they are forked."""

    admission: AdmissionTable
    channel: Channel
    crashes: CrashTable


def run(settings: Settings, number: int, listeners: Sequence[Bound], shared: Shared) -> None:
    """Run worker `number` until SIGTERM."""
    run_loop(_serve(settings, number, listeners, shared), settings.loop)


async def _serve(settings: Settings, number: int, listeners: Sequence[Bound], shared: Shared) -> None:
    stop = until_signal(asyncio.get_running_loop())
    runtime = Runtime(settings, f"smtp-{number + 1}", saves_policy=number == 0)
    await runtime.start()
    in_data = DataCount()
    box = Box(shared.channel, shared.crashes)
    if runtime.current.policy.inspects:
        box.start()
    delivery = make_delivery(runtime, runtime.importer.settle)
    answers = StoreAnswers(runtime.database, SentIds(settings.spool), lambda: runtime.importer.is_away)
    services = Services(
        policy=lambda: runtime.current.policy,
        intake=Intake(runtime.spool, runtime.importer, delivery, answers, in_data=in_data, box=box),
        admission=shared.admission.column(number),
        events=SessionEvents(runtime.importer),
        in_data=in_data,
    )
    servers = [
        await _listen(settings, one, bound, number, services)
        for one, bound in zip(settings.listeners, listeners, strict=True)
    ]
    log.info("listener.listening", addresses=[bound.address for bound in listeners])
    await stop.wait()
    log.info("listener.draining", sessions=len(services.sessions))
    await services.sessions.drain(servers, DRAIN_SECONDS)
    box.close()
    await delivery.close(DELIVERY_SECONDS)
    await runtime.stop()


async def _listen(
    settings: Settings, setting: ListenerSetting, bound: Bound, number: int, services: Services
) -> asyncio.Server:
    context = (
        tls.server_context(settings.tls_certificate, settings.tls_key)
        if settings.tls_certificate and settings.tls_key
        else None
    )
    listener = ListenerSettings(ListenerKind(setting.kind), settings.own_name, context)
    loop = asyncio.get_running_loop()
    return await loop.create_server(make_protocol(listener, services), sock=bound.sockets[number], backlog=BACKLOG)
