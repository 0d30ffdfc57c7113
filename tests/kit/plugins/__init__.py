# SPDX-License-Identifier: Apache-2.0
"""Doubles of DMI plugins.

================  =====================================================================================
module            plugin
================  =====================================================================================
``scripted``      serves both dialects over HTTP and follows a script for each data producer
``onap``          serves what ONAP's plugins serve and nothing else, with HTTP Basic
``in_process``    implements the port in the worker's process; its answers are set by the test
``stepped``       the same; each call waits until the test decides how it ends
``characters``    the same in virtual time; a random character decides about each call
================  =====================================================================================
"""
