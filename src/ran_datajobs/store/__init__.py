# SPDX-License-Identifier: Apache-2.0
"""The store: all durable data, in PostgreSQL. SQL is in ``sql/*.sql`` and ``migrations/*.sql`` only."""
