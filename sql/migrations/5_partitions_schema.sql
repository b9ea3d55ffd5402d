-- The schema of the partitions that tenants share. Nobody but the owner may look into it.
create schema rowhouse_partitions;
revoke all on schema rowhouse_partitions from public;
comment on schema rowhouse_partitions is
  'Hash partitions of tables laid out by rowhouse, shared by all tenants that have no partition of their own. Reached through their tables only.';
