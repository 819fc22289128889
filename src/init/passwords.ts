import { join } from 'node:path'
import { readSecretText } from './bounded-read.ts'
import type { Candidate } from './candidates.ts'

interface Wanted {
  readonly candidate: Candidate
  readonly user: string
  readonly env: Readonly<Record<string, string | undefined>>
}

/**
 * A password for this look alone, where libpq would find one, and the place that it was in. It is never shown or written.
 * Source: https://www.postgresql.org/docs/current/libpq-pgpass.html
 */
export async function passwordFor({
  candidate,
  user,
  env,
}: Wanted): Promise<{ password: string; from: string } | null> {
  if (candidate.password !== null) return { password: candidate.password, from: '--dsn' }
  if (env.PGPASSWORD) return { password: env.PGPASSWORD, from: 'PGPASSWORD' }
  const file = env.PGPASSFILE || (env.HOME ? join(env.HOME, '.pgpass') : null)
  const text = file === null ? null : await readSecretText(file)
  if (file === null || text === null) return null
  const host = candidate.host.startsWith('/') ? [candidate.host, 'localhost'] : [candidate.host]
  const wanted = [host, [String(candidate.port)], [candidate.database], [user]]
  for (const line of text.split('\n')) {
    const fields = line.replace(/\r$/, '').match(/(?:[^:\\]|\\.)*(?::|$)/g) ?? []
    const values = fields.map((field) => field.replace(/:$/, '').replace(/\\(.)/g, '$1'))
    const password = fields.slice(4).join('').replace(/\\(.)/g, '$1')
    const fits = wanted.every((names, index) => values[index] === '*' || names.includes(values[index] ?? ''))
    if (!line.startsWith('#') && fits && password !== '') return { password, from: file }
  }
  return null
}
