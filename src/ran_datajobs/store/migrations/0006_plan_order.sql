-- SPDX-License-Identifier: Apache-2.0
-- Jobs of one client are planned in the order of their submission: which wait for their plan is looked up for each.

create index data_job_unplanned on data_job (client, seq) where not planned;
