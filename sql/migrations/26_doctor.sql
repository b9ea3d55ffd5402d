-- What migrate made, so that a later look tells what was changed by hand.
-- Depends on: nothing. Written by record_objects (sql/functions/doctor.sql).

create table rowhouse.shipped_objects (
  object text primary key,
  digest text not null,
  server_version integer not null
);

alter table rowhouse.shipped_objects enable row level security;
alter table rowhouse.shipped_objects force row level security;

comment on table rowhouse.shipped_objects is
  'Functions, tables and indexes of the schema rowhouse as migrate made them. Holds no data of tenants.';
comment on column rowhouse.shipped_objects.object is 'Kind and name, such as function rowhouse.current_tenant().';
comment on column rowhouse.shipped_objects.digest is 'MD5 of its definition.';
comment on column rowhouse.shipped_objects.server_version is
  'Major version of the server: another one may print the same definition in another way.';
