-- name: policy_reads_table
-- level: warning
-- summary: A policy of a tenant table reads another table.
-- ramification: It decides by what its snapshot shows of that table: who is taken off a list while a statement waits for a row still gets the row, also what was written after.
-- resolution: Compare columns of the row with settings of the transaction; look other tables up before, in the function that sets them.

select distinct 'warning', t.relation_name, format('%I on %s', p.polname, t.relation_name),
    format('reads %s for each row, as it was when the statement began', rowhouse.qualified_name(d.refobjid)),
    format('drop policy %I on %s, or let it compare with a setting of the transaction', p.polname, t.relation_name)
  from rowhouse.tenant_relations() t
  join pg_policy p on p.polrelid = t.relation
  join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_class'::regclass
  where d.refobjid <> p.polrelid
