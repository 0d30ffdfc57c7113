# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009 - a field's declaration is a call whose default is immutable
"""Declares every setting once: its field gives the variable (``DATAJOBS_`` + name), the flag and the help.

A flag overrides a variable, a variable overrides the default. Durations are in seconds, sizes in bytes. A
secret has no flag, only its variable, or a file named by the variable with the suffix ``_FILE``.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from ran_datajobs.errors import UsageError

PREFIX: Final = "DATAJOBS_"
MASK: Final = "***"
_BYTE_ORDER_MARK: Final = "\ufeff"
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


RENAMED: Final[Mapping[str, str]] = {
    "dmi_give_up": "dmi_retry_timeout",
    "lane_quarantine": "unknown_write_quarantine",
    "result_idle": "read_result_idle_timeout",
    "delivery_give_up": "delivery_retry_timeout",
    "onap_status": "registration_error_500",
    "element": "provmns_url",
    "elements_file": "provmns_servers_file",
    "bus": "dmi_kafka_bootstrap",
}
"""Old names of settings, and the new ones. Commands accept an old name with a warning, for one release. An
address as ``bus`` is now the ``dmi_service_url``."""


class Group(enum.Enum):
    """Group of settings, by the component that reads them."""

    SERVICE = "The service"
    LIMITS = "Limits and times of the service"
    ACCESS = "Access"
    OTHER_SIDE = "The plugin and the simulated network"
    CLIENT = "The command line"
    LOGGING = "Log lines"


@dataclasses.dataclass(frozen=True)
class Kind:
    """How the text of a setting is parsed. ``parse`` raises ValueError with a text that quotes the setting's;
    ``wanted`` says what ``pattern`` matches."""

    name: str
    parse: Callable[[str], Any] = str
    pattern: str = "(?s:.*)"
    wanted: str = ""
    at_most: float = math.inf


@dataclasses.dataclass(frozen=True)
class Declaration:
    """Declaration of one setting: everything but its value."""

    name: str
    kind: Kind
    group: Group
    default: Any
    help: str
    choices: tuple[str, ...]
    at_least: float

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return PREFIX + self.name.upper()

    @property
    def secret(self) -> bool:
        """True when its value is masked, and may be in a file."""
        return self.kind is _SECRET

    @property
    def flag(self) -> str | None:
        """Its flag on the command line; ``None`` for a secret."""
        return None if self.secret else "--" + self.name.replace("_", "-")

    def read(self, text: str, source: str) -> Any:
        """Parse ``text``; a UsageError names its ``source`` (a flag or a variable)."""
        text = text.strip().strip(_BYTE_ORDER_MARK).strip()
        kind = self.kind
        try:
            value = kind.parse(text) if re.fullmatch(kind.pattern, text, re.IGNORECASE) else None
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from error
        if value is None or (isinstance(value, int | float) and not self.at_least <= value <= kind.at_most):
            raise UsageError(f"{source}: {text!r} is not {kind.wanted.format(self.at_least)}")
        if self.choices:
            words = value if isinstance(value, tuple) else (value,)
            wrong = [word for word in words or ("",) if word not in self.choices]
            if wrong:
                raise UsageError(f"{source}: {wrong[0]!r} is none of {', '.join(self.choices)}")
        return value


def _address(text: str) -> str:
    address = text.rstrip("/")
    try:
        parts = urlsplit(address)
        host, _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:  # such as an invalid port or an invalid host name
        host = b""
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError(f"{text!r} is not an http or https address, such as http://127.0.0.1:8080")
    return address


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{text!r} begins with the home directory of nobody") from error
    except OSError as error:
        raise ValueError(f"{text!r} is relative to a folder that is gone: give a whole path") from error


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[,\s]+", text) if word)


def _hosts(text: str) -> tuple[str, ...]:
    words = _words(text)
    for origin in (word for word in words if "://" in word):
        _address(origin)
    return words


def _is_yes(text: str) -> bool:
    return text.lower() in {"1", "true", "yes"}


_WHOLE: Final = "a whole number of at least {:g}"
_DIGITS: Final = r"[0-9]{1,18}"
_SECONDS: Final = r"[0-9]{1,12}(\.[0-9]+)?"
_SECRET: Final = Kind("secret")
YES_NO: Final = Kind("yes/no", _is_yes, "1|true|yes|0|false|no|", "1 or 0")

Text = Annotated[str, Kind("text")]
Url = Annotated[str, Kind("address", _address)]
Count = Annotated[int, Kind("number", int, _DIGITS, _WHOLE)]
Port = Annotated[int, Kind("number", int, _DIGITS, "a port: {:g} to 65535", at_most=65535)]
Size = Annotated[int, Kind("bytes", int, _DIGITS, _WHOLE)]
Seconds = Annotated[float, Kind("seconds", float, _SECONDS, "a number of seconds of at least {:g}")]
YesNo = Annotated[bool, YES_NO]
Words = Annotated[tuple[str, ...], Kind("list", _words)]
Hosts = Annotated[tuple[str, ...], Kind("list", _hosts)]
FilePath = Annotated[Path, Kind("path", _path)]
Secret = Annotated[str, _SECRET]


def _setting(
    group: Group, default: Any, text: str, *, choices: tuple[str, ...] = (), at_least: float = 0
) -> Any:
    about = {"group": group, "help": text, "choices": choices, "at_least": at_least}
    return dataclasses.field(default=default, metadata=about)


_service: Final = functools.partial(_setting, Group.SERVICE)
_access: Final = functools.partial(_setting, Group.ACCESS)
_limit: Final = functools.partial(_setting, Group.LIMITS)
_other_side: Final = functools.partial(_setting, Group.OTHER_SIDE)
_client: Final = functools.partial(_setting, Group.CLIENT)
_logging: Final = functools.partial(_setting, Group.LOGGING)

_GIB: Final = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """The effective settings of one process; made by :func:`load`."""

    # the service
    host: Text = _service("127.0.0.1", "address to listen on")
    port: Port = _service(8080, "port to listen on; 0 takes a free one")
    roles: Words = _service(("api", "worker"), "what this process group does", choices=("api", "worker"))
    workers: Count = _service(
        1,
        "worker processes of this process group: more than one where several processors are idle",
        at_least=1,
    )
    metrics_port: Port | None = _service(
        None, "port that serves the /metrics of this process group's own processes; default: none", at_least=1
    )
    data_dir: FilePath = _service(
        None, "folder of everything that is kept; default: the system's or the user's"
    )
    api_root: Url | None = _service(
        None, "address under which clients reach the service; default: host and port"
    )
    database_url: Secret | None = _service(None, "PostgreSQL to use in place of the embedded one")
    kafka_bootstrap: Text | None = _service(None, "Kafka servers to use in place of the embedded bus")
    kafka_settings: Secret | None = _service(None, "more settings of the Kafka client, one name=value a line")
    s3_endpoint: Url | None = _service(
        None, "S3 service for the results in place of a folder; AWS_… has its keys"
    )
    objects_dir: FilePath | None = _service(
        None,
        "folder of the results where there is no S3; default: in the data dir. Several machines share one",
    )
    dmi_dialect: Text = _service(
        "auto",
        "dialect of the DMI plugins whose registration names none; auto: it is found out",
        choices=("auto", "seed", "onap"),
    )
    results_bucket: Text = _service("datajobs-results", "the service's own bucket: all results are in it")
    finished_spelling: Text = _service(
        "FINSHED", "how the status of a finished job is written on the wire", choices=("FINSHED", "FINISHED")
    )
    registration_error_500: YesNo = _service(
        False, "answer 500 in place of 207 to a registration that failed in part"
    )

    follow_ncmp: Url | None = _service(
        None, "NCMP whose inventory this service follows; default: none, handles are registered here"
    )
    follow_plugins: Words = _service(
        (),
        "addresses of that NCMP's DMI plugins whose handles get operations; the first that has one counts",
    )
    inventory_events_topic: Text | None = _service(
        None, "topic of the events of created, updated and deleted CM handles; default: no events"
    )
    onap_test_api: YesNo = _service(
        False, "offer ONAP's test interface of data jobs, which its load test calls: /do-not-use/dataJobs"
    )

    # access
    tokens_file: FilePath | None = _access(None, "file of the clients' tokens")
    tls_cert: FilePath | None = _access(None, "TLS certificate chain, PEM")
    tls_key: FilePath | None = _access(None, "TLS private key, PEM")
    behind_tls_proxy: YesNo = _access(False, "a proxy in front does the TLS")
    allowed_hosts: Words = _access((), "further host names that requests may be addressed to")
    dmi_allow: Hosts = _access(
        ("localhost", "127.0.0.0/8", "::1"),
        "hosts and networks of DMI plugins that may be registered; *.example.org takes sub-domains",
    )
    dmi_credentials_file: FilePath | None = _access(
        None,
        "file of the credentials that DMI plugins and the policy executor want, by address; it is read again "
        "when it changes",
    )
    policy_url: Url | None = _access(
        None, "address of the policy executor that must allow each write; default: none is asked"
    )
    policy_authorization: Text = _access(
        "own",
        "whose credentials it is asked with: the service's own, or the caller's, before a job is accepted",
        choices=("own", "caller"),
    )
    policy_scope: Text = _access(
        "operation",
        "what a denied operation fails: itself, or the whole job",
        choices=("operation", "job"),
    )
    policy_unreachable: Text = _access(
        "deny", "what happens to writes if it gives no usable answer", choices=("deny", "allow")
    )
    destination_allow: Words = _access(
        (), "patterns of the topics and buckets that jobs may name (kafka:ran-*, s3:*); default: every one"
    )
    destination_deny: Words = _access((), "patterns of the topics and buckets that jobs may not name")

    # limits
    max_body: Size = _limit(512 << 20, "largest request body", at_least=1)
    max_operations: Count = _limit(1_000_000, "most operations of a job", at_least=1)
    provmns_max_operations: Count = _limit(1000, "most operations of a PATCH of ProvMnS", at_least=1)
    max_open_jobs: Count = _limit(10_000, "most open jobs of a client", at_least=1)
    max_body_bytes_in_flight: Size = _limit(
        _GIB, "all request bodies being received or worked on together", at_least=1
    )
    min_free_disk: Size = _limit(_GIB, "free disk space below which no job is accepted")
    read_slots: Count = _limit(4, "reads of a data producer beside its one write", at_least=1)
    priority_aging: Seconds = _limit(600.0, "waiting that raises a sub-job's priority by one", at_least=1)
    dmi_retry_timeout: Seconds = _limit(120.0, "time in which a plugin must answer again", at_least=0.1)
    dmi_connect_timeout: Seconds = _limit(5.0, "time in which a plugin must take a connection", at_least=0.1)
    dmi_timeout: Seconds = _limit(60.0, "time in which a plugin must answer a call in full", at_least=0.1)
    dmi_result_timeout: Seconds = _limit(300.0, "the same, for the call that fetches a result", at_least=0.1)
    dmi_health_interval: Seconds = _limit(
        30.0, "time between two questions for the health of a plugin", at_least=0.1
    )
    unknown_write_quarantine: Seconds = _limit(300.0, "a lane stays closed after a write of unknown outcome")
    sub_job_timeout: Seconds = _limit(3600.0, "a sub-job that runs longer is cancelled", at_least=0.1)
    read_result_idle_timeout: Seconds = _limit(
        30.0, "wait for a read's last message if no total was reported", at_least=0.1
    )
    delivery_retry_timeout: Seconds = _limit(
        3600.0, "the delivery fails if its destination is unavailable longer", at_least=0.1
    )
    retention: Seconds = _limit(7 * 86400.0, "time to keep ended jobs, results and messages", at_least=60)
    shutdown_grace: Seconds = _limit(4.0, "time that a stop waits for calls under way to be recorded")

    # the DMI plugin and the simulated network
    dmi_kafka_bootstrap: Text | None = _other_side(
        None, "Kafka servers to which the plugin publishes the results of reads"
    )
    dmi_service_url: Url | None = _other_side(
        None,
        "service to which it publishes them where there is no Kafka; this or NCMP is asked who owns an"
        " object; default: DATAJOBS_SERVER",
    )
    provmns_url: Url | None = _other_side(
        None, "ProvMnS server that executes; default: a network in this process"
    )
    provmns_servers_file: FilePath | None = _other_side(
        None, "file of the ProvMnS servers per data producer, instead of one for all"
    )
    sites: Count = _other_side(200, "sites of the simulated network", at_least=1)
    seed: Count = _other_side(1, "the same seed gives the same network")

    # the command line
    server: Url = _client("http://127.0.0.1:8080", "address of the service")
    token: Secret | None = _client(None, "the client's token")
    output: Text = _client("table", "form of the output", choices=("table", "json"))

    # log lines
    log_level: Text = _logging("info", "lowest level shown", choices=("debug", "info", "warning", "error"))
    log_format: Text = _logging(
        "auto",
        "for people (console) or machines (json); auto: console on a terminal",
        choices=("auto", "console", "json"),
    )

    @property
    def scheme(self) -> str:
        """``https`` when this process does the TLS itself."""
        return "https" if self.tls_cert is not None else "http"

    @property
    def effective_api_root(self) -> str:
        """Address of the API in answers, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.api_root or f"{self.scheme}://{host}:{self.port}").rstrip("/")

    @property
    def kafka_properties(self) -> dict[str, str]:
        """Names and values in ``kafka_settings``."""
        lines = [line.strip() for line in (self.kafka_settings or "").splitlines()]
        pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def asks_policy_as_caller(self) -> bool:
        """True when the policy executor is asked with the credentials of the caller."""
        return self.policy_url is not None and self.policy_authorization == "caller"

    def with_changes(self, **changes: Any) -> Settings:
        """A copy with other values."""
        return dataclasses.replace(self, **changes)

    def only(self, *kept: Group | str) -> tuple[Settings, tuple[str, ...]]:
        """Reset all settings but ``kept`` (groups, or names of settings) to their declared defaults.
        Returns the settings, and the variables of those that had another value."""
        others = [about for about in declarations() if not (about.name in kept or about.group in kept)]
        changed = [about for about in others if getattr(self, about.name) != about.default]
        defaults = {about.name: about.default for about in others}
        return self.with_changes(**defaults), tuple(about.variable for about in changed)

    def environment(self) -> dict[str, str]:
        """Variables that give another process these settings: those that differ from the default."""
        return {
            about.variable: _as_text(value)
            for about in declarations()
            if (value := getattr(self, about.name)) != about.default
        }

    def __repr__(self) -> str:
        return f"Settings({self.shown()})"

    def shown(self) -> dict[str, str]:
        """Each variable and its value for display; secrets are masked."""
        return {about.variable: _masked(about, getattr(self, about.name)) for about in declarations()}

    def check_exposure(self) -> None:
        """Raise UsageError, naming what is missing, if the service is exposed without an API root, tokens
        or TLS."""
        if bool(self.tls_cert) != bool(self.tls_key):
            there, other = ("CERT", "KEY") if self.tls_cert else ("KEY", "CERT")
            raise UsageError(f"TLS needs DATAJOBS_TLS_{other} as well as DATAJOBS_TLS_{there}, which is set")
        if is_loopback(self.host):
            return
        needed = {
            "DATAJOBS_API_ROOT (the address that clients use)": self.api_root,
            "DATAJOBS_TOKENS_FILE (see: datajobs token add)": self.tokens_file,
            "TLS (DATAJOBS_TLS_CERT and DATAJOBS_TLS_KEY, or DATAJOBS_BEHIND_TLS_PROXY=1)": (
                self.tls_cert or self.behind_tls_proxy
            ),
        }
        missing = [name for name, given in needed.items() if not given]
        if missing:
            raise UsageError(
                f"--host {self.host} is not this machine alone, so it needs: " + ", ".join(missing)
            )


def is_loopback(host: str) -> bool:
    """True when only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@functools.cache
def declarations() -> tuple[Declaration, ...]:
    """Every setting, in the order of the fields."""
    hints = get_type_hints(Settings, include_extras=True)
    return tuple(
        Declaration(field.name, _kind(hints[field.name]), default=field.default, **field.metadata)
        for field in dataclasses.fields(Settings)
    )


def _kind(hint: Any) -> Kind:
    """The kind in ``Annotated[…, kind]``, or in its union with ``None``."""
    annotated = hint if get_origin(hint) is Annotated else get_args(hint)[0]
    kind: Kind = annotated.__metadata__[0]
    return kind


def load(
    environ: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from ``flags`` (by field name) and ``environ``; ``defaults`` are those of the command.

    Raises UsageError for an unknown ``DATAJOBS_`` name, with the closest known one, and for a value that
    cannot be parsed.
    """
    _refuse_unknown(environ)
    values: dict[str, Any] = {"data_dir": default_data_dir(environ)} | dict(defaults or {})
    for about in declarations():
        given = (flags or {}).get(about.name)
        if given is not None:
            values[about.name] = about.read(given, about.flag or about.name)
        elif (text := _variable(environ, about)) is not None:
            values[about.name] = about.read(text, about.variable)
    settings = Settings(**values)
    if settings.metrics_port == settings.port:
        raise UsageError(
            f"--metrics-port or DATAJOBS_METRICS_PORT: '{settings.port}' is the port of the API (--port): "
            "choose another one"
        )
    if settings.token is not None and not _TOKEN.fullmatch(settings.token):
        raise UsageError(
            "what DATAJOBS_TOKEN, or the file of DATAJOBS_TOKEN_FILE, holds is no token: it is the one line "
            "that `datajobs token add` printed"
        )
    return settings


_UNKNOWN_HOME: Final = "~"


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Default data dir: below XDG_STATE_HOME, else the system's folder for root, else the user's."""
    state = environ.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        return Path(state) / "ran-datajobs"
    if os.geteuid() == 0:
        return Path("/var/lib/ran-datajobs/data")
    home = os.path.expanduser(_UNKNOWN_HOME)  # noqa: PTH111 - unchanged without a home, where Path raises
    return Path(home) / ".local/state/ran-datajobs"


def check_home(data_dir: Path) -> None:
    """Raise UsageError if ``data_dir`` is the default one of a user without a home directory."""
    if data_dir.is_relative_to(_UNKNOWN_HOME):
        raise UsageError(
            "this user has no home directory (neither HOME nor an entry in /etc/passwd): "
            "say where data goes, with --data-dir or DATAJOBS_DATA_DIR"
        )


def _variable(environ: Mapping[str, str], about: Declaration) -> str | None:
    """Text of a variable; an empty one counts as not set. A secret may be in a file."""
    text = environ.get(about.variable) or None
    source = f"{about.variable}_FILE"
    file = environ.get(source) if about.secret else None
    if not file:
        return text
    if text is not None:
        raise UsageError(f"{about.variable} and {source} are both set: keep one")
    try:
        return _path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{source}: {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: {file} is not UTF-8 (byte {error.start})") from error
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from error


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    names = {about.variable for about in declarations()}
    names |= {f"{about.variable}_FILE" for about in declarations() if about.secret}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in names:
            (nearest,) = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.0)
            raise UsageError(f"unknown setting {name}: did you mean {nearest}?")


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)


def _masked(about: Declaration, value: Any) -> str:
    if not about.secret or value is None:
        return _as_text(value)
    parts = re.fullmatch(r"(\w+://)([^:@/?]*)(?::[^@/]*)?@([^@?]*)(?:\?[^@]*)?", value)
    if parts is None:
        return MASK
    return f"{parts[1]}{parts[2]}:{MASK}@{parts[3]}"


def settings_table() -> str:
    """All settings as the Markdown of ``docs/settings.md``."""
    lines = []
    for group in Group:
        lines.append(
            f"\n## {group.value}\n\n| variable | flag | kind | default | what |\n|---|---|---|---|---|"
        )
        for about in declarations():
            if about.group is group:
                flag = f"`{about.flag}`" if about.flag else f"none; or `{about.variable}_FILE`"
                default = f"`{_as_text(about.default)}`" if _as_text(about.default) else ""
                choices = f" ({', '.join(f'`{word}`' for word in about.choices)})" if about.choices else ""
                cells = (f"`{about.variable}`", flag, about.kind.name, default, about.help + choices)
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).strip() + "\n"
