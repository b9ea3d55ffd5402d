-- Limits of quotas: what operators set for tiers and for single tenants. What is set for a tenant is in its audit trail.
-- Depends on: quotas.sql, locks.sql, audit.sql. Proven by: test/budgets/quotas.test.ts, test/audit/limits.test.ts.

create or replace function rowhouse.check_quota(p_name text, p_hard_limit numeric, p_soft_limit numeric) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from rowhouse.quotas q where q.name = p_name) then
    raise exception using errcode = 'RH050', message = format('there is no quota "%s"', left(p_name, 63)),
      hint = 'Define it first: select rowhouse.define_quota(''seats'', ''seats'', ''total'').';
  elsif p_hard_limit not between 0 and 1000000000000000 or p_soft_limit not between 0 and 1000000000000000 then
    raise exception using errcode = 'RH051', message = 'a limit is a number from 0 to 1000000000000000, or null for none';
  end if;
end
$$;

comment on function rowhouse.check_quota(text, numeric, numeric) is 'Raises RH050 (no such quota) or RH051 (no such limit).';

create or replace function rowhouse.define_quota(p_name text, p_metric text, p_period text, p_window_ms bigint default null) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into rowhouse.quotas (name, metric, period, window_ms) values (p_name, p_metric, p_period, p_window_ms)
    on conflict (name) do nothing;
  if not exists (
    select from rowhouse.quotas q
      where q.name = p_name and q.metric = p_metric and q.period = p_period and q.window_ms is not distinct from p_window_ms)
  then
    raise exception using errcode = 'RH051', message = format('quota "%s" counts something else, or for another period', p_name),
      hint = 'What was counted stays counted; choose another name.';
  end if;
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'RH051', message = 'not a quota',
      hint = 'define_quota(name, metric, period): lower-case names, a period out of request, hour, day, week, month, year, total, rolling; rolling has a length of 1000 ms or more.';
end
$$;

comment on function rowhouse.define_quota(text, text, text, bigint) is
  'Defines what a quota counts and for how long; it limits nothing until a tier or a tenant has a limit. Repeating it changes nothing. Raises RH051.';

create or replace function rowhouse.set_default_quota(
  p_tier text, p_name text, p_hard_limit numeric, p_soft_limit numeric default null
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_quota(p_name, p_hard_limit, p_soft_limit);
  insert into rowhouse.quota_defaults (tier, name, hard_limit, soft_limit)
    values (p_tier, p_name, p_hard_limit, p_soft_limit)
    on conflict (tier, name) do update set hard_limit = excluded.hard_limit, soft_limit = excluded.soft_limit;
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'RH051', message = 'not a tier',
      hint = 'A tier is 1 to 32 lower-case letters, digits, underscores or hyphens; * stands for all tiers.';
end
$$;

comment on function rowhouse.set_default_quota(text, text, numeric, numeric) is
  'Sets the limits of a tier (* for all tiers that have none of this name); null: none. Holds from the next call on. Raises RH050, RH051.';

create or replace function rowhouse.unset_default_quota(p_tier text, p_name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  delete from rowhouse.quota_defaults d where d.tier = p_tier and d.name = p_name;
end
$$;

comment on function rowhouse.unset_default_quota(text, text) is
  'Removes the limits of a tier, so that those of tier * hold, or none.';

create or replace function rowhouse.set_quota(
  p_tenant text, p_name text, p_hard_limit numeric, p_soft_limit numeric default null
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
begin
  perform rowhouse.check_tenant_id(p_tenant);
  perform rowhouse.check_quota(p_name, p_hard_limit, p_soft_limit);
  v_before := rowhouse.work_for_operator(p_tenant);
  insert into rowhouse.quota_overrides (tenant_id, name, hard_limit, soft_limit, updated_at)
    values (p_tenant, p_name, p_hard_limit, p_soft_limit, statement_timestamp())
    on conflict (tenant_id, name) do update
      set hard_limit = excluded.hard_limit, soft_limit = excluded.soft_limit, updated_at = excluded.updated_at;
  perform rowhouse.record_own_audit('rowhouse.quota.set',
    jsonb_build_object('name', p_name, 'hardLimit', p_hard_limit, 'softLimit', p_soft_limit));
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.set_quota(text, text, numeric, numeric) is
  'Sets the limits of one tenant, in place of those of its tier; null: none. Holds from the next call on. Raises RH050, RH051, and RH002, RH004, RH006 for the tenant.';

create or replace function rowhouse.unset_quota(p_tenant text, p_name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
begin
  perform rowhouse.check_tenant_id(p_tenant);
  v_before := rowhouse.work_for_operator(p_tenant);
  delete from rowhouse.quota_overrides o where o.tenant_id = p_tenant and o.name = p_name;
  if found then
    perform rowhouse.record_own_audit('rowhouse.quota.unset', jsonb_build_object('name', p_name));
  end if;
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.unset_quota(text, text) is 'Removes the limits of one tenant, so that those of its tier hold.';

create or replace function rowhouse.set_account(
  p_tenant text, p_currency text default 'USD', p_time_zone text default 'UTC', p_models text[] default null
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
begin
  perform rowhouse.check_tenant_id(p_tenant);
  if not exists (select from pg_timezone_names z where z.name = p_time_zone) then
    raise exception using errcode = 'RH051', message = 'not a time zone', hint = 'For example: Europe/Berlin.';
  end if;
  v_before := rowhouse.work_for_operator(p_tenant);
  -- What was counted in one currency is no amount of another.
  if exists (select from rowhouse.usage_events u where u.tenant_id = p_tenant and u.currency <> p_currency)
    or exists (select from rowhouse.reservations r where r.tenant_id = p_tenant and r.currency <> p_currency)
  then
    raise exception using errcode = 'RH051', message = 'the tenant has usage in another currency',
      hint = 'The currency of a tenant is set before its first call.';
  end if;
  insert into rowhouse.accounts (tenant_id, currency, time_zone, models)
    values (p_tenant, p_currency, p_time_zone, p_models)
    on conflict (tenant_id) do update
      set currency = excluded.currency, time_zone = excluded.time_zone, models = excluded.models;
  perform rowhouse.record_own_audit('rowhouse.account.set',
    jsonb_build_object('currency', p_currency, 'timeZone', p_time_zone, 'models', p_models));
  perform rowhouse.end_work(v_before);
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'RH051', message = 'a currency is three capital letters';
end
$$;

comment on function rowhouse.set_account(text, text, text, text[]) is
  'Sets how a tenant is billed: currency, time zone of its periods, and the models it may use (null: those of its tier). Another zone begins other periods, which are counted anew; the currency is settled with the first call. Raises RH051, and RH002, RH004, RH006 for the tenant.';

create or replace function rowhouse.set_tier_models(p_tier text, p_models text[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_models is null then
    delete from rowhouse.tier_models m where m.tier = p_tier;
  else
    insert into rowhouse.tier_models (tier, models) values (p_tier, p_models)
      on conflict (tier) do update set models = excluded.models;
  end if;
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'RH051', message = 'not a tier',
      hint = 'A tier is 1 to 32 lower-case letters, digits, underscores or hyphens; * stands for all tiers.';
end
$$;

comment on function rowhouse.set_tier_models(text, text[]) is
  'Sets the models that tenants of a tier may use; null: every model that has a price.';

revoke execute on function
  rowhouse.check_quota(text, numeric, numeric),
  rowhouse.define_quota(text, text, text, bigint), rowhouse.set_default_quota(text, text, numeric, numeric),
  rowhouse.unset_default_quota(text, text), rowhouse.set_quota(text, text, numeric, numeric),
  rowhouse.unset_quota(text, text), rowhouse.set_account(text, text, text, text[]), rowhouse.set_tier_models(text, text[])
  from public;
grant execute on function
  rowhouse.define_quota(text, text, text, bigint), rowhouse.set_default_quota(text, text, numeric, numeric),
  rowhouse.unset_default_quota(text, text), rowhouse.set_quota(text, text, numeric, numeric),
  rowhouse.unset_quota(text, text), rowhouse.set_account(text, text, text, text[]), rowhouse.set_tier_models(text, text[])
  to rowhouse_admin;
