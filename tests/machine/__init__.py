# SPDX-License-Identifier: Apache-2.0
"""Dispatch as a state machine: real workers over a real PostgreSQL, step by step, in a time that is moved.

``virtual_time``   a clock for the database and the event loop that moves only when a test moves it
``plugins``        two DMI plugins whose calls wait until the test answers them, and what they execute
``process``        a worker process: it can crash, freeze, be cut off, and lose a session around a commit
``service``        the database, the plugins and two worker processes; what clients and plugins do
``test_dispatch``  the rules that hypothesis draws from, and what must hold after each of them
"""
