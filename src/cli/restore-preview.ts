import { clusterRestore, prepareClusterRestore } from '../cluster-restore.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { makeRepositories, openHistoryIfThere } from '../core.ts'
import { errorCodes, toFailure } from '../domain/errors.ts'
import type { RestoreWish } from '../domain/restore-wish.ts'
import { reportRecovery, reportTarget } from '../observe/recovery-report.ts'
import { createServerProbe } from '../observe/server.ts'
import type { CliContext } from './command.ts'
import { errorText } from './error-text.ts'
import { formatBytes, oneLine } from './format.ts'
import { describeRecovery } from './recovery-words.ts'

/** Tells what a restore would do, and whether it can be done; nothing is written. Gives the exit code. */
export async function previewRestore(
  config: ValidatedConfig,
  wish: RestoreWish,
  { note, json, context }: { readonly note: string | null; readonly json: boolean; readonly context: CliContext },
): Promise<number> {
  const { clock, version, signal, out, err } = context
  const log = context.makeLog('silent', 'err')
  const history = openHistoryIfThere(config, { clock, log })
  try {
    const made = makeRepositories(config, { clock, version: version.version, ledger: history })
    const repositories = made.map(({ repository }) => repository)
    const probe = createServerProbe({ ...config.postgres })
    const options = {
      ...{ config, repositories, clock },
      server: (signal: AbortSignal) => probe(signal).catch(() => null),
      ...clusterRestore({ repositories, history, clock, log }),
    }
    const target = reportTarget(wish.target, note)
    try {
      const prepared = await prepareClusterRestore(options, wish, { signal, format: formatBytes })
      const { answer, chain, disks, owner, left, installation } = prepared
      const places = disks.map(({ path, needed, free }) => ({ path, needed, free }))
      const report = reportRecovery(answer)
      if (json) {
        const told = { directory: wish.to, target, recovery: report, disks: places, osUser: owner?.name ?? null }
        out.write(`${JSON.stringify({ ...told, goesOn: left !== null, failure: null }, null, 2)}\n`)
        return 0
      }
      const lines = [
        ...(note === null ? [] : [`note: ${note}`]),
        `into ${wish.to}${left === null ? '' : ', going on with what was cut off'}, with ${installation.directory}`,
        ...(owner === null ? [] : [`the files will be those of the OS user ${owner.name}`]),
        ...places.map(
          ({ path, needed, free }) =>
            `room for ${path}: about ${formatBytes(needed)} of ${formatBytes(free)} that are free`,
        ),
        ...chain.map(
          ({ manifest, repositories: from }) =>
            `${manifest.backupId} from ${from.map(({ name }) => name).join(', or ')}`,
        ),
      ]
      out.write(`${describeRecovery(target, report)}${lines.map((line) => `  ${oneLine(line)}\n`).join('')}`)
      return 0
    } catch (error) {
      const failure = toFailure(error)
      if (json) out.write(`${JSON.stringify({ directory: wish.to, target, failure }, null, 2)}\n`)
      else err.write(errorText(failure))
      return errorCodes[failure.code].exit
    }
  } finally {
    history?.close()
  }
}
