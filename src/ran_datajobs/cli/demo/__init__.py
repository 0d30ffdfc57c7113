# SPDX-License-Identifier: Apache-2.0
"""Demo: a simulated network, a plugin and the service on this machine, and two jobs with known outcomes."""
