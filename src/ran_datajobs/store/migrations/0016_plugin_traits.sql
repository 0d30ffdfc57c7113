-- SPDX-License-Identifier: Apache-2.0
-- Nothing yet.
select 1;
