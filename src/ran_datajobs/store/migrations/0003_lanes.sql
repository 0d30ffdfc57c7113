-- SPDX-License-Identifier: Apache-2.0
-- What a lane remembers: who had the last turn in it, and which write closed it.

alter table lane add column closed_by uuid;        -- the sub-job that may still be running; its end reopens the lane

create table lane_client (
    lane_id   bigint not null references lane on delete cascade,
    client    text not null,
    served_at timestamptz not null,                -- when a sub-job of this client was started last
    primary key (lane_id, client)
) with (fillfactor = 70);
