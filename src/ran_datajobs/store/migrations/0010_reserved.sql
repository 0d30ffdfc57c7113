-- SPDX-License-Identifier: Apache-2.0
-- Changes nothing: the number is kept for another change.
select;
