-- SPDX-License-Identifier: Apache-2.0
-- What a sub-job waits for is known from its row: that no call of its plugin is made now as well. And when a cancel was
-- accepted, and how much was executed after it.

alter table sub_job add column circuit_until timestamptz;  -- its last call failed, and no call of its plugin is made before
alter table data_job
    add column cancelled_at timestamptz,                   -- when its cancel was accepted
    add column ended_after_cancel integer;                 -- operations that its plugins had executed, counted after it
