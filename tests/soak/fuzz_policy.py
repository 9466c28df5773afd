"""Policy documents: whatever is in one, it is refused with reasons or it compiles, and comes back as it was stored."""

import json

import yaml
from pydantic import ValidationError

from tests.soak import fuzzing

with fuzzing.instrumented():
    from gateway.filters import registry
    from gateway.policy.compile import Policy, PolicyError, compile
    from gateway.policy.document import Document

SEEDS = (
    b"",
    b"{}",
    b"domains: {corp.example: {any_recipient: true}}\nfilters: {loop: {mode: enforce}}\n",
    b"routes: {a: {hops: [{host: mx.example, port: 25}], tls: required}}\ninbound_route: a\n",
    b"domain_routes: {x.example: b}\nroutes: {b: {}}\ntrust: {upstream: [{network: 10.0.0.0/8}]}\n",
    b"filters: {business_only: {mode: shadow, options: {exempt: [postmaster]}}}\nobserve: true\n",
    b"limits: {message_bytes: 65536, idle_seconds: 1}\nretention: {held_days: 1}\nhostname: gate.example\n",
    "domains: {exämple.example: {}}\ninternal_names: [corp.local]\n".encode(),
)


def look(data: bytes) -> None:
    try:
        raw = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError):  # the loader's own: bad escapes, impossible dates
        return
    if not isinstance(raw, dict):
        return
    try:
        document = Document.model_validate(raw)
        compiled = compile(document, registry(), hop_key=b"k" * 32, hostname="gate.example")
    except (ValidationError, PolicyError):
        return
    Policy.of(compiled, 1, 1)
    # What is stored is read back as the same, by the JSON of the database and by the operator's YAML.
    assert Document.model_validate_json(document.model_dump_json()) == document
    exported = yaml.safe_dump(json.loads(document.model_dump_json()), allow_unicode=True)
    assert Document.model_validate(yaml.safe_load(exported)) == document


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
