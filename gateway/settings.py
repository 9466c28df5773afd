"""Bootstrap settings: what a process must know before it can read the policy.

Everything else is policy, in the database.

Read from `GATEPOST_*` environment variables over a `gatepost.toml` (named by `GATEPOST_CONFIG`, else in the working
directory or /etc/gatepost). A wrong setting stops the start, names itself and says what it should be.
"""

import difflib
import json
import os
import re
import socket
import tomllib
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

PREFIX = "GATEPOST_"
CONFIG = "GATEPOST_CONFIG"
CONFIG_PLACES = (Path("gatepost.toml"), Path("/etc/gatepost/gatepost.toml"))


class SettingsError(Exception):
    """One or more settings are wrong; the text has a line for each: name, what it is, what it should be."""


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:2525` or `[::1]:2525`; raise ValueError saying what is wanted."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("should be ADDRESS:PORT, for example 127.0.0.1:2525 or [::1]:2525")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address; should be like 127.0.0.1:2525 or [::1]:2525") from None
    return host, int(port)


def _check_address(text: str) -> str:
    split_address(text)
    return text


SocketAddress = Annotated[str, AfterValidator(_check_address)]

_URL = re.compile(r"(sqlite:///.+|postgresql\+psycopg://.*)", re.DOTALL)
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


def _check_url(text: str) -> str:
    if text and (not _URL.fullmatch(text) or text.endswith(":memory:")):
        raise ValueError(
            "should be sqlite:////FOLDER/FILE or postgresql+psycopg://USER@HOST/NAME, or empty for SQLite in the data "
            "directory"
        )
    return text


def _check_hostname(text: str) -> str:
    if text and (len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split("."))):
        raise ValueError("should be a host name in ASCII, for example mx.corp.example")
    return text


def _from_json(example: str) -> Callable[[object], object]:
    """Return what reads the list of an environment variable; a list from the file passes as it is."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError(f"should be a list in JSON, for example {example}") from None

    return read


def _check_any(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("should name at least one")
    return values


class ListenerSetting(BaseModel):
    """One address that takes SMTP, and what it is for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["inbound", "outbound", "any"]
    address: SocketAddress


Listeners = Annotated[
    tuple[ListenerSetting, ...],
    NoDecode,
    BeforeValidator(_from_json('[{"kind": "inbound", "address": "192.0.2.10:25"}]')),
    AfterValidator(_check_any),
]
SocketAddresses = Annotated[tuple[SocketAddress, ...], NoDecode, BeforeValidator(_from_json('["127.0.0.1:53"]'))]


DEFAULT_LISTENERS = (
    ListenerSetting(kind="inbound", address="127.0.0.1:2525"),
    ListenerSetting(kind="outbound", address="127.0.0.1:2526"),
)


class Settings(BaseSettings):
    """All bootstrap settings, validated and frozen."""

    # An empty variable is one that is not set: that is how an environment file leaves a line blank.
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    data_dir: Path = Field(Path("var"), description="Database, spool, vault, keys and the last good policy")
    database_url: Annotated[str, AfterValidator(_check_url)] = Field(
        "", description="Empty: SQLite in the data directory"
    )
    spool_dir: Path | None = None
    vault_dir: Path | None = None
    master_key_file: Path | None = None
    listeners: Listeners = DEFAULT_LISTENERS
    web_bind: SocketAddress = "127.0.0.1:8080"
    drop_bind: SocketAddress = "127.0.0.1:2580"
    drop_dir: Path | None = None
    workers: int = Field(2, ge=1, le=256)
    hostname: Annotated[str, AfterValidator(_check_hostname)] = Field(
        "", description="Our name in greetings and Received; empty: this machine's name"
    )
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    nameservers: SocketAddresses = Field((), description="Empty: the system's resolvers")
    allow_local_mx: bool = Field(
        False, description="Let MX records lead to loopback addresses (tests, closed networks)"
    )
    min_free_mb: int = Field(256, ge=1, description="Below this free disk space no mail is accepted")
    reserve_mb: int = Field(32, ge=0, description="The share of min_free_mb that settling and notices may use")
    max_unimported: int = Field(20_000, ge=10, description="Messages accepted while the database is away")
    memory_mb: int = Field(64, ge=1, description="Accepted mail that a worker may hold in memory for its first attempt")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    loop: Literal["uvloop", "asyncio"] = "uvloop"
    connect_seconds: float = Field(30.0, gt=0, le=300, description="To connect to a next hop")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if (file := config_file()) is not None:
            sources += (TomlConfigSettingsSource(settings_cls, toml_file=file),)
        return sources

    @property
    def database_file(self) -> Path:
        """SQLite's file, while no `database_url` names another database."""
        return self.data_dir.resolve() / "gatepost.db"

    @property
    def url(self) -> str:
        return self.database_url or f"sqlite:///{self.database_file}"

    @property
    def spool(self) -> Path:
        return self.spool_dir or self.data_dir / "spool"

    @property
    def vault(self) -> Path:
        return self.vault_dir or self.data_dir / "vault"

    @property
    def drop(self) -> Path:
        return self.drop_dir or self.data_dir / "drop"

    @property
    def master_key(self) -> Path:
        return self.master_key_file or self.data_dir / "master.key"

    @property
    def run_dir(self) -> Path:
        """Snapshots of the live processes: figures for metrics and health."""
        return self.data_dir / "run"

    @property
    def policy_file(self) -> Path:
        """The last good policy, for starts while the database is away."""
        return self.data_dir / "policy-last-good.json"

    @property
    def own_name(self) -> str:
        return self.hostname or socket.getfqdn()


def config_file() -> Path | None:
    """Return the settings file in force, or None; raise SettingsError when GATEPOST_CONFIG names a missing one."""
    named = os.environ.get(CONFIG)
    if named:
        if not _is_readable(Path(named)):
            raise SettingsError(f"{CONFIG}: {named} is not a readable file")
        return Path(named)
    return next((place for place in CONFIG_PLACES if _is_readable(place)), None)


def _is_readable(file: Path) -> bool:
    return file.is_file() and os.access(file, os.R_OK)


def load_settings(**overrides: Any) -> Settings:
    """Read and check all settings; raise SettingsError naming each wrong one."""
    problems = _unknown_variables()
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        problems += [_explain(problem) for problem in error.errors(include_url=False)]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{config_file()}: not TOML: {error}")
    else:
        problems += _wrong_together(settings)
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _unknown_variables() -> list[str]:
    """A mistyped variable would be ignored in silence; name it instead."""
    known = {_variable(name) for name in Settings.model_fields} | {CONFIG}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    return [f"{name}: no such setting{_meant(name, known)}" for name in unknown]


def _meant(name: str, known: set[str]) -> str:
    by_end = {one.removeprefix(PREFIX): one for one in known}
    close = difflib.get_close_matches(name.removeprefix(PREFIX), by_end, 1)
    return f"; did you mean {by_end[close[0]]}?" if close else " (docs/operators-guide.md lists them)"


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _place(name: str) -> str:
    """Return where the operator has to look: the variable, or the line of the file that it would override."""
    file = config_file()
    return _variable(name) if file is None or _variable(name) in os.environ else f"{name} in {file}"


# What pydantic finds wrong -> what it should be; `{...}` are the error's own figures.
SHOULD = {
    "int_parsing": "should be a whole number",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "string_type": "should be text",
    "path_type": "should be the name of a file or folder",
    "tuple_type": "should be a list",
    "model_type": "should have kind and address",
    "model_attributes_type": "should have kind and address",
    "missing": "is missing",
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be at least {ge}",
    "less_than_equal": "should be at most {le}",
    "literal_error": "should be {expected}",
    "value_error": "{error}",
}


def _explain(problem: ErrorDetails) -> str:
    name, *inside = problem["loc"]
    at = [f"item {step + 1}" if isinstance(step, int) else str(step) for step in inside]
    where = ", ".join([_place(str(name)), *at])
    if problem["type"] == "extra_forbidden":
        known = {*Settings.model_fields} if not inside else {*ListenerSetting.model_fields}
        return f"{where}: no such setting{_meant(str(problem['loc'][-1]), known)}"
    should = SHOULD.get(problem["type"], problem["msg"]).format(**problem.get("ctx", {}))
    # An URL may hold a password.
    seen = "" if name == "database_url" or problem["type"] == "missing" else f" (it is {problem['input']!r})"
    return f"{where}: {should}{seen}"


def _wrong_together(settings: Settings) -> list[str]:
    problems = []
    files = {"tls_certificate": settings.tls_certificate, "tls_key": settings.tls_key}
    given = {name: file for name, file in files.items() if file is not None}
    if len(given) == 1:
        problems.append(f"{_place('tls_certificate')} and {_place('tls_key')}: give both or neither")
    else:
        problems += [
            f"{_place(name)}: {file} is not a readable file" for name, file in given.items() if not _is_readable(file)
        ]
    if settings.reserve_mb >= settings.min_free_mb:
        problems.append(f"{_place('reserve_mb')}: should be smaller than min_free_mb ({settings.min_free_mb})")
    return problems
