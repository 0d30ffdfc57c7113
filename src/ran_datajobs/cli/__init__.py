# SPDX-License-Identifier: Apache-2.0
"""The commands. The client's ones use the northbound API alone, like any rApp."""
