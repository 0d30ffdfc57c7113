# SPDX-License-Identifier: Apache-2.0
"""Real peers, started by the test session on free ports in temporary folders, and ended with it."""
