# SPDX-License-Identifier: Apache-2.0
"""Dispatch: durable tasks and lanes.

::

    tasks ──► worker ──► planner    split an accepted job into sub-jobs
                    ├──► turn       hold a lane; choose what may run
                    │     └► sub_jobs   start · track · collect · cancel one sub-job
                    └──► finisher   manifest, then the verdict

``publishing`` keeps the outbox moving beside it. ``steps`` are the durable writes, gathered by ``batch``;
``outcomes`` and ``backoff`` are pure.
"""
