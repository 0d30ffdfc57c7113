-- SPDX-License-Identifier: Apache-2.0
-- Whether the operations of a job are validated, and what the validation warned of.

alter table data_job
    add column validation text not null default 'OFF' check (validation in ('OFF', 'WARN', 'STRICT')),
    add column warnings json;      -- {"items": […], "count": n}; null: none
