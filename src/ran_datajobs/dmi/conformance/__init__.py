# SPDX-License-Identifier: Apache-2.0
"""``dmi-check``: what a DMI plugin promises, tried one promise at a time."""
