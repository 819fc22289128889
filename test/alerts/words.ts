import { readdir, readFile } from 'node:fs/promises'

const source = new URL('../../src/', import.meta.url)

/** The source of all but the alerts: what it does not hold is logged by nothing. */
export async function loggedWords(): Promise<string> {
  const names = await readdir(source, { recursive: true })
  const files = names.filter((name) => name.endsWith('.ts') && !name.startsWith('alerts/'))
  return (await Promise.all(files.map((name) => readFile(new URL(name, source), 'utf8')))).join('\n')
}
