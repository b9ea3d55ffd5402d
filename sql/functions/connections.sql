-- Connections: what a transaction can leave on a connection of a pool.
--
-- The client calls this behind every commit and rollback, in the same message.
-- Depends on nothing. Proven by: test/context/clean-up.test.ts, test/isolation/p02, p14.

-- One call costs the server, and the client that reads the answers, less than the statements one by one. It runs as
-- whatever role the transaction left, so it is for everybody: each of these statements is too.
create or replace procedure rowhouse.clean_connection(p_every_setting pg_catalog.bool)
  language plpgsql
as $$
begin
  reset role;
  -- PL/pgSQL has a CLOSE of its own.
  execute 'close all';
  discard temp;
  discard sequences;
  unlisten *;
  perform pg_catalog.pg_advisory_unlock_all();
  if p_every_setting then
    reset all;
    deallocate all;
  else
    reset app.tenant_id;
    reset app.user_id;
    reset app.request_id;
    reset app.seal;
    reset rowhouse.settles;
    reset row_security;
    reset default_transaction_isolation;
    reset default_transaction_read_only;
  end if;
end
$$;

comment on procedure rowhouse.clean_connection(bool) is
  'Removes what a transaction can leave on a connection: a session role, held cursors, temporary objects, the last values of sequences, listeners, session advisory locks, and settings: those of rowhouse, or with p_every_setting all of them and prepared statements too. Run outside a transaction.';

grant execute on procedure rowhouse.clean_connection(bool) to public;
