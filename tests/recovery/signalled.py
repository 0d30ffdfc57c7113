# SPDX-License-Identifier: Apache-2.0
"""An API or a worker that signals itself (SIGKILL, SIGSTOP) when it reaches a checkpoint for the n-th time.

``python -m tests.recovery.signalled ROLE SIGNAL CHECKPOINT N``; its settings are the service's variables.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from ran_datajobs import config, telemetry
from ran_datajobs.app import run_api, run_worker
from ran_datajobs.checkpoints import Checkpoint, on_checkpoint
from ran_datajobs.local.supervisor import stop_on_signals


async def main(role: str, what: signal.Signals, where: Checkpoint, times: int) -> None:
    """Serve; send ``what`` to this process when the checkpoint is reached for the ``times``-th time."""
    left = times

    async def reached(checkpoint: Checkpoint) -> None:
        nonlocal left
        if checkpoint is where:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), what)

    telemetry.configure(level="critical" if what is signal.SIGSTOP else "error", form="json")
    run = run_api if role == "api" else run_worker
    on_checkpoint.set(reached)
    await run(config.load(os.environ), stop_on_signals())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], signal.Signals[sys.argv[2]], Checkpoint(sys.argv[3]), int(sys.argv[4])))
