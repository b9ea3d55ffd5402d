-- Terms: what limits a tenant, put together once and kept with its account until a limit changes or a period ends.
--
-- The limits of tiers have a revision, which terms must be of; a limit of the tenant's own throws its terms away. Both is
-- done by triggers, so that no way to change a limit can forget it. Whoever changes limits of a tenant that is at work
-- holds its account, so that no call puts terms together meanwhile.
-- Depends on: rowhouse.accounts, quotas.sql, circuits.sql. Proven by: test/budgets/account-terms.test.ts.

alter table rowhouse.limits_revision enable row level security, force row level security;
drop policy if exists owner_all on rowhouse.limits_revision;
create policy owner_all on rowhouse.limits_revision for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.limits_revision is 'Only the functions of rowhouse ask for it.';
revoke all on rowhouse.limits_revision from public, rowhouse_app, rowhouse_admin;

-- The caller holds the account.
create or replace function rowhouse.renew_terms(p_account record) returns rowhouse.account_terms
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_terms rowhouse.account_terms;
begin
  -- One statement, so that all of it is of one revision.
  with effective as (
    select e.*, b.counted_from
      from rowhouse.effective_quotas(p_account.tenant, p_account.tier, p_account.time_zone, p_account.opened_at) e
      cross join lateral (values (
        rowhouse.quota_counted_from(e.window_ms, e.period_start, p_account.opened_at))) b (counted_from)
  )
  select r.revision, p_account.tier, p_account.opened_at, l.*,
      (select array_agg(e.metric order by e.name) from effective e where e.period = 'request'),
      (select array_agg(e.hard_limit order by e.name) from effective e where e.period = 'request'),
      coalesce(
        (select m.models from rowhouse.tier_models m where m.tier = p_account.tier),
        (select m.models from rowhouse.tier_models m where m.tier = '*')),
      exists (select from rowhouse.circuit_rules c where c.tier in (p_account.tier, '*'))
    into v_terms
    from rowhouse.limits_revision r
    cross join (
      select coalesce(min(
            case when e.window_ms is null then e.period_end
              -- The first of its sixtieths, or the last, becomes another one.
              else least(e.period_start, e.counted_from + e.window_ms * interval '1 millisecond')
                + (e.window_ms + 59) / 60 * interval '1 millisecond' end), 'infinity'),
          coalesce(array_agg(e.name order by e.name), '{}'), coalesce(array_agg(e.metric order by e.name), '{}'),
          coalesce(array_agg(e.period_start order by e.name), '{}'), coalesce(array_agg(e.counted_from order by e.name), '{}'),
          case when bool_or(e.window_ms is not null) then array_agg(e.window_ms order by e.name) end,
          coalesce(array_agg(e.hard_limit order by e.name), '{}'),
          -- What was used of a rolling quota is in several counters: it is looked at each time.
          coalesce(array_agg(case when e.soft_limit is not null and e.window_ms is not null then 0 else e.soft_limit end
            order by e.name), '{}')
        from effective e
        where e.period <> 'request') l;
  -- The sixtieths of a short window would have the account written with nearly every call.
  if v_terms.valid_until > p_account.opened_at + interval '1 second' then
    update rowhouse.accounts a set terms = v_terms where a.tenant_id = p_account.tenant;
  end if;
  return v_terms;
end
$$;

comment on function rowhouse.renew_terms(record) is
  'Puts together what limits a tenant (its own limits, else those of its tier, else those of tier *), keeps it with its account, unless it ends within a second, and returns it. p_account: as lock_account returns it.';

create or replace function rowhouse.renew_limits_revision() returns trigger
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  update rowhouse.limits_revision r set revision = gen_random_uuid() where r.singleton;
  return null;
end
$$;

comment on function rowhouse.renew_limits_revision() is
  'Statement trigger of everything that limits tiers: the terms of all accounts are put together anew, each with its next call.';

create or replace function rowhouse.forget_terms() returns trigger
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  update rowhouse.accounts a set terms = null
    where a.tenant_id = case tg_op when 'DELETE' then old.tenant_id else new.tenant_id end;
  return null;
end
$$;

comment on function rowhouse.forget_terms() is
  'Trigger of the limits of single tenants: the terms of its account are put together anew with the next call. With the rights of who writes: whom no policy holds back has to reach the accounts of all tenants, too.';

-- Before the change, so that operators wait for each other here first, and never in a circle.
do $$
declare
  v_table regclass;
begin
  foreach v_table in array array['rowhouse.quotas', 'rowhouse.quota_defaults', 'rowhouse.tier_models', 'rowhouse.circuit_rules']::regclass[] loop
    execute format('create or replace trigger rowhouse_terms before insert or update or delete or truncate on %s
      for each statement execute function rowhouse.renew_limits_revision()', v_table);
    execute format('comment on trigger rowhouse_terms on %s is %L', v_table, 'Terms of accounts are of the limits of now.');
  end loop;
end
$$;

create or replace trigger rowhouse_terms after insert or update or delete on rowhouse.quota_overrides
  for each row execute function rowhouse.forget_terms();
comment on trigger rowhouse_terms on rowhouse.quota_overrides is 'Terms of accounts are of the limits of now.';
create or replace trigger rowhouse_truncate_terms before truncate on rowhouse.quota_overrides
  for each statement execute function rowhouse.renew_limits_revision();
comment on trigger rowhouse_truncate_terms on rowhouse.quota_overrides is 'Terms of accounts are of the limits of now.';

-- Terms that another version of these functions put together are put together anew.
update rowhouse.limits_revision r set revision = gen_random_uuid() where r.singleton;

revoke execute on function rowhouse.renew_terms(record), rowhouse.renew_limits_revision(), rowhouse.forget_terms() from public;
