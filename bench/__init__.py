# SPDX-License-Identifier: Apache-2.0
"""Measurements. ``make bench`` runs all but the long ones, ``make bench ARGS=accept`` runs one."""
