# SPDX-License-Identifier: Apache-2.0
"""Southbound: clients of DMI plugins. ``port`` is the interface, ``seed`` and ``onap`` are the dialects."""
