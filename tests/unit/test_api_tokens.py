# SPDX-License-Identifier: Apache-2.0
"""The tokens file."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ran_datajobs.api.tokens import Client, Role, add, client_of, listing, revoke
from ran_datajobs.errors import UsageError
from ran_datajobs.inventory.addresses import checked


def holder(path: Path, token: str) -> Client | None:
    """The client that holds the token, without its digest."""
    found = client_of(path, token)
    return found and Client(found.name, found.role, found.dmi_url)


def test_a_token_lets_its_client_in(tmp_path: Path) -> None:
    """The printed token identifies client, role and plugin. Any other token is unknown."""
    path = tmp_path / "tokens"
    token = add(path, "rapp-1", Role.SUBMIT)
    plugin = add(path, "dmi-1", Role.PLUGIN, "http://dmi.example.org/")
    assert holder(path, token) == Client("rapp-1", Role.SUBMIT)
    assert holder(path, plugin) == Client("dmi-1", Role.PLUGIN, "http://dmi.example.org")
    assert client_of(path, token + "x") is None
    assert client_of(path, "") is None
    assert client_of(path, "x" * 10_000) is None


@pytest.mark.parametrize(
    "written",
    [
        "HTTP://DMI.Example.org:8081/Base/",
        "http://dmi.example.org:8081/Base",
        " http://dmi.EXAMPLE.org:8081/Base//",
    ],
)
def test_the_address_of_a_plugin_is_kept_as_the_inventory_keeps_it(tmp_path: Path, written: str) -> None:
    """However its address is written, a token belongs to the plugin that registers the same address."""
    path = tmp_path / "tokens"
    client = holder(path, add(path, "dmi-1", Role.PLUGIN, written))
    assert client == Client("dmi-1", Role.PLUGIN, checked(written.strip(), ["dmi.example.org"]))


@pytest.mark.parametrize(
    "address",
    ["not a url", "", "dmi.example.org:8081", "ftp://dmi.example.org", "http://a:b@dmi", "http://x?y"],
)
def test_no_token_is_made_for_what_is_no_address(tmp_path: Path, address: str) -> None:
    """Such a token could never be used: nothing is written."""
    with pytest.raises(UsageError, match="--dmi"):
        add(tmp_path / "tokens", "dmi-1", Role.PLUGIN, address)
    assert listing(tmp_path / "tokens") == ()


def test_the_file_holds_no_token_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """The file contains no usable token."""
    path = tmp_path / "tokens"
    token = add(path, "rapp-1", Role.READ)
    assert token not in path.read_text()
    assert token.removeprefix("rdj_") not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_tokens_follow_their_file(tmp_path: Path) -> None:
    """Added and revoked tokens take effect at once, without a restart."""
    path = tmp_path / "tokens"
    assert client_of(path, "rdj_nobody") is None
    first = add(path, "a", Role.READ)
    assert holder(path, first) == Client("a", Role.READ)
    second = add(path, "a", Role.ADMIN)
    assert holder(path, second) == Client("a", Role.ADMIN)
    assert revoke(path, "a") == 2
    assert client_of(path, first) is None
    assert client_of(path, second) is None


def test_a_broken_or_missing_file_admits_no_client(tmp_path: Path) -> None:
    """A caller that cannot be checked is refused, and is accepted again once the file is valid."""
    path = tmp_path / "tokens"
    token = add(path, "a", Role.READ)
    assert client_of(path, token) is not None
    whole = path.read_bytes()
    path.write_bytes(b"not json")
    assert client_of(path, token) is None
    path.write_bytes(whole)
    assert client_of(path, token) is not None
    path.unlink()
    assert client_of(path, token) is None


def test_listing_shows_clients_and_no_secret(tmp_path: Path) -> None:
    """One line for each token, in the order of adding."""
    path = tmp_path / "tokens"
    add(path, "b", Role.ADMIN)
    add(path, "a", Role.READ)
    assert [(token.name, token.role) for token in listing(path)] == [("b", Role.ADMIN), ("a", Role.READ)]
    assert listing(tmp_path / "missing") == ()


def test_revoking_an_unknown_client_changes_nothing(tmp_path: Path) -> None:
    """The result is 0 tokens, and the others stay."""
    path = tmp_path / "tokens"
    token = add(path, "a", Role.READ)
    assert revoke(path, "b") == 0
    assert client_of(path, token) is not None


def test_tokens_added_at_once_all_stay(tmp_path: Path) -> None:
    """No addition overwrites another one."""
    path = tmp_path / "tokens"
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda n: add(path, f"client-{n}", Role.READ), range(24)))
    assert {holder(path, token) for token in tokens} == {Client(f"client-{n}", Role.READ) for n in range(24)}


@pytest.mark.parametrize(
    ("client", "role", "dmi_url"),
    [
        ("", Role.READ, None),
        ("with blank", Role.READ, None),
        ("x" * 101, Role.READ, None),
        ("line\nbreak", Role.READ, None),
        ("dmi", Role.PLUGIN, None),
        ("rapp", Role.SUBMIT, "http://dmi.example.org"),
    ],
)
def test_what_cannot_be_a_token_is_refused(
    tmp_path: Path, client: str, role: Role, dmi_url: str | None
) -> None:
    """A bad client name, a plugin without address, or an address without that role writes nothing."""
    path = tmp_path / "tokens"
    with pytest.raises(UsageError):
        add(path, client, role, dmi_url)
    assert not path.exists()


def test_a_file_that_is_no_tokens_file_is_never_overwritten(tmp_path: Path) -> None:
    """A wrong path loses no token."""
    path = tmp_path / "notes"
    path.write_text("precious")
    with pytest.raises(UsageError):
        add(path, "a", Role.READ)
    assert path.read_text() == "precious"
