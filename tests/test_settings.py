"""Bootstrap settings: where they come from; a wrong one stops the start, names itself and says what it should be."""

from pathlib import Path

import pytest

from gateway.settings import ListenerSetting, Settings, SettingsError, load_settings, split_address


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable, and a working directory without a file."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GATEPOST_{name.upper()}", raising=False)
    monkeypatch.delenv("GATEPOST_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def problems() -> str:
    with pytest.raises(SettingsError) as error:
        load_settings()
    return str(error.value)


def test_without_any_setting_everything_lies_in_the_data_directory() -> None:
    settings = load_settings()
    assert settings.url == f"sqlite:///{Path('var').resolve()}/gatepost.db"
    assert settings.spool == Path("var/spool")
    assert settings.vault == Path("var/vault")
    assert settings.master_key == Path("var/master.key")
    assert [one.kind for one in settings.listeners] == ["inbound", "outbound"]


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST_WORKERS", "4")
    monkeypatch.setenv("GATEPOST_LISTENERS", '[{"kind": "any", "address": "[::1]:25"}]')
    monkeypatch.setenv("GATEPOST_NAMESERVERS", '["127.0.0.1:53"]')
    settings = load_settings()
    assert settings.workers == 4
    assert settings.listeners == (ListenerSetting(kind="any", address="[::1]:25"),)
    assert settings.nameservers == ("127.0.0.1:53",)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST_DATA_DIR", "")
    monkeypatch.setenv("GATEPOST_WORKERS", "")
    assert load_settings() == load_settings(data_dir=Path("var"), workers=2)


def test_the_file_is_read_and_a_variable_wins_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("gatepost.toml").write_text(
        'workers = 3\nlog_level = "debug"\nlisteners = [{kind = "any", address = "127.0.0.1:25"}]\n'
    )
    monkeypatch.setenv("GATEPOST_WORKERS", "5")
    settings = load_settings()
    assert (settings.workers, settings.log_level) == (5, "debug")
    assert settings.listeners == (ListenerSetting(kind="any", address="127.0.0.1:25"),)


def test_the_file_may_lie_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("workers = 7\n")
    monkeypatch.setenv("GATEPOST_CONFIG", str(other))
    assert load_settings().workers == 7


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("WORKERS", "0", "should be at least 1 (it is '0')"),
        ("WORKERS", "many", "should be a whole number (it is 'many')"),
        ("WORKERS", "1000", "should be at most 256"),
        ("CONNECT_SECONDS", "0", "should be more than 0"),
        ("CONNECT_SECONDS", "soon", "should be a number"),
        ("ALLOW_LOCAL_MX", "perhaps", "should be true or false"),
        ("LOG_LEVEL", "loud", "should be 'debug', 'info', 'warning' or 'error'"),
        ("LOOP", "twisted", "should be 'uvloop' or 'asyncio'"),
        ("WEB_BIND", "8080", "should be ADDRESS:PORT, for example"),
        ("WEB_BIND", "localhost:8080", "'localhost' is not an IP address"),
        ("WEB_BIND", "127.0.0.1:70000", "should be ADDRESS:PORT"),
        ("LISTENERS", "127.0.0.1:25", "should be a list in JSON, for example [{"),
        ("LISTENERS", "[]", "should name at least one"),
        ("LISTENERS", "3", "should be a list"),
        ("NAMESERVERS", "127.0.0.1:53", 'should be a list in JSON, for example ["127.0.0.1:53"]'),
        ("NAMESERVERS", '["dns.corp.example"]', "item 1: should be ADDRESS:PORT"),
        ("HOSTNAME", "mx corp", "should be a host name in ASCII"),
        ("HOSTNAME", "mx.corp.example.\r\n250 hello", "should be a host name in ASCII"),
        ("DATABASE_URL", "mysql://db/mail", "should be sqlite:////FOLDER/FILE or postgresql+psycopg://"),
        ("DATABASE_URL", "sqlite:///:memory:", "should be sqlite:////FOLDER/FILE"),
        ("TLS_CERTIFICATE", "cert.pem", "and GATEPOST_TLS_KEY: give both or neither"),
        ("RESERVE_MB", "256", "should be smaller than min_free_mb (256)"),
    ],
)
def test_a_wrong_setting_names_itself_and_says_what_it_should_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(f"GATEPOST_{name}", value)
    said = problems()
    assert says in said
    assert [f"GATEPOST_{name}" in line for line in said.splitlines()] == [True]


def test_what_is_wrong_inside_a_list_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    listeners = '[{"kind": "any", "address": "127.0.0.1:25"}, {"kind": "imap", "adress": "127.0.0.1:143"}]'
    monkeypatch.setenv("GATEPOST_LISTENERS", listeners)
    assert problems().splitlines() == [
        "GATEPOST_LISTENERS, item 2, kind: should be 'inbound', 'outbound' or 'any' (it is 'imap')",
        "GATEPOST_LISTENERS, item 2, address: is missing",
        "GATEPOST_LISTENERS, item 2, adress: no such setting; did you mean address?",
    ]


def test_all_wrong_settings_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST_WORKERS", "0")
    monkeypatch.setenv("GATEPOST_WEB_BIND", "x")
    monkeypatch.setenv("GATEPOST_WORKRES", "2")
    named = [line.partition(":")[0] for line in problems().splitlines()]
    assert sorted(named) == ["GATEPOST_WEB_BIND", "GATEPOST_WORKERS", "GATEPOST_WORKRES"]


def test_an_unknown_variable_is_named_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST_DATADIR", "/var/lib/gatepost")
    assert problems() == "GATEPOST_DATADIR: no such setting; did you mean GATEPOST_DATA_DIR?"


def test_a_wrong_line_of_the_file_is_told_with_the_file() -> None:
    Path("gatepost.toml").write_text("workers = 0\nwrokers = 2\n")
    assert problems().splitlines() == [
        "workers in gatepost.toml: should be at least 1 (it is 0)",
        "wrokers in gatepost.toml: no such setting; did you mean workers?",
    ]


def test_a_file_that_is_not_toml_is_named() -> None:
    Path("gatepost.toml").write_text("workers = \n")
    assert problems().startswith("gatepost.toml: not TOML: ")
    Path("gatepost.toml").write_bytes(b"company = '\xff'\n")
    assert problems().startswith("gatepost.toml: not TOML: ")


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATEPOST_CONFIG", str(tmp_path / "nowhere.toml"))
    assert problems() == f"GATEPOST_CONFIG: {tmp_path}/nowhere.toml is not a readable file"


def test_a_missing_certificate_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST_TLS_CERTIFICATE", "cert.pem")
    monkeypatch.setenv("GATEPOST_TLS_KEY", "key.pem")
    Path("key.pem").touch()
    assert problems() == "GATEPOST_TLS_CERTIFICATE: cert.pem is not a readable file"


def test_the_password_in_a_wrong_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST_DATABASE_URL", "postgres://gatepost:hush@db.corp.example/mail")
    assert "hush" not in problems()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:2525", ("127.0.0.1", 2525)),
        ("[::1]:25", ("::1", 25)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
    ],
)
def test_split_address(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address
