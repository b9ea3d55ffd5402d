-- Usage: what tenants used and what it cost.
--
-- Rows come from settle. They are append-only: nobody but erasure deletes one, and nobody changes one.
-- Depends on: protect.sql, rowhouse.usage_events. Proven by: test/budgets.

select rowhouse.protect_table('rowhouse.usage_events');

-- Written by functions alone, which do the work of the write guard themselves.
revoke insert, update, delete on rowhouse.usage_events from rowhouse_app;
drop trigger rowhouse_guard on rowhouse.usage_events;
