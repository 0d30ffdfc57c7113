-- SPDX-License-Identifier: Apache-2.0
-- A destination that plugins get and to which the service delivers nothing: any text, as ONAP's NCMP passes it on.
alter table data_job add column plugin_destination text;
