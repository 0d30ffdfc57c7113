# SPDX-License-Identifier: Apache-2.0
"""Failures grouped by reason, as the commands show them."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.cli.causes import by_reason, show_causes
from ran_datajobs.model import OperationState

_failures = st.lists(
    st.tuples(
        st.sampled_from(["OTHER", "UNMATCHED", "STATUS_999", "its own"]), st.sampled_from(OperationState)
    )
)


def line(number: int, reason: str, state: str) -> bytes:
    """A failure as the service streams it."""
    members = {"operationId": number, "op": "read", "path": "/A=1", "detail": ""}
    return json.dumps(members | {"reason": reason, "state": state}).encode()


@given(_failures)
def test_every_failure_is_in_the_group_of_its_reason(failures: list[tuple[str, OperationState]]) -> None:
    """Each failure once and in order. Groups by size, those of equal size in the order of their first
    failure."""
    causes = by_reason(line(n, *each) for n, each in enumerate(failures))
    counted = Counter(reason for reason, _ in failures)
    assert [(cause.reason, cause.states.total()) for cause in causes] == counted.most_common()
    for cause in causes:
        wanted = [(n, state) for n, (reason, state) in enumerate(failures) if reason == cause.reason]
        shown = [json.loads(each) for each in cause.lines]
        assert [(each["operationId"], each["state"]) for each in shown] == wanted
        assert cause.states == Counter(state.value for _, state in wanted)


def test_states_are_told_in_words_and_a_reason_cannot_steer_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The remedy depends on the state, which is therefore shown with the count."""
    failures = [("\x1b[2J", "UNKNOWN"), ("\x1b[2J", "NOT_STARTED"), ("\x1b[2J", "NOT_STARTED")]
    show_causes(by_reason(line(n, *each) for n, each in enumerate(failures)))
    heading, *_ = capsys.readouterr().out.splitlines()
    assert heading == "3 × \ufffd[2J – A word of the DMI plugin (2 not started, 1 unknown)"
