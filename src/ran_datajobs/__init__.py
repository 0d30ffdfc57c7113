# SPDX-License-Identifier: Apache-2.0
"""Data jobs for radio networks: one request, split by who owns each managed object, driven to the end.

::

    rApp ─► api ─► store ─► planning ─► dispatch ─► plugins ═HTTP═► dmi ─► element
            ▲ ▲      │          ▲          │                         │
     web, cli │  (202 is sent   │          │                         ▼
      events ─┘   after this)   │          └─► results ◄─ messaging ◄┘
                            inventory             └─► S3 or folder, topic of the rApp

Each folder is a stage and knows the next one only by its port. ``simulator`` and ``dmi`` are the peers
of the service: it imports neither. ``app`` wires the stages, ``cli`` starts them.
"""
