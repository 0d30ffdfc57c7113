-- SPDX-License-Identifier: Apache-2.0
-- What plugins promise about guards and before-images.
alter table dmi_plugin
    add column guards boolean not null default false,        -- compares an object with expect and writes it in one step
    add column before_images boolean not null default false; -- its responses to writes have before
