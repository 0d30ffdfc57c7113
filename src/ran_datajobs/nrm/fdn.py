# SPDX-License-Identifier: Apache-2.0
"""Full distinguished names: parse, normalise, prefixes (pure).

An FDN is a list of RDNs ``Class=value`` from the root down (3GPP TS 32.300 §7). Three spellings are accepted:

* slash form with a leading slash, ``/SubNetwork=SN1/ManagedElement=ME1`` (TS 32.158 §4.2), values
  percent-decoded; a comma or an equals sign in a value is literal;
* the same without the leading slash;
* comma form, when the first separator is a comma: ``SubNetwork=SN1,ManagedElement=ME1`` with ``\\2C``-style
  escapes; blanks around commas are dropped (TS 32.300 §7.3).

Case matters, and ``DC=`` RDNs are RDNs like any other. Every lookup uses the normal form of :func:`key`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from ran_datajobs.errors import InvalidFdn

MAX_LENGTH: Final = 4000
"""Maximum length of an FDN in characters."""

MAX_RDNS: Final = 64
"""Maximum RDNs of an FDN."""

CLASS: Final = r"[A-Za-z_][A-Za-z0-9_.:-]*+"
"""Regular expression for the name of a class."""

_CLASS_NAME: Final = re.compile(CLASS)
# A slash form that is its own normal form: printable ASCII, nothing encoded, no blank and none of % * # ? and
# the comma. Nearly all paths match; all others take the slow path.
_PLAIN_RDN: Final = rf"{CLASS}=[!\"$&-)+\-.0->@-~]++"
PLAIN: Final = rf"/?{_PLAIN_RDN}(?:/{_PLAIN_RDN}){{0,{MAX_RDNS - 1}}}+"
"""Regular expression for FDNs in normal form: without its leading slash each is its own key."""

_plain: Final = re.compile(PLAIN).fullmatch
_RAW_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE: Final = re.compile(r"\\([0-9A-Fa-f]{2})?")
_RESERVED_IN_COMMA_FORM: Final = re.compile(r'[=+<>#;"]')
_BLANKS: Final = " \t\r\n"
_UNSAFE_IN_KEY: Final = re.compile(r"[%/,*#?\x00-\x1f\x7f-\x9f]")
_UNSAFE_IN_PATH: Final = re.compile(r"[%/?#*\x00-\x1f\x7f-\x9f]")
_FIRST_SEPARATOR: Final = re.compile(r"[/,]")
_BAD_TILDE: Final = re.compile(r"~(?![01])")

Rdns = tuple[tuple[str, str], ...]
_ReadValue = Callable[[str, str], str]


def parse(text: str) -> Rdns:
    """Parse an FDN into RDNs (class, value) from the root down, values unescaped.

    Raises InvalidFdn that names the invalid part. At most MAX_LENGTH characters and MAX_RDNS RDNs.
    """
    if len(text) <= MAX_LENGTH and _plain(text):
        parts = text.removeprefix("/").split("/")
        return tuple((name, value) for name, _, value in (part.partition("=") for part in parts))
    return _parse_with_care(text)


def key(text: str) -> str:
    """Normal form of an FDN, used by every lookup: ``Class=value/Class=value``, without a leading slash.

    In values ``%`` is written %25 and ``/`` %2F, and so are the comma, ``* # ?`` and control characters:
    a plain FDN is unchanged, the key of a key is the key, and all spellings of an FDN have the same key.
    Raises InvalidFdn.
    """
    if len(text) <= MAX_LENGTH and _plain(text):
        return text.removeprefix("/")
    return "/".join(f"{name}={_encode(_UNSAFE_IN_KEY, value)}" for name, value in _parse_with_care(text))


def key_of_path(path: str) -> str:
    """Normal form of the FDN in an operation's path (:func:`key` of :func:`split_path`)."""
    return key(split_path(path)[0])


def render(rdns: Rdns) -> str:
    """Slash form with a leading slash; in values ``/ ? # % *`` and control characters are
    percent-encoded, so that ``parse(render(rdns)) == rdns``."""
    return "".join(f"/{name}={_encode(_UNSAFE_IN_PATH, value)}" for name, value in rdns)


def value_in_key(value: str) -> str:
    """The value of an RDN, or the beginning of one, as a key has it."""
    return _encode(_UNSAFE_IN_KEY, value)


def ancestors(fdn_key: str) -> Iterator[str]:
    """Yield the key itself, then each shorter prefix of whole RDNs, the topmost object last."""
    end = len(fdn_key)
    while end > 0:
        yield fdn_key[:end]
        end = fdn_key.rfind("/", 0, end)


def split_path(path: str) -> tuple[str, str | None]:
    """Split an operation's path at the first ``#`` into FDN text and fragment.

    The fragment is without the ``#``, or None if there is none; a slash before the ``#`` belongs to neither
    (TS 32.158 §6.4.3 prints both).
    """
    fdn_text, mark, fragment = path.partition("#")
    if not mark:
        return path, None
    return fdn_text.removesuffix("/"), fragment


def attribute_pointer(fragment: str) -> tuple[str, ...]:
    """JSON Pointer tokens of a fragment that names attributes: always ``("attributes", …)``.

    Accepted are ``/attributes/x``, ``attributes/x`` and the bare ``x``; ``~1`` and ``~0`` are unescaped
    (RFC 6901). ``/attributes`` and ``attributes`` name all attributes. Raises InvalidFdn for anything else.
    """
    tokens = fragment.removeprefix("/").split("/")
    if fragment.startswith("/") and tokens[0] != "attributes":
        raise InvalidFdn(f"{_shown('#' + fragment)} does not name an attribute: write #/attributes/name")
    if tokens[0] != "attributes":
        tokens.insert(0, "attributes")
    if len(tokens) > 1 and not tokens[1]:
        raise InvalidFdn(f"{_shown('#' + fragment)} lacks the attribute's name: write #/attributes/name")
    if "~" in fragment:
        if _BAD_TILDE.search(fragment):
            raise InvalidFdn(f"{_shown('#' + fragment)} has a '~' that is neither ~0 nor ~1")
        tokens = [token.replace("~1", "/").replace("~0", "~") for token in tokens]
    return tuple(tokens)


def _parse_with_care(text: str) -> Rdns:
    if not text or text == "/":
        raise InvalidFdn("the FDN is empty: write /Class=value/Class=value")
    if len(text) > MAX_LENGTH:
        raise InvalidFdn(f"the FDN has {len(text)} characters, at most {MAX_LENGTH} are read")
    separator = _FIRST_SEPARATOR.search(text)
    if separator is not None and separator[0] == "," and separator.start() > 0:
        parts = [part.strip(_BLANKS) for part in text.split(",")]
        read_value = _value_of_comma_form
    else:
        parts = text.removeprefix("/").split("/")
        read_value = _value_of_slash_form
    if len(parts) > MAX_RDNS:
        raise InvalidFdn(f"the FDN has {len(parts)} RDNs, at most {MAX_RDNS} are read")
    return tuple(_rdn(part, number, read_value) for number, part in enumerate(parts, 1))


def _rdn(part: str, number: int, read_value: _ReadValue) -> tuple[str, str]:
    where = f"RDN {number} ({_shown(part)})"
    name, equals, raw = part.partition("=")
    if not part:
        raise InvalidFdn(f"RDN {number} is empty: one separator too many")
    if not equals:
        raise InvalidFdn(f"{where} has no '=': write Class=value")
    if not name:
        raise InvalidFdn(f"{where} has no class before the '='")
    if not _CLASS_NAME.fullmatch(name):
        raise InvalidFdn(f"{where}: {_shown(name)} is not a class name")
    if not raw:
        raise InvalidFdn(f"{where} has no value after the '='")
    if forbidden := _RAW_FORBIDDEN.search(raw):
        raise InvalidFdn(f"{where} has the control character U+{ord(forbidden[0]):04X}: escape it")
    if "*" in raw:
        raise InvalidFdn(f"{where} has a '*': wildcards are not allowed in an FDN (TS 32.300 §7)")
    value = read_value(raw, where)
    if "\0" in value:
        raise InvalidFdn(f"{where} has the character U+0000")
    if value != value.strip(" "):
        raise InvalidFdn(f"{where}: a value neither begins nor ends with a blank (TS 32.300 §7)")
    return name, value


def _value_of_slash_form(raw: str, where: str) -> str:
    if "#" in raw:
        raise InvalidFdn(f"{where} has a '#', which begins a fragment: write %23 in a value")
    if "%" not in raw:
        return raw
    if _BAD_PERCENT.search(raw):
        raise InvalidFdn(f"{where} has a '%' without two hexadecimal digits: write %25 for a percent sign")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise InvalidFdn(f"{where} has percent-encoded bytes that are not UTF-8") from None


def _value_of_comma_form(raw: str, where: str) -> str:
    if reserved := _RESERVED_IN_COMMA_FORM.search(raw):
        raise InvalidFdn(
            f"{where} has the reserved {reserved[0]!r}: write \\{ord(reserved[0]):02X} (TS 32.300 §7)"
        )
    if "\\" not in raw:
        return raw
    value = bytearray()
    rest = 0
    for escape in _ESCAPE.finditer(raw):
        if escape[1] is None:
            raise InvalidFdn(f"{where} has a '\\' without two hexadecimal digits: write \\5C for a backslash")
        value += raw[rest : escape.start()].encode() + bytes.fromhex(escape[1])
        rest = escape.end()
    try:
        return (value + raw[rest:].encode()).decode()
    except UnicodeDecodeError:
        raise InvalidFdn(f"{where} has escaped bytes that are not UTF-8") from None


def _encode(unsafe: re.Pattern[str], value: str) -> str:
    return unsafe.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), value)


def _shown(part: str) -> str:
    """A part for an error text: quoted, truncated, without control characters."""
    return repr(part if len(part) <= 80 else part[:77] + "...")
