import pg from 'pg'
import { createRowhouseError, mapDatabaseError } from '../errors.ts'
import type { OwnerConnection } from '../protect/protect.ts'

/**
 * A queue library as jobs need it: something that wakes a worker up at a time. `graphileWorker()` of
 * `rowhouse/graphile-worker` and `pgBoss()` of `rowhouse/pg-boss` make one; any table in the same database can be another.
 */
export interface JobQueue {
  /** Lower-case letters, digits, underscores and hyphens. Jobs remember it. */
  readonly name: string
  /** The schema of the library. */
  readonly schema: string
  /**
   * What a PL/pgSQL function does with `p_tenant text`, `p_put jsonb` (an array of `{ "id", "at", "priority" }`, where a
   * higher priority is sooner) and `p_cancel uuid[]`: puts wake-ups whose payload is `{ "tenantId", "id" }`, and takes
   * back those that did not come yet. It runs with the rights of the owner of the schema.
   */
  readonly wakeUps: string
  /** The table that must be there before it is installed, and what makes it. */
  readonly requires: { readonly relation: string; readonly hint: string }
}

/** Lets rowhouse put wake-ups into the tables of a queue library, and nobody else. */
export async function installJobQueue(connection: OwnerConnection, queue: JobQueue): Promise<void> {
  const { name, schema, wakeUps, requires } = queue
  const quoted = pg.escapeIdentifier(schema)
  const definer = `${quoted}.rowhouse_wake_ups(text, jsonb, uuid[])`
  await connection(async (client) => {
    const { rows } = await client.query<{ owner: string; mine: boolean; ready: boolean }>(
      `select pg_get_userbyid(n.nspowner) as owner, pg_has_role(n.nspowner, 'usage') as mine,
          exists (select from pg_class c where c.relnamespace = n.oid and c.relname = $2) as ready
        from pg_namespace n where n.nspname = $1`,
      [schema, requires.relation],
    )
    const [found] = rows
    if (!found?.ready) {
      throw createRowhouseError('job_queue_missing', `The tables of ${name} are not in the schema ${schema}.`, {
        hint: requires.hint,
      })
    }
    if (!found.mine) {
      throw createRowhouseError('missing_privilege', `The schema ${schema} belongs to ${found.owner}; install as it.`)
    }
    try {
      await client.query(`begin;
        create or replace function ${quoted}.rowhouse_wake_ups(p_tenant text, p_put jsonb, p_cancel uuid[]) returns void
          language plpgsql volatile security definer
          set search_path = pg_catalog, pg_temp
        as $body$ begin ${wakeUps} end $body$;
        alter function ${definer} owner to ${pg.escapeIdentifier(found.owner)};
        revoke execute on function ${definer} from public;
        grant usage on schema ${quoted} to rowhouse_owner;
        grant execute on function ${definer} to rowhouse_owner;
        comment on function ${definer} is 'Puts wake-ups for jobs of rowhouse, and takes them back. Called by rowhouse.send_wake_ups alone.';
        select rowhouse.register_job_queue(${pg.escapeLiteral(name)}, ${pg.escapeLiteral(schema)});
        commit`)
    } catch (error) {
      await client.query('rollback').catch(() => {})
      throw mapDatabaseError(error)
    }
  })
}
