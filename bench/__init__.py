# SPDX-License-Identifier: Apache-2.0
"""Measurements. ``make bench`` prints all but the long ones, ``make bench ARGS=accept`` one."""
