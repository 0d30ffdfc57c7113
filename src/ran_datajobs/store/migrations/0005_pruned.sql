-- SPDX-License-Identifier: Apache-2.0
-- What retention needs to remove what nobody uses any more, and what others must know of what it removed.

-- One row: nothing that was removed comes again under a smaller number.
create table pruned (
    only_one          boolean primary key default true check (only_one),
    bus_head          bigint not null default 0,     -- a new topic starts here: no offset of a removed one comes again
    inventory_version bigint not null default 0      -- newest removed tombstone: an index that is older reads all anew
);
insert into pruned default values;

alter table cm_handle add column removed_at timestamptz;  -- null in a tombstone: the pruner has not seen it yet
create index cm_handle_removed on cm_handle (removed_at) where removed;
