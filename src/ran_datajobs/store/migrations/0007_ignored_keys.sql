-- SPDX-License-Identifier: Apache-2.0
-- The keys of a request that mean nothing here: its answer told them, and the job goes on telling them.

alter table data_job add column ignored json;      -- {"keys": […], "count": n}; null: none
