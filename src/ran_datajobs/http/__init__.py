# SPDX-License-Identifier: Apache-2.0
"""What HTTP needs on either side: the server, JSON bodies, problem documents, free ports, open files."""
