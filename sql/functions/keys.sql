-- API keys: who asks for a tenant shows a key of that tenant.
--
-- A key names its tenant, so it is looked up as that tenant, under the tenant's own row-level security: no function here
-- looks through the keys of several tenants. The caller makes the secret and sends its digest only, so a secret is never
-- in a statement, a log or this database.
-- Depends on: audit.sql, denials.sql, rowhouse.api_keys. Proven by: test/keys.

create or replace function rowhouse.describe_api_key(p_key rowhouse.api_keys) returns jsonb
  language sql stable parallel safe
  return jsonb_build_object('id', (p_key).key_id, 'name', (p_key).name, 'environment', (p_key).environment,
    'scopes', (p_key).scopes, 'allowedIps', (p_key).allowed_ips, 'createdAt', (p_key).created_at,
    'expiresAt', (p_key).expires_at, 'lastUsedAt', (p_key).last_used_at, 'revokedAt', (p_key).revoked_at,
    'replacedBy', (p_key).replaced_by);

comment on function rowhouse.describe_api_key(rowhouse.api_keys) is 'A key as operators see it: without the digest.';

create or replace function rowhouse.covers_scope(p_scopes text[], p_scope text) returns boolean
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from unnest(p_scopes) s (scope)
      where s.scope in (p_scope, '*') or (s.scope like '%:*' and starts_with(p_scope, left(s.scope, -1))));
end
$$;

comment on function rowhouse.covers_scope(text[], text) is
  'Whether one of the scopes is this one, * or, for documents:read, documents:*.';

create or replace function rowhouse.refuse_api_key(p_key rowhouse.api_keys, p_digest bytea, p_ip inet, p_scopes text[]) returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_nonce bytea := uuid_send(gen_random_uuid());
begin
  -- Digests of digests with a new random prefix: how long their comparison takes tells nothing about either. A key that
  -- does not exist is compared as well.
  if sha256(v_nonce || coalesce(p_key.secret_digest, v_nonce)) is distinct from sha256(v_nonce || p_digest) then
    return case when p_key.key_id is null then 'unknown_key' else 'wrong_secret' end;
  end if;
  return case
    when p_key.revoked_at is not null then 'revoked'
    when p_key.expires_at <= statement_timestamp() then 'expired'
    when p_key.allowed_ips is not null
      and not exists (select from unnest(p_key.allowed_ips) a (network) where p_ip <<= a.network) then 'ip_not_allowed'
    when exists (select from unnest(p_scopes) s (scope) where not rowhouse.covers_scope(p_key.scopes, s.scope)) then 'missing_scope'
  end;
end
$$;

comment on function rowhouse.refuse_api_key(rowhouse.api_keys, bytea, inet, text[]) is
  'Why a key is refused: unknown_key, wrong_secret, revoked, expired, ip_not_allowed or missing_scope; null when it is not.';

create or replace function rowhouse.authenticate_api_key(
  p_key_id text, p_digest bytea, p_ip inet default null, p_scopes text[] default '{}'
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_verified_tenant();
  v_source bytea := rowhouse.key_guess_source(v_tenant, p_ip, p_key_id);
  v_key rowhouse.api_keys;
  v_reason text;
  v_wait integer;
begin
  perform rowhouse.enter_tenant();
  v_wait := rowhouse.key_guess_wait(v_source);
  if v_wait > 0 then
    perform rowhouse.record_denial(v_tenant, 'rowhouse.key.refuse', 'too_many_attempts', coalesce(host(p_ip), p_key_id),
      'too_many_attempts', jsonb_strip_nulls(jsonb_build_object('ip', host(p_ip))));
    return jsonb_build_object('refused', 'too_many_attempts', 'retryAfterMs', v_wait);
  end if;
  select k.* into v_key from rowhouse.api_keys k where k.tenant_id = v_tenant and k.key_id = p_key_id;
  v_reason := rowhouse.refuse_api_key(v_key, p_digest, p_ip, p_scopes);
  if v_reason is not null then
    -- By the key and address that were shown: whether it writes tells nothing about keys that exist.
    perform rowhouse.record_denial(v_tenant, 'rowhouse.key.refuse',
      case v_reason when 'missing_scope' then v_reason else 'refused_key' end, concat_ws(' ', p_key_id, host(p_ip)), v_reason,
      jsonb_strip_nulls(jsonb_build_object('keyId', v_key.key_id, 'ip', host(p_ip))));
    -- Who has the right secret does not guess: a worker that was forgotten with its expired key would keep every other
    -- key of the tenant at this address from working.
    if v_reason in ('unknown_key', 'wrong_secret') then
      perform rowhouse.count_key_guess(v_source);
    end if;
    return jsonb_build_object('refused', v_reason);
  end if;
  -- At most one write a minute, and no waiting for the one who makes it.
  if v_key.last_used_at is null or v_key.last_used_at < statement_timestamp() - interval '1 minute' then
    update rowhouse.api_keys k set last_used_at = date_trunc('minute', statement_timestamp())
      where k.tenant_id = v_tenant and k.key_id = (
        select f.key_id from rowhouse.api_keys f where f.tenant_id = v_tenant and f.key_id = p_key_id for update skip locked);
  end if;
  return rowhouse.describe_api_key(v_key);
end
$$;

comment on function rowhouse.authenticate_api_key(text, bytea, inet, text[]) is
  'Checks a key of the tenant of the transaction: p_digest is SHA-256 of its secret part, p_ip where the request comes from, p_scopes what it needs. Returns the key, or an object with refused, the reason: for operators, who find it in the audit trail too, never for the caller. After 20 unknown keys or wrong secrets of one source in a minute: too_many_attempts, with retryAfterMs, which the caller may know. Raises RH001 to RH004.';

create or replace function rowhouse.issue_api_key(
  p_tenant text, p_key_id text, p_digest bytea, p_name text, p_environment text, p_scopes text[], p_allowed_ips text[],
  p_expires_at timestamptz
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_key rowhouse.api_keys;
begin
  perform rowhouse.hold_tenant(p_tenant);
  if p_expires_at <= statement_timestamp() then
    raise exception using errcode = 'RH092', message = 'the API key is not accepted: it would have expired already',
      hint = 'Give a time that is to come, or none.';
  end if;
  v_before := rowhouse.work_as(p_tenant, false);
  insert into rowhouse.api_keys as k (tenant_id, key_id, name, secret_digest, environment, scopes, allowed_ips, expires_at)
    values (p_tenant, p_key_id, p_name, p_digest, p_environment, p_scopes, p_allowed_ips::cidr[], nullif(p_expires_at, 'infinity'))
    returning k.* into v_key;
  perform rowhouse.end_work(v_before);
  perform rowhouse.record_audit(p_tenant, 'rowhouse.key.issue',
    rowhouse.describe_api_key(v_key) - array['createdAt', 'lastUsedAt', 'revokedAt', 'replacedBy']);
  return rowhouse.describe_api_key(v_key)
    || jsonb_build_object('tier', (select t.tier from rowhouse.tenants t where t.tenant_id = p_tenant));
exception
  when data_exception or check_violation or not_null_violation then
    raise exception using errcode = 'RH092', message = format('the API key is not accepted: %s', sqlerrm);
end
$$;

comment on function rowhouse.issue_api_key(text, text, bytea, text, text, text[], text[], timestamptz) is
  'Adds a key whose id (16 hexadecimal digits) and secret the caller made; p_digest is SHA-256 of the secret part, p_expires_at is to come; null or infinity: never. Raises RH002, RH004, RH092 (not accepted).';

create or replace function rowhouse.change_api_key(
  p_tenant text, p_key_id text, p_expires_at timestamptz, p_revoke boolean, p_replaced_by text
) returns rowhouse.api_keys
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_key rowhouse.api_keys;
begin
  v_before := rowhouse.work_as(p_tenant, false);
  update rowhouse.api_keys k
    set expires_at = least(k.expires_at, p_expires_at),
      revoked_at = case when p_revoke then coalesce(k.revoked_at, statement_timestamp()) else k.revoked_at end,
      replaced_by = coalesce(p_replaced_by, k.replaced_by)
    where k.tenant_id = p_tenant and k.key_id = p_key_id
    returning k.* into v_key;
  if v_key.key_id is null then
    raise exception using errcode = 'RH093', message = format('tenant "%s" has no API key "%s"', p_tenant, p_key_id);
  end if;
  perform rowhouse.end_work(v_before);
  return v_key;
end
$$;

comment on function rowhouse.change_api_key(text, text, timestamptz, boolean, text) is
  'Ends a key now or at a time, never later than it would have ended. Raises RH093.';

create or replace function rowhouse.rotate_api_key(
  p_tenant text, p_key_id text, p_new_key_id text, p_digest bytea, p_overlap interval, p_expires_at timestamptz
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_old rowhouse.api_keys;
  v_new jsonb;
  v_ends_at timestamptz;
begin
  perform rowhouse.hold_tenant(p_tenant);
  -- Who holds a key until some day gets no key for ever by rotating it. Where an overlap ends it before, what took its place
  -- knows when.
  v_old := rowhouse.change_api_key(p_tenant, p_key_id, null, false, null);
  v_ends_at := v_old.expires_at;
  while v_old.replaced_by is not null loop
    v_old := rowhouse.change_api_key(p_tenant, v_old.replaced_by, null, false, null);
    v_ends_at := v_old.expires_at;
  end loop;
  v_old := rowhouse.change_api_key(p_tenant, p_key_id, statement_timestamp() + p_overlap, false, null);
  if v_old.revoked_at is not null then
    raise exception using errcode = 'RH092', message = format('the API key "%s" was revoked', p_key_id),
      hint = 'Issue a new one.';
  end if;
  if p_expires_at is null and v_ends_at <= statement_timestamp() then
    raise exception using errcode = 'RH092', message = format('the API key "%s" has expired', p_key_id),
      hint = 'Say when the new one expires, or issue one.';
  end if;
  v_new := rowhouse.issue_api_key(p_tenant, p_new_key_id, p_digest, v_old.name, v_old.environment, v_old.scopes,
    v_old.allowed_ips::text[], coalesce(p_expires_at, v_ends_at));
  perform rowhouse.change_api_key(p_tenant, p_key_id, null, false, p_new_key_id);
  perform rowhouse.record_audit(p_tenant, 'rowhouse.key.rotate',
    jsonb_build_object('id', p_key_id, 'replacedBy', p_new_key_id, 'expiresAt', v_old.expires_at));
  return v_new;
end
$$;

comment on function rowhouse.rotate_api_key(text, text, text, bytea, interval, timestamptz) is
  'Issues a key that takes over name, environment, scopes, networks and expiry of another one, which goes on for p_overlap. p_expires_at in place of its expiry; infinity: never. Raises RH002, RH004, RH092 (revoked, expired), RH093 (unknown).';

create or replace function rowhouse.revoke_api_key(p_tenant text, p_key_id text, p_reason text default null) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.hold_tenant(p_tenant);
  perform rowhouse.change_api_key(p_tenant, p_key_id, null, true, null);
  perform rowhouse.record_audit(p_tenant, 'rowhouse.key.revoke',
    jsonb_strip_nulls(jsonb_build_object('id', p_key_id, 'reason', p_reason)));
end
$$;

comment on function rowhouse.revoke_api_key(text, text, text) is
  'Revokes a key: refused from the commit of this transaction on, also while its tenant is suspended. Raises RH002, RH004, RH093.';

create or replace function rowhouse.list_api_keys(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_keys jsonb;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  v_before := rowhouse.work_as(p_tenant, false);
  select coalesce(jsonb_agg(rowhouse.describe_api_key(k) order by k.created_at, k.key_id), '[]') into v_keys
    from rowhouse.api_keys k where k.tenant_id = p_tenant;
  perform rowhouse.end_work(v_before);
  return v_keys;
end
$$;

comment on function rowhouse.list_api_keys(text) is 'The keys of a tenant, oldest first.';

revoke execute on function
  rowhouse.describe_api_key(rowhouse.api_keys), rowhouse.covers_scope(text[], text),
  rowhouse.refuse_api_key(rowhouse.api_keys, bytea, inet, text[]), rowhouse.authenticate_api_key(text, bytea, inet, text[]),
  rowhouse.issue_api_key(text, text, bytea, text, text, text[], text[], timestamptz),
  rowhouse.change_api_key(text, text, timestamptz, boolean, text),
  rowhouse.rotate_api_key(text, text, text, bytea, interval, timestamptz), rowhouse.revoke_api_key(text, text, text),
  rowhouse.list_api_keys(text)
  from public;
grant execute on function rowhouse.authenticate_api_key(text, bytea, inet, text[]) to rowhouse_app;
grant execute on function
  rowhouse.issue_api_key(text, text, bytea, text, text, text[], text[], timestamptz),
  rowhouse.rotate_api_key(text, text, text, bytea, interval, timestamptz), rowhouse.revoke_api_key(text, text, text),
  rowhouse.list_api_keys(text)
  to rowhouse_admin;
