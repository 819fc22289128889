import type { Logger } from 'pino'
import { describeChange, grouped } from '../domain/growth-tables.ts'
import type { BackupDeviation, GrowthReport } from './growth.ts'

/** As many tables as a line can have; the field `tables` has more. */
const mostNamed = 3

/** Tells of an unusual backup: the message alone says of which one (or which `file` of another tool), by how much, and which tables it is. */
export function tellOfGrowth(
  log: Logger,
  one: BackupDeviation,
  report: GrowthReport | null,
  file: string | null = null,
): void {
  const { repository, backup, size, usual } = one
  const rowsRatio = report?.rowsRatio ?? null
  const direction = (size.isUnusual ? size.ratio : (rowsRatio ?? 1)) < 1 ? 'small' : 'large'
  const of = backup.database === '' ? '' : ` of ${nameOf(backup.database)}`
  const amounts = [
    `${percent(size.ratio)} of its usual size (${grouped(backup.storedBytes)} instead of ${grouped(size.storedBytes)} bytes)`,
  ]
  if (rowsRatio !== null) amounts.push(`${percent(rowsRatio)} of its usual rows`)
  const which = file === null ? '' : ` (${nameOf(file)})`
  const message = `backup${of} in ${nameOf(repository)}${which} is unusually ${direction}: ${amounts.join(', ')}; ${reason(one, report)}`
  log.warn(
    {
      repository,
      backup: backup.id,
      type: backup.type,
      database: backup.database,
      storedBytes: backup.storedBytes,
      usualBytes: size.storedBytes,
      ratio: size.ratio,
      sourceRatio: size.sourceRatio,
      rowsRatio,
      comparedWith: usual.id,
      tables: report?.tables ?? null,
      ...(file === null ? {} : { file }),
    },
    message,
  )
}

function reason({ backup, usual }: BackupDeviation, report: GrowthReport | null): string {
  if (backup.type !== 'dump') return 'which tables it is nobody knows: only dumps by Lifeboat have a fingerprint'
  if (report === null) return 'which tables it is nobody knows: a fingerprint is missing or cannot be read'
  if (report.differing === 0) return `no table differs in rows or bytes from ${usual.id}`
  const named = report.tables.slice(0, mostNamed)
  const rest = report.differing - named.length
  return `changed since ${usual.id}: ${named.map(describeChange).join(', ')}${rest > 0 ? `, and ${rest} more` : ''}`
}

/** Names may hold anything, a line break too. */
function nameOf(name: string): string {
  return /^[\w.$-]+$/.test(name) ? name : JSON.stringify(name)
}

function percent(ratio: number): string {
  return `${Number((ratio * 100).toPrecision(2))}%`
}
