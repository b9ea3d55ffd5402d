import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import { graphileTasks, graphileWorker } from 'rowhouse/graphile-worker'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { describeJobs } from './jobs-support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
const logger = new Logger(() => () => {})

describeJobs(database, fixture, {
  queue: graphileWorker(),
  program: 'graphile-process.ts',
  prepare: async (connectionString) => {
    const utils = await makeWorkerUtils({ connectionString, logger })
    await utils.migrate()
    await utils.release()
  },
  start: async (connectionString, jobs, { concurrency }) => {
    const runner = await run({
      connectionString,
      logger,
      noHandleSignals: true,
      pollInterval: 100,
      concurrency,
      taskList: { ...graphileTasks(jobs), mine: async () => {} },
    })
    return () => runner.stop()
  },
  written: async (owner) => {
    const { rows } = await owner.query('select j::text as row from graphile_worker._private_jobs j')
    return JSON.stringify(rows)
  },
  forge: async (owner, payload) => {
    await owner.query("select graphile_worker.add_job('rowhouse', $1::json)", [JSON.stringify(payload)])
  },
  pending: async (owner) => {
    const { rows } = await owner.query<{ count: number }>(
      'select count(*)::int as count from graphile_worker._private_jobs where locked_at is null and attempts < max_attempts',
    )
    return rows[0]!.count
  },
})
