# SPDX-License-Identifier: Apache-2.0
"""``python -m ran_datajobs`` is ``datajobs``."""

from ran_datajobs.cli.main import main

if __name__ == "__main__":
    main()
