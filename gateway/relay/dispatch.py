"""The delivery of one process, put together: resolver, next hops, connections, and where results go."""

from collections.abc import Callable, Sequence

from gateway import metrics
from gateway.accepted import Settled
from gateway.engines.dns import DnsResolver
from gateway.relay.client import Timeouts
from gateway.relay.delivery import Delivery
from gateway.relay.hops import Hops, Ourselves
from gateway.relay.pool import Pool, PoolSettings
from gateway.relay.runtime import MIB, Runtime
from gateway.settings import Settings, split_address


def make_delivery(runtime: Runtime, settled: Callable[[Sequence[Settled]], None]) -> Delivery:
    """Return the delivery of a process. `settled` takes results in the loop."""
    settings = runtime.settings
    nameservers = tuple(split_address(one) for one in settings.nameservers)
    hops = Hops(DnsResolver(nameservers), lambda: _ourselves(settings, runtime.current.policy.hostname))
    pool = Pool(
        lambda: runtime.current.policy.hostname, PoolSettings(timeouts=Timeouts(connect=settings.connect_seconds))
    )
    delivery = Delivery(pool, hops, settled, memory_bytes=settings.memory_mb * MIB)
    metrics.watch("first_attempts", lambda: delivery.first_attempts)
    return delivery


def _ourselves(settings: Settings, hostname: str) -> Ourselves:
    listening = frozenset(split_address(one.address) for one in settings.listeners)
    return Ourselves(hostname, listening, settings.allow_local_mx)
