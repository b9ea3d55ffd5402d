// LangGraph's own validation of checkpointers.
import { validate } from '@langchain/langgraph-checkpoint-validation'
import { afterAll, inject } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { RowhouseSaver } from '../../src/langgraph/index.ts'

const rowhouse = createRowhouse({ connectionString: inject('appUrl'), poolOptions: { max: 3 } })
afterAll(() => rowhouse.close())

validate({
  checkpointerName: 'rowhouse',
  createCheckpointer: () => new RowhouseSaver(rowhouse.tenant('acme')),
  // The next set of validations begins with nothing.
  destroyCheckpointer: async () => {
    const { sessions } = rowhouse.tenant('acme')
    for (const { id } of (await sessions.list({ limit: 1000 })).sessions) await sessions.delete(id)
  },
})
