# SPDX-License-Identifier: Apache-2.0
"""The demo: a network, a plugin and the service on this machine, and two jobs with known outcomes."""
