# SPDX-License-Identifier: Apache-2.0
"""What ``serve`` adds on one machine: its PostgreSQL, its processes, and the supervisor of both."""
