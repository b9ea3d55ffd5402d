-- Slows down who tries API keys: 20 guesses of one source in a minute, on all server processes together. A guess is a text
-- that is no key, an unknown key or a wrong secret, and any key of a tenant that does not exist or may not work. A key whose
-- secret is right is none, also when it is expired, revoked, or used from a wrong network.
--
-- A source is an address and the tenant that its keys claim; where no address is known, a key. So a stranger elsewhere
-- keeps no valid key from working. Tenants that don't exist are counted alike, so that nobody learns which do: that is why
-- these are not rate limits of tenants.
-- Depends on: rowhouse.key_guesses. Proven by: test/keys/guesses.test.ts.

drop policy if exists owner_all on rowhouse.key_guesses;
create policy owner_all on rowhouse.key_guesses for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.key_guesses is 'The functions of rowhouse count.';

create or replace function rowhouse.key_guess_source(p_tenant text, p_ip inet, p_key_id text) returns bytea
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return sha256(convert_to(jsonb_build_array(p_tenant, host(p_ip), case when p_ip is null then p_key_id end)::text, 'UTF8'));
end
$$;

comment on function rowhouse.key_guess_source(text, inet, text) is 'Whose guesses are counted together.';

create or replace function rowhouse.key_guess_wait(p_source bytea) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((
    select ceil(extract(epoch from g.ends_at - clock_timestamp()) * 1000)::integer from rowhouse.key_guesses g
      where g.source = p_source and g.attempts >= 20 and g.ends_at > clock_timestamp()), 0);
end
$$;

comment on function rowhouse.key_guess_wait(bytea) is 'Milliseconds until keys of this source are looked at again; 0: now.';

create or replace function rowhouse.count_key_guess(p_source bytea) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into rowhouse.key_guesses as g (source, attempts, ends_at)
    values (p_source, 1, clock_timestamp() + interval '1 minute')
    on conflict (source) do update
      set attempts = case when g.ends_at <= clock_timestamp() then excluded.attempts else least(g.attempts + 1, 1000) end,
        ends_at = case when g.ends_at <= clock_timestamp() then excluded.ends_at else g.ends_at end;
  -- A few of those that are over, so that a flood of sources does not fill the disk.
  delete from rowhouse.key_guesses g where g.source in (
    select o.source from rowhouse.key_guesses o where o.ends_at < clock_timestamp() order by o.ends_at limit 10 for update skip locked);
  return rowhouse.key_guess_wait(p_source);
end
$$;

comment on function rowhouse.count_key_guess(bytea) is 'Counts a guess, and says how long this source waits now.';

create or replace function rowhouse.refuse_unknown_key(p_tenant text, p_ip inet, p_key_id text) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  -- Whoever counts for the same source in an open transaction holds nobody up.
  set lock_timeout = '100ms'
as $$
declare
  -- Not the source of a tenant at work, which authenticate_api_key counts as that tenant: SQL of another one that came
  -- here could keep its keys from working. And alike for all of them, so that nobody learns which tenants work.
  v_source bytea := rowhouse.key_guess_source('?' || coalesce(p_tenant, ''), p_ip, p_key_id);
  v_wait integer := rowhouse.key_guess_wait(v_source);
begin
  if v_wait > 0 then
    return v_wait;
  end if;
  perform rowhouse.count_key_guess(v_source);
  return 0;
exception
  when lock_not_available then
    return 1000;
end
$$;

comment on function rowhouse.refuse_unknown_key(text, inet, text) is
  'Counts the refusal of a key that is no key, or of a tenant that does not exist or may not work. Returns the milliseconds to wait when there were too many before.';

revoke execute on function rowhouse.key_guess_source(text, inet, text), rowhouse.key_guess_wait(bytea),
  rowhouse.count_key_guess(bytea), rowhouse.refuse_unknown_key(text, inet, text) from public;
grant execute on function rowhouse.refuse_unknown_key(text, inet, text) to rowhouse_app;
