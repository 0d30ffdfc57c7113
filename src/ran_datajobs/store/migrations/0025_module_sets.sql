-- SPDX-License-Identifier: Apache-2.0
-- Module sets: the class models by which operations on the handles of a module set tag are validated. Many tags can have
-- the same one, which is stored once.

create table class_model (
    digest bytea primary key,  -- SHA-256 of model, uncompressed
    model  bytea not null      -- the stored form, compressed (zstd)
);

create table module_set_model (
    module_set_tag text collate "C" primary key,
    digest         bytea not null references class_model
);
create index module_set_model_digest on module_set_model (digest);
