# SPDX-License-Identifier: Apache-2.0
"""Commands. The client commands use only the northbound API, like any rApp."""
