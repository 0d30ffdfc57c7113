# SPDX-License-Identifier: Apache-2.0
"""Dispatch: the worker loop that claims due rows, leases them and runs them.

The rows are the queue. Each sub-job, and each data job for its own steps (plan, finish), has a due time. A
worker claims due rows, leases them under a fencing token, and renews the leases of the rows it works on.
Every write names the token, so a worker that lost its lease changes nothing.

::

    worker ──claim──► steps      plan of a job: its sub-jobs, admitted at once; finish of a job: manifest,
           │                     final status
           └────────► executor   one leased sub-job: start · track · collect · cancel · time out · probe;
                          │      cancel of a whole job at a plugin by one call (``bulkCancel``)
                          └► transitions   the new states, many in one transaction

Dispatch accesses the rows through :class:`~ran_datajobs.store.dispatch.DispatchStore`. Time, random numbers,
identifiers, sleep and threads come from :class:`~ran_datajobs.runtime.Runtime`.

``limits`` bounds rows, memory and concurrent calls per plugin; ``backoff`` computes delays (pure); an
``attempt`` is a leased sub-job in memory; ``news`` writes log events and metrics.

The path of one sub-job from its admission to its settlement:

1. ``DispatchStore._admit`` → ``sub_jobs.sql: admit``: WAITING → ADMITTED, when its lane has a free slot
2. ``Worker._claim_sub_jobs`` → ``sub_jobs.sql: claim``: ADMITTED → STARTING, leased
3. ``Worker._work_on``: runs the executor while the lease is valid
4. ``Executor.run``: steps until one ends the lease, and writes its transition
5. ``Executor._step``: selects the function for the stage
6. ``Executor._start``: sends the create
7. ``Executor._take``: records the answer, STARTING → TRACKING
8. ``Executor._track``: polls
9. ``Executor._fetch``: fetches the result
10. ``Executor._end``: writes the result objects
11. ``DispatchStore._write``: one transaction for many transitions
12. ``DispatchStore._settle`` → ``sub_jobs.sql: settle``: → SETTLED, counted, announced
"""
