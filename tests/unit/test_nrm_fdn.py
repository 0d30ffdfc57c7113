# SPDX-License-Identifier: Apache-2.0
"""Full distinguished names: three spellings, one normal form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.nrm import fdn

CLASSES = st.from_regex(r"[A-Z][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12
).filter(lambda value: value == value.strip(" "))
RDNS = st.lists(st.tuples(CLASSES, VALUES), min_size=1, max_size=6).map(tuple)


def comma_form(rdns: fdn.Rdns) -> str:
    """The spelling of TS 32.300 §7, with every character of a value escaped that is no letter or digit."""

    def escaped(value: str) -> str:
        return "".join(
            char if char.isascii() and char.isalnum() else "".join(f"\\{byte:02X}" for byte in char.encode())
            for char in value
        )

    return " , ".join(f"{name}={escaped(value)}" for name, value in rdns)


@given(RDNS)
def test_what_is_rendered_parses_back(rdns: fdn.Rdns) -> None:
    """Rendering and parsing are inverse, with and without the leading slash, for any value."""
    text = fdn.render(rdns)
    assert fdn.parse(text) == rdns
    assert text.startswith("/")


@given(RDNS.filter(lambda rdns: len(rdns) > 1))
def test_the_comma_form_is_the_same_name(rdns: fdn.Rdns) -> None:
    """The comma form with escapes and blanks around its commas has the RDNs and the key of the slash form."""
    assert fdn.parse(comma_form(rdns)) == rdns
    assert fdn.key(comma_form(rdns)) == fdn.key(fdn.render(rdns))


@given(RDNS)
def test_a_key_is_its_own_key(rdns: fdn.Rdns) -> None:
    """The normal form is a fixed point, and has the same RDNs as its source."""
    key = fdn.key(fdn.render(rdns))
    assert fdn.key(key) == key
    assert fdn.parse(key) == rdns


@given(RDNS, RDNS)
def test_keys_tell_names_apart(one: fdn.Rdns, other: fdn.Rdns) -> None:
    """Two names have one key exactly when their RDNs are the same."""
    assert (fdn.key(fdn.render(one)) == fdn.key(fdn.render(other))) == (one == other)


@given(RDNS)
def test_ancestors_are_the_whole_rdn_prefixes(rdns: fdn.Rdns) -> None:
    """The key first, then every shorter prefix of whole RDNs, the root last."""
    expected = [fdn.key(fdn.render(rdns[:length])) for length in range(len(rdns), 0, -1)]
    assert list(fdn.ancestors(fdn.key(fdn.render(rdns)))) == expected


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_an_invalid_one(text: str) -> None:
    """Any text gives RDNs or raises InvalidFdn, and key and parse agree on which."""
    try:
        rdns = fdn.parse(text)
    except InvalidFdn:
        with pytest.raises(InvalidFdn):
            fdn.key(text)
    else:
        assert fdn.parse(fdn.key(text)) == rdns


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("/SubNetwork=SN1/ManagedElement=ME1", "SubNetwork=SN1/ManagedElement=ME1"),
        ("SubNetwork=SN1/ManagedElement=ME1", "SubNetwork=SN1/ManagedElement=ME1"),
        ("SubNetwork=SN1,ManagedElement=ME1", "SubNetwork=SN1/ManagedElement=ME1"),
        ("SubNetwork=SN1 ,  ManagedElement=ME1", "SubNetwork=SN1/ManagedElement=ME1"),
        ("DC=example.org,SubNetwork=SN1", "DC=example.org/SubNetwork=SN1"),
        ("/ManagedElement=a%2Fb", "ManagedElement=a%2Fb"),
        ("/ManagedElement=100%25", "ManagedElement=100%25"),
        ("/ManagedElement=M%45", "ManagedElement=ME"),
        ("ManagedElement=M\\2C1,Cell=1", "ManagedElement=M%2C1/Cell=1"),
        ("ManagedElement=Before\\0DAfter,Cell=1", "ManagedElement=Before%0DAfter/Cell=1"),
        ("/ManagedElement=a,b=c", "ManagedElement=a%2Cb=c"),
        ("/ManagedElement=Malmö 1", "ManagedElement=Malmö 1"),
        ("/SubNetwork.subNetworkId=1", "SubNetwork.subNetworkId=1"),
    ],
)
def test_the_normal_form(text: str, key: str) -> None:
    """One key for the spellings of one name. A leading slash makes it the slash form, even with commas."""
    assert fdn.key(text) == key


def test_case_matters() -> None:
    """Names that differ in case are different names."""
    assert fdn.key("/ManagedElement=a") != fdn.key("/ManagedElement=A")


@pytest.mark.parametrize(
    ("text", "blame"),
    [
        ("", "empty"),
        ("/", "empty"),
        ("//ManagedElement=1", "RDN 1 is empty"),
        ("/ManagedElement=1/", "RDN 2 is empty"),
        ("/ManagedElement=1//Cell=1", "RDN 2 is empty"),
        ("/ManagedElement=1/Cell", "'Cell'"),
        ("/=1", "no class"),
        ("/Managed Element=1", "'Managed Element'"),
        ("/ManagedElement=", "no value"),
        ("/ManagedElement=*", "wildcards"),
        ("/ManagedElement= 1", "blank"),
        ("/ManagedElement=1%20", "blank"),
        ("/ManagedElement=a\nb", "U+000A"),
        ("/ManagedElement=a\ud800", "U+D800"),
        ("/ManagedElement=a%00", "U+0000"),
        ("/ManagedElement=%", "'%'"),
        ("/ManagedElement=%zz", "'%'"),
        ("/ManagedElement=%ff", "UTF-8"),
        ("/ManagedElement=1#/attributes/x", "'#'"),
        ("ManagedElement=1,Cell=1=2", "\\3D"),
        ("ManagedElement=1,Cell=1+Sector=2", "\\2B"),
        ("ManagedElement=1,Cell=\\zz", "'\\'"),
        ("ManagedElement=1,Cell=\\FF", "UTF-8"),
        ("ManagedElement=1,", "RDN 2 is empty"),
        (",ManagedElement=1", "','"),
        ("A=1/" * 64 + "A=1", "65 RDNs"),
        ("A=" + "1" * 4000, "4002 characters"),
    ],
)
def test_the_bad_part_is_named(text: str, blame: str) -> None:
    """A malformed name is refused with printable words that point at the bad part."""
    with pytest.raises(InvalidFdn) as refusal:
        fdn.parse(text)
    assert blame.strip("'") in str(refusal.value)
    assert str(refusal.value).isprintable()
    with pytest.raises(InvalidFdn):
        fdn.key(text)


def test_the_longest_names_are_read() -> None:
    """64 RDNs and 4000 characters are within the limits."""
    assert len(fdn.parse("/".join(["A=1"] * 64))) == 64
    assert fdn.key("A=" + "1" * 3998) == "A=" + "1" * 3998


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/A=1/B=2", ("/A=1/B=2", None)),
        ("/A=1#/attributes/x", ("/A=1", "/attributes/x")),
        ("/A=1/#/attributes/x", ("/A=1", "/attributes/x")),
        ("/A=1/#attributes/x", ("/A=1", "attributes/x")),
        ("A=1#x", ("A=1", "x")),
        ("A=1#", ("A=1", "")),
        ("#x", ("", "x")),
        ("/A=1#a#b", ("/A=1", "a#b")),
    ],
)
def test_a_path_has_a_name_and_a_fragment(path: str, parts: tuple[str, str | None]) -> None:
    """The path is split at the first '#'. A slash before it belongs to neither part."""
    assert fdn.split_path(path) == parts


@pytest.mark.parametrize(
    ("fragment", "tokens"),
    [
        ("/attributes/x", ("attributes", "x")),
        ("attributes/x", ("attributes", "x")),
        ("x", ("attributes", "x")),
        ("x/y/0", ("attributes", "x", "y", "0")),
        ("/attributes", ("attributes",)),
        ("attributes", ("attributes",)),
        ("/attributes/list/-", ("attributes", "list", "-")),
        ("/attributes/a~1b~0c", ("attributes", "a/b~c")),
        ("/attributes/~01", ("attributes", "~1")),
    ],
)
def test_fragments_name_attributes(fragment: str, tokens: tuple[str, ...]) -> None:
    """Every published spelling of a fragment gives one pointer, unescaped by RFC 6901."""
    assert fdn.attribute_pointer(fragment) == tokens


@pytest.mark.parametrize("fragment", ["", "/", "/attributes/", "/x", "/id", "/attributes/a~2", "x/~"])
def test_other_fragments_are_refused(fragment: str) -> None:
    """A fragment that names no attribute is an error."""
    with pytest.raises(InvalidFdn):
        fdn.attribute_pointer(fragment)
