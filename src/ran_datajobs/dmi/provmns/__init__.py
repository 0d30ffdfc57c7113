# SPDX-License-Identifier: Apache-2.0
"""Element adapter of the reference plugin: ProvMnS over HTTP (TS 28.532 clause 12.1)."""
