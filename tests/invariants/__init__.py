# SPDX-License-Identifier: Apache-2.0
"""Rules that the rows of dispatch keep at every commit, one file each.

===================  ==================================================================================
``one_write.sql``    at most one write is active at a data producer
``quarantine.sql``   no write starts while another one of its lane is in quarantine
``creates.py``       no write is created twice at a plugin (by the plugin's own record)
``turns.sql``        an admitted sub-job was the first of the admissible waiting ones
``ended_once.sql``   each operation is counted once, and is in one result object
``claimable.sql``    open work is leased, or due, or waits for work that is
``arrows.py``        a status, a stage and a delivery change only by the transitions of ``model.py``
===================  ==================================================================================

``arrows.py`` and ``turns.sql`` are triggers that refuse the statement that breaks the rule, and count it. The
others are queries that name the rows that break the rule. Every database of a test has the triggers from its
last migration on, and is checked for violations when the test ends; a test whose handwritten rows break
a rule is marked ``damages_rows``. A job without its request was written by hand, and is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import asyncpg

from ran_datajobs.store.queries import migrations
from tests.invariants.arrows import guards

_FOLDER: Final = Path(__file__).parent
QUERIES: Final = ("one_write", "quarantine", "ended_once", "claimable")

_INSTALL_WITH_THE_LAST_MIGRATION: Final = """
create schema invariants;
create sequence invariants.refused;
create function invariants.install() returns trigger language plpgsql as $install$
begin
    execute $triggers${triggers}$triggers$;
    return null;
end
$install$;
create function invariants.follow_migrations() returns event_trigger language plpgsql as $$
begin
    if to_regclass('public.schema_version') is not null and not exists (
        select from pg_catalog.pg_trigger where tgname = 'install_invariants')
    then
        create trigger install_invariants after insert on public.schema_version
            for each row when (new.number = {newest}) execute function invariants.install();
    end if;
end
$$;
create event trigger follow_migrations on ddl_command_end when tag in ('CREATE TABLE')
    execute function invariants.follow_migrations();
"""


def preparation() -> str:
    """The statements that make an empty database install the triggers itself with its last migration."""
    triggers = guards() + (_FOLDER / "turns.sql").read_text(encoding="utf-8")
    return _INSTALL_WITH_THE_LAST_MIGRATION.format(triggers=triggers, newest=len(migrations()))


async def violations(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    """Every violation in a database of the newest schema, in words. Databases of other schemas have none."""
    if not await connection.fetchval("select to_regproc('invariants.refuse_arrow') is not null"):
        return []
    refused = await connection.fetchval("select last_value from invariants.refused where is_called")
    found = (
        [] if refused is None else [f"{refused} statements were refused by the triggers of tests/invariants"]
    )
    queries = [(_FOLDER / f"{name}.sql").read_text(encoding="utf-8").rstrip().rstrip(";") for name in QUERIES]
    rows = await connection.fetch("\nunion all\n".join(f"({query}\n)" for query in queries))
    return found + [row["violation"] for row in rows]
