-- SPDX-License-Identifier: Apache-2.0
-- A plugin's message over the size of a result object is cut into several of them. The first piece keeps the
-- message's number as its sequence; the others have sequences of their own below -1.

alter table result_part
    add column message integer,                    -- number of the plugin's message; null: it is the sequence
    add column piece integer not null default 0,   -- which piece of the message this is
    add column message_sha256 text;                -- of the whole message, where it was cut; null: it is sha256
