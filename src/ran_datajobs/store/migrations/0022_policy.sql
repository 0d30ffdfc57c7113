-- SPDX-License-Identifier: Apache-2.0
-- What the policy executor answered before the job was accepted (zstd); null: it is asked when the job is planned.
alter table job_request add column verdicts bytea;
alter table job_request alter column verdicts set storage external;
