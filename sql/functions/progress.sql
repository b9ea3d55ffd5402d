-- Progress: what a long statement has done so far, told while it runs.
--
-- Who asks for it (set local rowhouse.reports_progress = on) gets messages of level INFO, which go to no log.
-- Proven by: test/erase/progress.test.ts, test/audit/progress.test.ts.

create or replace function rowhouse.report_progress(p_work text, p_object text, p_done bigint, p_total bigint default null)
  returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('rowhouse.reports_progress', true) = 'on' then
    raise info using message = 'rowhouse progress',
      detail = jsonb_build_object('work', p_work, 'object', p_object, 'done', p_done, 'total', p_total);
  end if;
end
$$;

comment on function rowhouse.report_progress(text, text, bigint, bigint) is
  'Tells the client, if it asked for that, how far a work (erase, seal, verify) is with an object: as JSON in the detail of a message. p_total: null where nobody knows.';

revoke execute on function rowhouse.report_progress(text, text, bigint, bigint) from public;
