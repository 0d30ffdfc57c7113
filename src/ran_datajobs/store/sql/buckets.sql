-- SPDX-License-Identifier: Apache-2.0

-- name: buckets_of_job
select results_bucket, case destination_kind when 'BUCKET' then destination end as destination
from data_job where job_id = $1;

-- name: shelter
update data_job set results_bucket = $2, version = version + 1
where job_id = $1 and destination_kind = 'BUCKET' and destination is not null and results_bucket <> $2
returning 1;

-- name: bring_home
update data_job set results_bucket = destination, version = version + 1
where job_id = $1 and destination_kind = 'BUCKET' and destination is not null and results_bucket <> destination;

-- name: named_by
select distinct destination from data_job
where client = $1 and destination_kind = 'BUCKET' and destination is not null limit $2;
