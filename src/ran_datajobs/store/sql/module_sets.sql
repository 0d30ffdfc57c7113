-- SPDX-License-Identifier: Apache-2.0
-- Module sets: class models by module set tag.

-- One change at a time, so that no model is removed that a tag is just given. Readers do not wait.
-- name: lock
lock table module_set_model in share row exclusive mode;

-- name: save_model
insert into class_model (digest, model) values ($1, $2) on conflict (digest) do nothing;

-- True if the tag is new.
-- name: save_tag
insert into module_set_model (module_set_tag, digest) values ($1, $2)
on conflict (module_set_tag) do update set digest = excluded.digest
returning xmax = 0;

-- name: remove_tag
delete from module_set_model where module_set_tag = $1 returning true;

-- name: remove_unused
delete from class_model c where not exists (select from module_set_model m where m.digest = c.digest);

-- name: counts
select (select count(*) from class_model) as models, (select count(*) from module_set_model) as tags;

-- name: digests
select module_set_tag, digest from module_set_model where module_set_tag = any($1::text[]);

-- name: model
select model from class_model where digest = $1;

-- name: model_of_tag
select c.model from module_set_model m join class_model c using (digest) where m.module_set_tag = $1;
