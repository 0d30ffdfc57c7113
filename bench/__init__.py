# SPDX-License-Identifier: Apache-2.0
"""Measurements. ``make bench`` prints all of them, ``make bench ARGS=accept`` one."""
