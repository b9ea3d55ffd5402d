import { existsSync } from 'node:fs'
import { request } from 'node:http'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Image of the containers: PostgreSQL with pgvector. */
const IMAGE = 'pgvector/pgvector:pg17'

/** Whether a Docker engine answers; takes no more than `timeoutMs` to find out that none does. */
export async function dockerAnswers(timeoutMs = 500): Promise<boolean> {
  const host = process.env.DOCKER_HOST
  if (host?.startsWith('ssh:')) return true
  if (host !== undefined && !host.startsWith('unix:')) {
    const { hostname, port } = new URL(host)
    // With TLS the engine refuses plain HTTP, but it is there: any answer will do.
    return ping({ host: hostname, port: Number(port || 2375) }, timeoutMs)
  }
  const sockets =
    host !== undefined
      ? [new URL(host).pathname]
      : [
          '/var/run/docker.sock',
          join(homedir(), '.docker/run/docker.sock'),
          join(homedir(), '.colima/default/docker.sock'),
          join(process.env.XDG_RUNTIME_DIR ?? '/nowhere', 'docker.sock'),
        ]
  const answers = await Promise.all(
    sockets.filter((socket) => existsSync(socket)).map((socketPath) => ping({ socketPath }, timeoutMs)),
  )
  return answers.includes(true)
}

function ping(where: { socketPath: string } | { host: string; port: number }, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const attempt = request({ ...where, path: '/_ping', timeout: timeoutMs }, (response) => {
      response.resume()
      resolve(true)
    })
    attempt.once('timeout', () => {
      resolve(false)
      attempt.destroy()
    })
    attempt.once('error', () => resolve(false))
    attempt.end()
  })
}

/** Starts a container; testcontainers removes it even if this process is killed. */
export async function startContainer(): Promise<{ url: string; image: string; stop(): Promise<void> }> {
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql')
  const container = await new PostgreSqlContainer(IMAGE)
    .withCommand(['postgres', '-c', 'fsync=off', '-c', 'max_connections=200', '-c', 'autovacuum=off'])
    .start()
  return {
    url: container.getConnectionUri(),
    image: IMAGE,
    async stop() {
      await container.stop()
    },
  }
}
