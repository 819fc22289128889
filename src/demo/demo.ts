import { systemClock } from '../clock.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { findInstallations } from '../postgres/installations.ts'
import type { Version } from '../version.ts'
import { type Account, createAccount } from './account.ts'
import { damageCopy, describeDatabase, proveBackup, takeBackup } from './acts.ts'
import { createClient } from './client.ts'
import { goBack } from './go-back.ts'
import { ensurePackages, onPath } from './packages.ts'
import { sourceOf } from './restored.ts'
import { createSampleDatabase } from './sample-database.ts'
import { database, makeDirectory, type Stage, startLifeboat, startServer, type Undo } from './stage.ts'

export interface DemoOptions {
  /** Leave when the account is told; otherwise stay up until the signal. */
  readonly once: boolean
  /** Leave its directory behind. */
  readonly keep?: boolean
  /** To listen on; another one if it is taken. Default 10187. */
  readonly port?: number
  readonly out: NodeJS.WritableStream & { readonly isTTY?: boolean }
  readonly noColor?: boolean
  readonly version: Version
  /** Ends the demo, at any step. */
  readonly signal: AbortSignal
}

/**
 * Plays the main job through on a throw-away PostgreSQL: a backup, its proof by a restore, damage that is noticed, and the
 * way back to the moment before a mistake. Removes all that it made, however it ends; packages that it installed stay.
 *
 * @returns the exit status: 0 when every step held, 1 when not, 2 when a package is missing, 130 when stopped before
 * the end.
 */
export async function runDemo(options: DemoOptions): Promise<number> {
  const { out, signal } = options
  const account = createAccount(out, options.noColor === true)
  const undo: Undo = []
  let told = false
  try {
    const stage = await tell(options, account, undo)
    told = true
    if (!options.once) {
      await invite(stage, out)
      await aborted(signal)
    }
    return account.good ? 0 : 1
  } catch (error) {
    if (signal.aborted && !told) return 130
    return report(error, out)
  } finally {
    await takeDown(undo, out)
  }
}

async function tell(options: DemoOptions, account: Account, undo: Undo): Promise<Stage> {
  const { signal, version, port = 10187 } = options
  const clock = systemClock
  await ensurePackages(
    [
      { package: 'postgresql-15', present: hasServer },
      { package: 'zstd', present: () => onPath('zstd') },
    ],
    options.out,
  )
  signal.throwIfAborted()
  const directory = await makeDirectory(options.keep === true, undo)
  account.act('A database to lose')
  const server = await startServer(directory, undo, signal)
  await createSampleDatabase(server.source, { name: database, scale: 1, signal })
  const stage = await startLifeboat({ server, directory, port, clock, version }, undo)
  const client = createClient({ url: stage.url, token: stage.token, clock, signal })
  const scene = { stage, client, account, clock, signal }
  account.tell(`PostgreSQL ${server.installation.version}`)
  await describeDatabase(scene)
  await client.ready()
  account.tell(`Lifeboat ${version.version} watches it: ${stage.url}`)
  const backup = await takeBackup(scene)
  await proveBackup(scene, backup)
  await damageCopy(scene, backup)
  await goBack(scene)
  options.out.write(account.good ? '\nEvery step held.\n' : `\nNot every step held. The log: ${stage.logFile}\n`)
  return stage
}

async function hasServer(): Promise<boolean> {
  const here = await findInstallations(null)
  // The sample's extension is part of the server's package in Debian, and of another one elsewhere.
  return here.some(({ server }) => server)
}

async function invite(stage: Stage, out: NodeJS.WritableStream): Promise<void> {
  const { url, token, configFile, restoredDirectory, server } = stage
  const restored = await sourceOf(restoredDirectory)
  out.write(`
It stays up until Ctrl-C. Have a look:
  ${url}/
  ${url}/metrics
The rest of the API wants the token:
  TOKEN=${token}
  curl -H "Authorization: Bearer $TOKEN" ${url}/api/backups
Take another backup; verify the newest one in both repositories:
  curl -X POST -H "Authorization: Bearer $TOKEN" \\
    ${url}/api/admin/backup
  curl -X POST -H "Authorization: Bearer $TOKEN" \\
    ${url}/api/admin/verify
${
  restored === null
    ? ''
    : `The cluster that was restored, and the one that goes on:
${psql(restored.host)}
${psql(server.source.host)}
`
}The command line (here lifeboat is: npx node src/main.ts):
  export LIFEBOAT_CONFIG=${configFile}
  lifeboat plan
What it is doing, in its own words:
  tail -f ${stage.logFile}
`)
}

function psql(host: string): string {
  return `  psql -h ${host} \\\n    -U postgres ${database}`
}

function aborted(signal: AbortSignal): Promise<void> {
  // A listener alone does not keep the process: the server that listens does.
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

function report(error: unknown, out: NodeJS.WritableStream): number {
  const { code, message, hint } = toFailure(error)
  out.write(`\nerror: ${message} (${code})\n${hint ? `hint: ${hint}\n` : ''}`)
  return error instanceof LifeboatError && error.code === 'program-missing' ? 2 : 1
}

/** Last in, first out. A step that fails does not keep the others from being done. */
async function takeDown(undo: Undo, out: NodeJS.WritableStream): Promise<void> {
  for (const step of undo.toReversed()) {
    await step().catch((error: unknown) => out.write(`clean-up: ${toFailure(error).message}\n`))
  }
}
