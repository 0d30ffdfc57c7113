# SPDX-License-Identifier: Apache-2.0
"""Dispatch: durable tasks and lanes.

::

    tasks ──► worker ──► planner    split an accepted job into sub-jobs; each client's in order (lines)
                    ├──► turn       take lanes for a task, as there is room (places)
                    │     └► held       a lane while it is held; choose what may run
                    │         └► sub_jobs   start · track · collect · cancel one sub-job
                    └──► finisher   manifest, then the verdict

``publishing`` keeps the outbox moving beside it. ``steps`` are the durable writes, gathered by ``batch``;
``flight`` and ``circuit`` bound what is on its way to plugins; ``outcomes`` and ``backoff`` are pure.
"""
