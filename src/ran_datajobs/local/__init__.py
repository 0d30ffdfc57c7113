# SPDX-License-Identifier: Apache-2.0
"""Single-machine parts of ``serve``: embedded PostgreSQL, child processes, and their supervisor."""
