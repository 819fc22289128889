import { utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { loadConfig } from '../../src/config/load.ts'
import { type Core, createCore } from '../../src/core.ts'
import type { Proof } from '../../src/domain/proof.ts'
import type { Run } from '../../src/runner/job.ts'
import { keptLog } from './log.ts'
import { scratchDirectory } from './scratch.ts'

/** When every file of the tests was written: long enough ago to be finished. */
export const old = new Date('2026-01-01T02:10:00Z')

export interface Watching {
  readonly core: Core
  readonly verify: (params?: { backup?: string; level?: string; database?: string }) => Promise<Run>
  readonly proofOf: (run: Run) => Proof
  readonly state: string
  readonly lines: ReturnType<typeof keptLog>['lines']
}

/** A watch-only Lifeboat over a directory. */
export async function watchOnly(t: Test, directory: string, extra = '', clock = systemClock): Promise<Watching> {
  const state = await scratchDirectory(t)
  const config = await loadConfig({
    text: `cluster: main\nstateDir: ${state}\nwatch: [{ directory: ${directory}, quietTime: 1s }]\n${extra}`,
    env: {},
  })
  const { log, lines } = keptLog()
  const core = await createCore(config, { clock, log, version: 'test' })
  t.teardown(() => core.close())
  return {
    core,
    state,
    lines,
    verify: ({ backup = null, level = 'data', database = null }: Record<string, string | null> = {}) => {
      const params = { backup, repository: null, database, level, rehash: false }
      return core.runner.wait(core.runner.trigger({ job: 'verify', params, trigger: 'cli', requestedBy: null }).id)
    },
    proofOf: (run) =>
      JSON.parse(core.history.external.externalProofs().get(run.items[0]?.backupId ?? '')?.[0] ?? '{}') as Proof,
  }
}

/** What pg_dump writes around the statements of a dump. */
export const plainDump = (body: string) =>
  `--\n-- PostgreSQL database dump\n--\n\n${body}\n\n--\n-- PostgreSQL database dump complete\n--\n`

/** What pg_dumpall writes around those of a database `app`. */
export const clusterDump = (body: string) =>
  `--\n-- PostgreSQL database cluster dump\n--\n\ncreate database app;\n\\connect app\n${body}\n\n--\n-- PostgreSQL database cluster dump complete\n--\n`

/** A finished file. */
export async function put(directory: string, name: string, contents: string): Promise<void> {
  await writeFile(join(directory, name), contents)
  await utimes(join(directory, name), old, old)
}
