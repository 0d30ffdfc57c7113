# SPDX-License-Identifier: Apache-2.0
"""Settings: one declaration gives the variable, the flag and the help; nothing is guessed or ignored."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.cli.environment import accept_renamed_settings
from ran_datajobs.config import (
    RENAMED,
    Group,
    Settings,
    declarations,
    default_data_dir,
    is_loopback,
    load,
    settings_table,
)
from ran_datajobs.errors import UsageError
from ran_datajobs.local.supervisor import lock_data_dir

_ROOT = Path(__file__).resolve().parents[2]


def test_nothing_set_gives_the_defaults_of_the_contract() -> None:
    """Without variables and flags the limits are those that clients can rely on."""
    settings = load({})
    assert (settings.host, settings.port, settings.roles) == ("127.0.0.1", 8080, ("api", "worker"))
    assert settings.results_bucket == "datajobs-results"
    assert settings.finished_spelling == "FINSHED"
    assert settings.max_body == 512 * 1024 * 1024
    assert settings.max_operations == 1_000_000
    assert settings.max_open_jobs == 10_000
    assert settings.max_body_bytes_in_flight == settings.min_free_disk == 1024**3
    assert (settings.dmi_retry_timeout, settings.unknown_write_quarantine, settings.sub_job_timeout) == (
        120,
        300,
        3600,
    )
    assert settings.read_result_idle_timeout == 30
    assert settings.effective_api_root == "http://127.0.0.1:8080"


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default() -> None:
    """A flag takes precedence over a variable, and a variable over the default."""
    assert load({"DATAJOBS_PORT": "9001"}).port == 9001
    assert load({"DATAJOBS_PORT": "9001"}, {"port": "9002"}).port == 9002
    assert load({}, {}, {"port": 9003}).port == 9003
    assert load({"DATAJOBS_PORT": "9001"}, {"port": None}, {"port": 9003}).port == 9001


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("DATAJOBS_PROT", "DATAJOBS_PORT"),
        ("DATAJOBS_DATABASEURL", "DATAJOBS_DATABASE_URL"),
        ("DATAJOBS_TOKENFILE", "DATAJOBS_TOKEN_FILE"),
        ("DATAJOBS_MAXBODY", "DATAJOBS_MAX_BODY"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(wrong: str, meant: str) -> None:
    """A misspelt name is never ignored, and the message suggests the correct one."""
    with pytest.raises(UsageError, match=f"unknown setting {wrong}: did you mean {meant}\\?"):
        load({wrong: "1"})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DATAJOBS_PORT", "eighty"),
        ("DATAJOBS_PORT", "-1"),
        ("DATAJOBS_PORT", "65536"),
        ("DATAJOBS_METRICS_PORT", "prometheus"),
        ("DATAJOBS_METRICS_PORT", "0"),
        ("DATAJOBS_METRICS_PORT", "65536"),
        ("DATAJOBS_METRICS_PORT", "8080"),  # the port of the API
        ("DATAJOBS_MAX_BODY", "512MB"),
        ("DATAJOBS_MAX_BODY", "0"),
        ("DATAJOBS_DMI_RETRY_TIMEOUT", "2m"),
        ("DATAJOBS_DMI_RETRY_TIMEOUT", "nan"),
        ("DATAJOBS_BEHIND_TLS_PROXY", "maybe"),
        ("DATAJOBS_ROLES", "api,cook"),
        ("DATAJOBS_ROLES", ","),
        ("DATAJOBS_FINISHED_SPELLING", "DONE"),
        ("DATAJOBS_API_ROOT", "datajobs.example.org"),
        ("DATAJOBS_SERVER", "ftp://x"),
        ("DATAJOBS_LOG_LEVEL", "loud"),
        ("DATAJOBS_DMI_ALLOW", "localhost,https://dmi.example:x"),
    ],
)
def test_a_value_that_cannot_be_read_is_wrong_use(variable: str, text: str) -> None:
    """Every kind of setting refuses a value that it cannot parse, and quotes it."""
    with pytest.raises(UsageError, match=re.escape(repr(text.split(",")[-1]))):
        load({variable: text})


def test_each_kind_reads_its_text() -> None:
    """Numbers, sizes, seconds, lists, paths and yes/no are returned typed."""
    settings = load(
        {
            "DATAJOBS_MIN_FREE_DISK": "0",
            "DATAJOBS_READ_RESULT_IDLE_TIMEOUT": "2.5",
            "DATAJOBS_ALLOWED_HOSTS": "a.example, b.example",
            "DATAJOBS_DATA_DIR": "/srv/data",
            "DATAJOBS_BEHIND_TLS_PROXY": "yes",
            "DATAJOBS_API_ROOT": "https://jobs.example.org/",
        }
    )
    assert settings.min_free_disk == 0
    assert settings.read_result_idle_timeout == 2.5
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert settings.data_dir == Path("/srv/data")
    assert settings.behind_tls_proxy is True
    assert settings.effective_api_root == "https://jobs.example.org"


def test_a_secret_comes_from_its_variable_or_from_a_file(tmp_path: Path) -> None:
    """Secrets have no flag; a file keeps them out of the environment."""
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    assert load({"DATAJOBS_TOKEN": "s3cret"}).token == "s3cret"
    assert load({"DATAJOBS_TOKEN_FILE": str(file)}).token == "s3cret"
    with pytest.raises(UsageError, match="both set"):
        load({"DATAJOBS_TOKEN": "a", "DATAJOBS_TOKEN_FILE": str(file)})
    with pytest.raises(UsageError, match="cannot be read"):
        load({"DATAJOBS_TOKEN_FILE": str(tmp_path / "none")})
    assert [about.name for about in declarations() if about.flag is None] == [
        about.name for about in declarations() if about.kind.name == "secret"
    ]


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    """Neither the printed table nor a repr contains a secret."""
    settings = load(
        {
            "DATAJOBS_DATABASE_URL": "postgresql://jobs:hunter2@db.example:5432/jobs?sslmode=require",
            "DATAJOBS_TOKEN": "tok-1234",
            "DATAJOBS_KAFKA_SETTINGS": "sasl.password=hunter3",
        }
    )
    everything = str(settings.shown()) + repr(settings)
    for secret in ("hunter2", "tok-1234", "hunter3"):
        assert secret not in everything
    shown = settings.shown()
    assert shown["DATAJOBS_DATABASE_URL"] == "postgresql://jobs:***@db.example:5432/jobs"
    assert shown["DATAJOBS_TOKEN"] == shown["DATAJOBS_KAFKA_SETTINGS"] == "***"
    assert settings.kafka_properties == {"sasl.password": "hunter3"}


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=6))
def test_no_database_password_is_ever_shown(password: str) -> None:
    """If an address is malformed, its text is not shown."""
    url = f"postgresql://jobs:{password}@db/jobs"
    shown = Settings(data_dir=Path("/d"), database_url=url).shown()["DATAJOBS_DATABASE_URL"]
    assert shown in ("***", "postgresql://jobs:***@db/jobs")


def test_the_environment_gives_another_process_the_same_settings() -> None:
    """A child process that loads the variables has equal settings, secrets included."""
    settings = load(
        {
            "DATAJOBS_ROLES": "worker",
            "DATAJOBS_TOKEN": "t",
            "DATAJOBS_DMI_ALLOW": "plugins.example,10.0.0.0/8",
            "DATAJOBS_REGISTRATION_ERROR_500": "1",
            "DATAJOBS_RETENTION": "120",
            "DATAJOBS_DATA_DIR": "/srv/x",
        }
    )
    assert load(settings.environment()) == settings


def test_a_command_can_leave_all_but_its_own_settings_aside() -> None:
    """A setting that is not kept gets its declared default, and is named if it had been changed."""
    given = {
        "DATAJOBS_HOST": "0.0.0.0",
        "DATAJOBS_PORT": "9",
        "DATAJOBS_TOKEN": "t",
        "DATAJOBS_LOG_LEVEL": "error",
    }
    settings, unused = load(given).only("port", "data_dir", Group.LOGGING)
    assert unused == ("DATAJOBS_HOST", "DATAJOBS_TOKEN")
    assert settings == load({"DATAJOBS_PORT": "9", "DATAJOBS_LOG_LEVEL": "error"})


def test_another_listen_address_names_everything_that_is_missing() -> None:
    """No client is served without authentication on a public address: address, tokens and TLS are needed
    together."""
    with pytest.raises(UsageError) as refused:
        load({}, {"host": "0.0.0.0"}).check_exposure()
    for name in ("DATAJOBS_API_ROOT", "DATAJOBS_TOKENS_FILE", "DATAJOBS_TLS_CERT"):
        assert name in str(refused.value)
    almost = {"DATAJOBS_HOST": "10.0.0.1", "DATAJOBS_API_ROOT": "https://x", "DATAJOBS_TOKENS_FILE": "/t"}
    with pytest.raises(UsageError, match="TLS"):
        load(almost).check_exposure()
    load(almost | {"DATAJOBS_BEHIND_TLS_PROXY": "1"}).check_exposure()
    load(almost | {"DATAJOBS_TLS_CERT": "/c", "DATAJOBS_TLS_KEY": "/k"}).check_exposure()
    load({}).check_exposure()


def test_a_certificate_needs_its_key() -> None:
    """An incomplete TLS configuration is refused, on loopback too."""
    with pytest.raises(UsageError, match="needs DATAJOBS_TLS_KEY"):
        load({"DATAJOBS_TLS_CERT": "/c"}).check_exposure()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback_is_told_by_the_address(host: str, loopback: bool) -> None:
    """Only addresses of this machine count; a name that only begins like one does not."""
    assert is_loopback(host) is loopback


def test_the_state_folder_holds_the_data_dir() -> None:
    """XDG_STATE_HOME takes precedence. Without it the folder depends on the user."""
    assert default_data_dir({"XDG_STATE_HOME": "/srv/state"}) == Path("/srv/state/ran-datajobs")
    assert default_data_dir({"XDG_STATE_HOME": "relative"}) == default_data_dir({})
    assert default_data_dir({}).is_absolute()


def test_a_user_without_a_home_needs_a_data_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a container under an id that no passwd file has, commands that store nothing work, and the others
    name the setting to use. Nothing is made in a folder named ``~``."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 123456)
    monkeypatch.setattr(os, "geteuid", lambda: 123456)
    monkeypatch.chdir(tmp_path)
    settings = load({})
    with (
        pytest.raises(UsageError, match=r"no home directory.*--data-dir"),
        lock_data_dir(settings.data_dir),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    named = load({"DATAJOBS_DATA_DIR": str(tmp_path / "data")})
    with lock_data_dir(named.data_dir):
        pass


def test_the_settings_page_is_up_to_date() -> None:
    """``docs/settings.md`` holds the table that ``datajobs config --markdown`` prints."""
    page = (_ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert settings_table() in page


def test_every_setting_is_in_a_group_and_says_what_it_is() -> None:
    """No group is empty and no help text is missing."""
    assert {about.group for about in declarations()} == set(Group)
    assert all(about.help for about in declarations())


def test_the_old_bus_of_a_plugin_was_one_of_two_settings() -> None:
    """A URL is the address of the service, any other value is a list of Kafka servers."""
    environ = {"DATAJOBS_BUS": "http://127.0.0.1:8080"}
    accept_renamed_settings([], environ)
    assert environ == {"DATAJOBS_DMI_SERVICE_URL": "http://127.0.0.1:8080"}
    arguments = ["dmi", "--bus", "https://host", "--bus=a:1", "--bus"]
    assert len(accept_renamed_settings(arguments, {})) == 3
    assert arguments == [
        "dmi",
        "--dmi-service-url",
        "https://host",
        "--dmi-kafka-bootstrap=a:1",
        "--dmi-kafka-bootstrap",
    ]


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_old_name_of_a_setting_is_accepted_with_a_warning(old: str, new: str) -> None:
    """As a variable and as a flag, with its value in the same argument or in the next one."""
    environ = {f"DATAJOBS_{old.upper()}": "7", "HOME": "/"}
    (warning,) = accept_renamed_settings([], environ)
    assert environ == {f"DATAJOBS_{new.upper()}": "7", "HOME": "/"}
    assert warning.startswith(f"DATAJOBS_{old.upper()} is now called DATAJOBS_{new.upper()};")
    flag, renamed = (f"--{name.replace('_', '-')}" for name in (old, new))
    arguments = ["datajobs", "serve", f"{flag}=7", flag, "7"]
    assert len(accept_renamed_settings(arguments, {})) == 2
    assert arguments == ["datajobs", "serve", f"{renamed}=7", renamed, "7"]
    both = {f"DATAJOBS_{name.upper()}": "7" for name in (old, new)}
    with pytest.raises(UsageError, match=f"keep DATAJOBS_{new.upper()}"):
        accept_renamed_settings([], both)
    names = {about.name for about in declarations()}
    assert new in names
    assert old not in names
