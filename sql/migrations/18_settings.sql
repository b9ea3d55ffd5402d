-- Settings of tenants: the column of the registry gets a version.
-- Depends on: 1_tenants.sql. Functions: sql/functions/settings.sql.

alter table rowhouse.tenants
  add column settings_version bigint not null default 0;

comment on column rowhouse.tenants.settings_version is
  'How often the settings were changed; who changes them names the version that he has seen.';
