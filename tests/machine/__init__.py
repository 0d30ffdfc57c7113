# SPDX-License-Identifier: Apache-2.0
"""Dispatch as a state machine: real workers on a real PostgreSQL, step by step, in virtual time.

``virtual_time``   clock of the database and the event loop, advanced only by a test
``plugins``        two DMI plugins whose calls wait until the test answers them; they record executions
``process``        a worker process that can crash, freeze, be cut off, and lose a session around a commit
``service``        the database, the plugins, two worker processes, and actions of clients and plugins
``test_dispatch``  the rules that hypothesis draws from, and the invariants checked after each
"""
