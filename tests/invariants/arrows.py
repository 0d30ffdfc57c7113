# SPDX-License-Identifier: Apache-2.0
"""A trigger for each column with a table of transitions in ``model.py``: any other transition is an error."""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import StrEnum
from typing import Final

from ran_datajobs.model import ALLOWED, DELIVERIES, STAGES

GUARDED: Final[Mapping[tuple[str, str], Mapping[StrEnum, Set[StrEnum]]]] = {
    ("data_job", "status"): dict(ALLOWED),
    ("data_job", "delivery_state"): dict(DELIVERIES),
    ("sub_job", "status"): dict(ALLOWED),
    ("sub_job", "stage"): dict(STAGES),
}

_REFUSE: Final = """
create function invariants.refuse_arrow() returns trigger language plpgsql as $refuse$
begin
    perform nextval('invariants.refused');
    raise exception 'forbidden arrow of %.%: % to %', tg_table_name, tg_argv[0],
        to_jsonb(old) ->> tg_argv[0], to_jsonb(new) ->> tg_argv[0] using errcode = 'check_violation';
end
$refuse$;
"""


def guards() -> str:
    """The statements that install the triggers."""
    return _REFUSE + "".join(_guard(table, column, arrows) for (table, column), arrows in GUARDED.items())


def _guard(table: str, column: str, arrows: Mapping[StrEnum, Set[StrEnum]]) -> str:
    allowed = ", ".join(
        f"('{state}', '{after}')" for state, followers in arrows.items() for after in sorted(followers)
    )
    return f"""
create trigger refuse_{column} before update on public.{table} for each row
    when (old.{column} <> new.{column} and (old.{column}::text, new.{column}::text) not in ({allowed}))
    execute function invariants.refuse_arrow('{column}');
"""
