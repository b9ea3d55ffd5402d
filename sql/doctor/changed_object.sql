-- name: changed_object
-- level: warning
-- summary: A function, table, domain or index of rowhouse is not as migrate made it.
-- ramification: Somebody changed or dropped it by hand: guarantees that rely on it may not hold.
-- resolution: Find out who and why; then drop what is left, delete from rowhouse.applied_functions, and migrate again.

select 'warning', null, s.object, case when o.object is null then 'is gone' else 'was changed after it was migrated' end,
    'delete from rowhouse.applied_functions; then: npx rowhouse migrate'
  from rowhouse.shipped_objects s
  left join rowhouse.current_objects() o on o.object = s.object
  where s.server_version = current_setting('server_version_num')::integer / 10000 and o.digest is distinct from s.digest
