# SPDX-License-Identifier: Apache-2.0
"""The store: everything durable, in PostgreSQL. SQL stands in ``sql/*.sql`` and ``migrations/*.sql`` only."""
