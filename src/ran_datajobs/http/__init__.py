# SPDX-License-Identifier: Apache-2.0
"""Shared HTTP code: server, JSON bodies, problem documents, free ports, open files."""
