# SPDX-License-Identifier: Apache-2.0
"""The reference plugin's way to the elements: ProvMnS over HTTP (TS 28.532 clause 12.1)."""
