"""Bootstrap settings: what a process must know before it can read the policy.

Everything else is policy, in the database.

Read from `GATEPOST_*` environment variables over a `gatepost.toml` (named by `GATEPOST_CONFIG`, else in the working
directory or /etc/gatepost). A wrong setting stops the start and names itself.
"""

import os
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

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


class ListenerSetting(BaseModel):
    """One address that takes SMTP, and what it is for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(pattern="^(inbound|outbound|any)$")
    address: SocketAddress


DEFAULT_LISTENERS = (
    ListenerSetting(kind="inbound", address="127.0.0.1:2525"),
    ListenerSetting(kind="outbound", address="127.0.0.1:2526"),
)


class Settings(BaseSettings):
    """All bootstrap settings, validated and frozen."""

    model_config = SettingsConfigDict(env_prefix="GATEPOST_", frozen=True, extra="forbid")

    data_dir: Path = Field(Path("var"), description="Database, spool, vault, keys and the last good policy")
    database_url: str = Field("", description="Empty: SQLite in the data directory")
    spool_dir: Path | None = None
    vault_dir: Path | None = None
    master_key_file: Path | None = None
    listeners: tuple[ListenerSetting, ...] = DEFAULT_LISTENERS
    web_bind: SocketAddress = "127.0.0.1:8080"
    drop_bind: SocketAddress = "127.0.0.1:2580"
    drop_dir: Path | None = None
    workers: int = Field(2, ge=1, le=256)
    hostname: str = Field("", description="Our name in greetings and Received; empty: this machine's name")
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    nameservers: tuple[SocketAddress, ...] = Field((), description="Empty: the system's resolvers")
    allow_local_mx: bool = Field(
        False, description="Let MX records lead to loopback addresses (tests, closed networks)"
    )
    min_free_mb: int = Field(256, ge=1, description="Below this free disk space no mail is accepted")
    reserve_mb: int = Field(32, ge=0, description="The share of min_free_mb that settling and notices may use")
    max_unimported: int = Field(20_000, ge=10, description="Messages accepted while the database is away")
    memory_mb: int = Field(64, ge=1, description="Accepted mail that a worker may hold in memory for its first attempt")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    loop: str = Field("uvloop", pattern="^(uvloop|asyncio)$")
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
    def url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'gatepost.db'}"

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
    named = os.environ.get("GATEPOST_CONFIG")
    if named:
        if not Path(named).is_file():
            raise SettingsError(f"GATEPOST_CONFIG: {named} is not a readable file")
        return Path(named)
    return next((place for place in CONFIG_PLACES if place.is_file()), None)


def _check_environment_names() -> None:
    """A mistyped variable would be ignored in silence; name it instead."""
    known = {f"GATEPOST_{name.upper()}" for name in Settings.model_fields} | {"GATEPOST_CONFIG"}
    unknown = sorted(name for name in os.environ if name.startswith("GATEPOST_") and name not in known)
    if unknown:
        raise SettingsError(
            "\n".join(f"{name}: no such setting (settings: {', '.join(sorted(known))})" for name in unknown)
        )


def load_settings(**overrides: Any) -> Settings:
    """Read and check all settings; raise SettingsError naming each wrong one."""
    _check_environment_names()
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem) for problem in error.errors())) from None
    except ValueError as error:  # a variable that is not JSON where JSON is wanted, a file that is not TOML
        raise SettingsError(f"settings cannot be read: {error}") from None
    _check_pairs(settings)
    return settings


def _explain(problem: Any) -> str:
    name = ".".join(str(step) for step in problem["loc"])
    return f"GATEPOST_{name.upper()}: {problem['msg']} (it is {problem['input']!r})"


def _check_pairs(settings: Settings) -> None:
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise SettingsError("GATEPOST_TLS_CERTIFICATE and GATEPOST_TLS_KEY: give both or neither")
    for name in ("tls_certificate", "tls_key"):
        file = getattr(settings, name)
        if file is not None and not os.access(file, os.R_OK):
            raise SettingsError(f"GATEPOST_{name.upper()}: {file} is not a readable file")
    if settings.reserve_mb >= settings.min_free_mb:
        raise SettingsError("GATEPOST_RESERVE_MB: should be smaller than GATEPOST_MIN_FREE_MB")
