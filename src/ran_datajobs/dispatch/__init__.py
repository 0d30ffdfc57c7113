# SPDX-License-Identifier: Apache-2.0
"""Dispatch: one queue, one fence, one loop.

The rows are the queue. A sub-job, and a data job for its own steps (plan, finish), is due at a time; a worker
claims what is due, leases it under a token, and renews the leases of what it works on. Every write names the
token: a worker that lost its lease changes nothing.

::

    worker ──claim──► steps      plan of a job: its sub-jobs, admitted and partly leased at once; finish of
           │                     a job: manifest, final status
           ├────────► canceller  a cancelled job at a plugin that can be told of all of it by one call
           └────────► executor   one leased sub-job: start · track · collect · cancel · time out · probe
                          │
                          └► transitions   what became of it, many in one transaction

What it asks of the rows is :class:`~ran_datajobs.store.dispatch.DispatchStore`; time, chance, identifiers,
sleep and threads come from :class:`~ran_datajobs.runtime.Runtime`.

``limits`` bound what is under way at plugins; ``backoff`` is pure; an ``attempt`` is a leased sub-job in
memory; ``news`` tells operators what happened.

One sub-job, from its admission to its settlement:

1. ``PostgresDispatch._admit`` → ``sub_jobs.sql: admit``: WAITING → ADMITTED, where room is made
2. ``Worker._claim_sub_jobs`` → ``sub_jobs.sql: claim``: ADMITTED → STARTING, leased
3. ``Worker._work_on``: runs the executor while the lease holds
4. ``Executor.run``: steps until the lease ends
5. ``Executor._step``: chooses by the stage
6. ``Executor._start``: sends the create
7. ``Executor._take``: records the answer, STARTING → TRACKING
8. ``Executor._track``: polls
9. ``Executor._fetch``: fetches the result
10. ``Executor._end``: writes the result objects
11. ``PostgresDispatch._write``: one transaction for many transitions
12. ``PostgresDispatch._settle`` → ``sub_jobs.sql: settle``: → SETTLED, counted, announced
"""
