# SPDX-License-Identifier: Apache-2.0
"""What several folders of tests start: doubles of DMI plugins, and parts of the service or all of it."""
