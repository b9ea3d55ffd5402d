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
  select r.revision, p_account.tier, p_account.opened_at, l.*,
      coalesce(
        (select m.models from rowhouse.tier_models m where m.tier = p_account.tier),
        (select m.models from rowhouse.tier_models m where m.tier = '*')),
      exists (select from rowhouse.circuit_rules c where c.tier in (p_account.tier, '*'))
    into v_terms
    from rowhouse.limits_revision r
    cross join (
      select coalesce(min(
            case when e.window_ms is null then e.period_end
              -- The first of its buckets, or the last, becomes another one.
              else least(e.period_start, b.counted_from + e.window_ms * interval '1 millisecond')
                + (e.window_ms + 59) / 60 * interval '1 millisecond' end) filter (where e.period <> 'request'), 'infinity'),
          coalesce(array_agg(e.name) filter (where e.period <> 'request'), '{}'),
          coalesce(array_agg(e.metric) filter (where e.period <> 'request'), '{}'),
          coalesce(array_agg(e.period_start) filter (where e.period <> 'request'), '{}'),
          coalesce(array_agg(b.counted_from) filter (where e.period <> 'request'), '{}'),
          case when bool_or(e.window_ms is not null) then array_agg(e.window_ms) filter (where e.period <> 'request') end,
          coalesce(array_agg(e.hard_limit) filter (where e.period <> 'request'), '{}'),
          -- What was used of a rolling quota is in several counters: it is looked at each time.
          coalesce(array_agg(case when e.soft_limit is not null and e.window_ms is not null then 0 else e.soft_limit end)
            filter (where e.period <> 'request'), '{}'),
          array_agg(e.metric) filter (where e.period = 'request'),
          array_agg(e.hard_limit) filter (where e.period = 'request')
        from rowhouse.effective_quotas(p_account.tenant, p_account.tier, p_account.time_zone, p_account.opened_at) e
        cross join lateral (values (
          rowhouse.quota_counted_from(e.window_ms, e.period_start, p_account.opened_at))) b (counted_from)) l;
  update rowhouse.accounts a set terms = v_terms where a.tenant_id = p_account.tenant;
  return v_terms;
end
$$;

comment on function rowhouse.renew_terms(record) is
  'Puts together what limits a tenant (its own limits, else those of its tier, else those of tier *), keeps it with its account and returns it; it holds until valid_until. p_account: as lock_account returns it.';

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
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  update rowhouse.accounts a set terms = null
    where a.tenant_id = case tg_op when 'DELETE' then old.tenant_id else new.tenant_id end;
  return null;
end
$$;

comment on function rowhouse.forget_terms() is
  'Trigger of the limits of single tenants: the terms of its account are put together anew with the next call.';

do $$
declare
  v_table regclass;
begin
  foreach v_table in array array['rowhouse.quotas', 'rowhouse.quota_defaults', 'rowhouse.tier_models', 'rowhouse.circuit_rules']::regclass[] loop
    execute format('create or replace trigger rowhouse_terms after insert or update or delete or truncate on %s
      for each statement execute function rowhouse.renew_limits_revision()', v_table);
    execute format('comment on trigger rowhouse_terms on %s is %L', v_table, 'Terms of accounts are of the limits of now.');
  end loop;
end
$$;

create or replace trigger rowhouse_terms after insert or update or delete on rowhouse.quota_overrides
  for each row execute function rowhouse.forget_terms();
comment on trigger rowhouse_terms on rowhouse.quota_overrides is 'Terms of accounts are of the limits of now.';

revoke execute on function rowhouse.renew_terms(record), rowhouse.renew_limits_revision(), rowhouse.forget_terms() from public;
