# SPDX-License-Identifier: Apache-2.0
"""Southbound: the DMI plugin as a peer. ``plugin`` is the port, ``seed`` and ``onap`` are the dialects."""
