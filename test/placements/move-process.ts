// Moves a tenant in a process of its own, which kills itself before a step. Arguments: URLs, tenant, step, where to.

import { createRowhouse, type MoveStep } from '../../src/index.ts'

const [home = '', eu = '', tenantId = '', lastStep = '', to = 'eu'] = process.argv.slice(2)
const rowhouse = createRowhouse({ connectionString: home, placements: { eu: { connectionString: eu } } })
const kill = () => process.kill(process.pid, 'SIGKILL')
await rowhouse.tenants.move(tenantId, to, {
  onStep: (step: MoveStep) => {
    if (step === lastStep) kill()
  },
  onProgress: ({ rows, totalRows }) => {
    if (lastStep === 'copying' && rows * 2 > totalRows) kill()
  },
})
await rowhouse.close()
