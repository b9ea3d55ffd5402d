-- name: foreign_partition
-- level: error
-- summary: A partition of a tenant table is a foreign table.
-- ramification: Row-level security does not exist for foreign tables: whoever reaches the partition reads rows of all tenants.
-- resolution: Move the rows into an ordinary partition.

select 'error', r.root_name, r.relation_name, 'is a foreign table, for which row-level security does not exist',
    format('alter table %s detach partition %s', r.root_name, r.relation_name)
  from rowhouse.tenant_relations() r where r.kind = 'f'
