# SPDX-License-Identifier: Apache-2.0
"""Conformance checks of a DMI plugin for ``dmi-check``, one per promise of the contract."""
