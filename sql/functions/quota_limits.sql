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
  -- Also an insert that does nothing would have the terms of all accounts put together anew.
  if not exists (select from rowhouse.quotas q where q.name = p_name) then
    insert into rowhouse.quotas (name, metric, period, window_ms) values (p_name, p_metric, p_period, p_window_ms)
      on conflict (name) do nothing;
  end if;
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
  -- The first call of the tenant must not put its terms together without what is set here.
  perform rowhouse.lock_account('{active,suspended,inactive}');
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
  'Sets the limits of one tenant, in place of those of its tier; null: none. Holds from the next call on. Calls of the tenant wait until the transaction ends, so it is about one tenant, and short. Raises RH050, RH051, and RH002, RH004, RH006 for the tenant.';

create or replace function rowhouse.unset_quota(p_tenant text, p_name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
begin
  perform rowhouse.check_tenant_id(p_tenant);
  v_before := rowhouse.work_for_operator(p_tenant);
  if exists (select from rowhouse.quota_overrides o where o.tenant_id = p_tenant and o.name = p_name) then
    perform rowhouse.lock_account('{active,suspended,inactive}');
    delete from rowhouse.quota_overrides o where o.tenant_id = p_tenant and o.name = p_name;
    perform rowhouse.record_own_audit('rowhouse.quota.unset', jsonb_build_object('name', p_name));
  end if;
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.unset_quota(text, text) is 'Removes the limits of one tenant, so that those of its tier hold. As set_quota, calls of the tenant wait until the transaction ends.';

create or replace function rowhouse.check_models(p_models text[]) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- A comparison with null is never false, so every model would be one of them.
  if array_position(p_models, null) is not null then
    raise exception using errcode = 'RH051', message = 'a list of models has no null in it',
      hint = 'null in place of the list means every model, or those of the tier.';
  end if;
end
$$;

comment on function rowhouse.check_models(text[]) is 'Raises RH051 for a list of models with a null in it.';

create or replace function rowhouse.carry_periods(p_account record, p_time_zone text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_period record;
  v_before rowhouse.quota_counters;
begin
  for v_period in
    select q.name, b.period_start as before, n.period_start as after
      from rowhouse.quotas q
      cross join lateral (values (rowhouse.quota_period_start(q.period, null, p_account.time_zone, p_account.opened_at))) b (period_start)
      cross join lateral (values (rowhouse.quota_period_start(q.period, null, p_time_zone, p_account.opened_at))) n (period_start)
      where q.period not in ('total', 'request', 'rolling') and b.period_start <> n.period_start
  loop
    select c.* into v_before from rowhouse.quota_counters c
      where c.tenant_id = p_account.tenant and c.name = v_period.name and c.period_start = v_period.before;
    continue when v_before.name is null;
    insert into rowhouse.quota_counters (tenant_id, name, period_start, allowance)
      values (p_account.tenant, v_period.name, v_period.after, v_before.allowance)
      on conflict (tenant_id, name, period_start) do nothing;
    -- Calls at work settle in the new period.
    update rowhouse.reservations r
      set periods = (
        select array_agg(case when b.name = v_period.name and b.period_start = v_period.before then v_period.after else b.period_start end
            order by b.number)
          from unnest(r.quotas, r.periods) with ordinality b (name, period_start, number))
      where r.tenant_id = p_account.tenant and v_period.name = any (r.quotas);
    update rowhouse.quota_counters c set reserved = 0
      where c.tenant_id = p_account.tenant and c.name = v_period.name and c.period_start = v_period.before;
    -- Who goes there and back carries nothing twice. No event says what is carried; it is kept like what retention deleted.
    update rowhouse.quota_counters c
      set reserved = c.reserved + v_before.reserved, archived = c.archived + n.carried, allowance = a.allowance,
        settled = least(n.used, greatest(c.settled, coalesce(a.allowance, 'Infinity') - c.reserved - v_before.reserved)),
        overrun = greatest(n.used - greatest(c.settled, coalesce(a.allowance, 'Infinity') - c.reserved - v_before.reserved), 0)
      from rowhouse.quota_counters o
        cross join lateral (values (greatest(v_before.settled + v_before.overrun - o.settled - o.overrun, 0))) k (carried)
        cross join lateral (values (k.carried, o.settled + o.overrun + k.carried)) n (carried, used)
        cross join lateral (values (case when v_before.allowance is not null then
          greatest(v_before.allowance, o.settled + o.reserved + v_before.reserved) end)) a (allowance)
      where o.tenant_id = p_account.tenant and o.name = v_period.name and o.period_start = v_period.after
        and c.tenant_id = p_account.tenant and c.name = o.name and c.period_start = o.period_start;
  end loop;
end
$$;

comment on function rowhouse.carry_periods(record, text) is
  'Before the time zone of an account changes: what was used and is reserved in its periods goes on counting in those of the new zone, so that another zone is no new budget. p_account: as lock_account returns it.';

create or replace function rowhouse.set_account(
  p_tenant text, p_currency text default null, p_time_zone text default null, p_models text[] default null,
  p_reset text[] default '{}'
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_account record;
  v_new record;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  perform rowhouse.check_models(p_models);
  if not exists (select from pg_timezone_names z where z.name = coalesce(p_time_zone, 'UTC')) then
    raise exception using errcode = 'RH051', message = 'not a time zone', hint = 'For example: Europe/Berlin.';
  elsif p_reset is null or not p_reset <@ '{currency,time_zone,models}' then
    raise exception using errcode = 'RH051', message = 'what can be reset is currency, time_zone and models';
  end if;
  v_before := rowhouse.work_for_operator(p_tenant);
  -- A call that is being admitted is admitted by then, and seen below.
  v_account := rowhouse.open_account('{active,suspended,inactive}');
  select case when 'currency' = any (p_reset) then 'USD' else coalesce(p_currency, v_account.currency) end as currency,
      case when 'time_zone' = any (p_reset) then 'UTC' else coalesce(p_time_zone, v_account.time_zone) end as time_zone,
      case when 'models' = any (p_reset) then null else coalesce(p_models, v_account.models) end as models
    into v_new;
  -- What was counted in one currency is no amount of another.
  if v_new.currency <> v_account.currency and (
    exists (select from rowhouse.usage_events u where u.tenant_id = p_tenant)
    or exists (select from rowhouse.reservations r where r.tenant_id = p_tenant)
    or exists (
      select from rowhouse.quota_counters c join rowhouse.quotas q on q.name = c.name
        where c.tenant_id = p_tenant and q.metric = 'money' and c.settled + c.reserved + c.overrun <> 0))
  then
    raise exception using errcode = 'RH051', message = 'the tenant has usage in another currency',
      hint = 'The currency of a tenant is set before its first call.';
  end if;
  if v_new.time_zone <> v_account.time_zone then
    perform rowhouse.carry_periods(v_account, v_new.time_zone);
  end if;
  update rowhouse.accounts a set currency = v_new.currency, time_zone = v_new.time_zone, models = v_new.models, terms = null
    where a.tenant_id = p_tenant;
  perform rowhouse.record_own_audit('rowhouse.account.set',
    jsonb_build_object('currency', v_new.currency, 'timeZone', v_new.time_zone, 'models', v_new.models));
  perform rowhouse.end_work(v_before);
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'RH051', message = 'a currency is three capital letters';
end
$$;

comment on function rowhouse.set_account(text, text, text, text[], text[]) is
  'Sets how a tenant is billed: currency (USD), time zone of its periods (UTC), and the models it may use (those of its tier). Null keeps what was set; p_reset names what goes back to what is in parentheses: currency, time_zone, models. What was used goes on counting in the periods of another zone; the currency is settled with the first call. Raises RH051, and RH002, RH004, RH006 for the tenant.';

create or replace function rowhouse.set_tier_models(p_tier text, p_models text[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_models(p_models);
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
  rowhouse.unset_quota(text, text), rowhouse.set_account(text, text, text, text[], text[]), rowhouse.set_tier_models(text, text[]),
  rowhouse.check_models(text[]), rowhouse.carry_periods(record, text)
  from public;
grant execute on function
  rowhouse.define_quota(text, text, text, bigint), rowhouse.set_default_quota(text, text, numeric, numeric),
  rowhouse.unset_default_quota(text, text), rowhouse.set_quota(text, text, numeric, numeric),
  rowhouse.unset_quota(text, text), rowhouse.set_account(text, text, text, text[], text[]), rowhouse.set_tier_models(text, text[])
  to rowhouse_admin;
