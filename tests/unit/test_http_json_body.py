# SPDX-License-Identifier: Apache-2.0
"""JSON bodies of requests: their encoding, and texts that are not valid Unicode."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidRequest
from ran_datajobs.http.json_body import decoded, json_text, malformed, pointer_step

UTF_8 = ("utf-8", "utf-8-sig")
OTHERS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
LARGE_ENOUGH = DOCUMENTS.map(lambda value: {"data": value})


@given(LARGE_ENOUGH, st.booleans(), st.sampled_from(UTF_8))
def test_utf_8_is_taken_with_a_byte_order_mark_and_without(value: Any, ascii: bool, encoding: str) -> None:
    """The text is unchanged, without the mark."""
    text = json.dumps(value, ensure_ascii=ascii)
    assert json_text(text.encode(encoding)) == text.encode()


@given(LARGE_ENOUGH, st.sampled_from(OTHERS))
def test_another_encoding_is_told_by_its_name(value: Any, encoding: str) -> None:
    """With or without a mark: UTF-16 or UTF-32, and the byte order."""
    name = encoding.upper().replace("UTF-", "UTF~").replace("-", " ").replace("~", "-")
    with pytest.raises(InvalidRequest, match=f"it is {name}"):
        json_text(json.dumps(value).encode(encoding))


@given(st.binary(max_size=20))
def test_any_bytes_are_a_text_or_an_error(body: bytes) -> None:
    """Only InvalidRequest is raised, and only a mark is dropped."""
    try:
        assert json_text(body) == body.removeprefix(b"\xef\xbb\xbf")
    except InvalidRequest as error:
        assert "must be UTF-8" in error.detail


HALVES = ["\ud800", "x\udbff", "\udc00\ud800", "\udfffA", "\U0001f600\ud83d", "\\ud800 \udc00"]


def halves_in(value: Any, pointer: str) -> list[str]:
    """The pointers of the invalid texts; for names, the pointer of the object."""
    if isinstance(value, str):
        return [pointer] if any("\ud800" <= letter <= "\udfff" for letter in value) else []
    if isinstance(value, list):
        return [place for n, item in enumerate(value) for place in halves_in(item, f"{pointer}/{n}")]
    if isinstance(value, dict):
        found = [pointer for name in value if halves_in(name, "")]
        for name, item in value.items():
            if not halves_in(name, ""):
                found += halves_in(item, f"{pointer}/{pointer_step(name)}")
            else:
                found += [pointer] if halves_in(item, "") else []
        return found
    return []


TEXTS = st.sampled_from([*HALVES, "a", "b/c~d", "\U0001f600", "\\ud800", "é", ""])
BROKEN = st.recursive(
    TEXTS | st.integers(-9, 9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(BROKEN)
def test_half_of_a_surrogate_pair_is_told_with_its_place(value: Any) -> None:
    """The decoder refuses it, and the pointer leads to a text with half a pair. Complete pairs are valid."""
    text, places = json.dumps(value).encode(), halves_in(value, "#")
    try:
        assert msgspec.json.decode(text) == value
    except msgspec.DecodeError as error:
        ((pointer, detail),) = malformed(text, error).problems
        assert pointer in places
        assert "not a Unicode text" in detail
    else:
        assert not places


def test_a_broken_document_is_told_as_broken() -> None:
    """If a body is no JSON, that fault is reported before half of a surrogate pair."""
    with pytest.raises(InvalidRequest) as refusal:
        decoded(b'{"a": "\\ud800", }', msgspec.json.Decoder(dict[str, Any]))
    assert refusal.value.problems == ()


def test_a_long_name_is_cut_in_a_pointer() -> None:
    """Names come from clients, and are quoted in responses that stay short."""
    assert pointer_step("a/b~c") == "a~1b~0c"
    assert pointer_step("x" * 128) == "x" * 128
    assert pointer_step("x" * 129) == "x" * 127 + "…"
