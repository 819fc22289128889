import type { PlanReport, RecoveryReport, TargetReport } from '../observe/recovery-report.ts'
import { errorText } from './error-text.ts'
import { formatBytes, formatSeconds, formatTime, oneLine, printable, table } from './format.ts'

/* What is told of recoveries for people: by `lifeboat plan`, and before one is done. */

/** All that can be restored. */
export function describeWindows(reports: readonly RecoveryReport[]): string {
  const rows = [['REPOSITORY', 'FROM', 'UNTIL', 'BACKUP', 'THEN']]
  for (const { repository, windows } of reports) {
    for (const { from, until, backup, hole } of windows) {
      const last = until === null ? 'not known' : formatTime(new Date(until))
      const then = hole === null ? 'the newest WAL' : `${hole} is missing`
      rows.push([printable(repository), formatTime(new Date(from)), last, backup, then])
    }
  }
  const none = reports
    .filter(({ windows }) => windows.length === 0)
    .map(
      ({ repository, refused }) =>
        `${printable(repository)}: nothing: ${oneLine(refused?.message ?? 'no WAL leads anywhere')}\n` +
        (refused?.hint === undefined ? '' : `  HINT: ${oneLine(refused.hint)}\n`),
    )
  return `${rows.length > 1 ? table(rows) : ''}${none.join('')}`
}

/** How each repository would bring back what was asked for. */
export function describeRecoveries(target: TargetReport, reports: readonly RecoveryReport[]): string {
  const note = target.note === null ? '' : `note: ${oneLine(target.note)}\n`
  return `${note}${reports.map((report) => describeRecovery(target, report)).join('\n')}`
}

export function describeRecovery(target: TargetReport, report: RecoveryReport): string {
  const { repository, plan, refused, warnings, missing } = report
  const what = `${printable(repository)}: ${targetWords(target)}`
  const gaps = missing.map(
    ({ first, last, segments }) =>
      `  missing: ${oneLine(first)}${segments === 1 ? '' : ` to ${oneLine(last)}, ${segments} segments`}\n`,
  )
  if (plan === null) {
    const text = refused === null ? '' : errorText(refused)
    return `${what} cannot be restored\n${indent(text)}${gaps.join('')}`
  }
  const told = warnings.map(({ message }) => `  warning: ${oneLine(message)}\n`)
  return `${what} can be restored\n${indent(table(planRows(report, plan)))}${gaps.join('')}${told.join('')}`
}

function targetWords({ kind, time, lsn, name }: TargetReport): string {
  if (kind === 'time') return String(time)
  if (kind === 'lsn') return `the place ${lsn}`
  if (kind === 'name') return `the restore point ${printable(name ?? '')}`
  return kind === 'latest' ? 'the latest moment' : 'the earliest moment of a backup'
}

function planRows({ systemIdentifier }: RecoveryReport, plan: PlanReport): string[][] {
  const { disk, time } = plan
  const unpacked = disk.unpacked === 0 ? [] : [`unpacked ${formatBytes(disk.unpacked)}`]
  const phases = Object.entries(time.phases).flatMap(([phase, seconds]) =>
    seconds === 0 ? [] : [`${phase} ${seconds === null ? 'not measured' : formatSeconds(seconds)}`],
  )
  return [
    ['cluster', `${systemIdentifier}, timeline ${plan.timeline}, PostgreSQL ${plan.postgres}`],
    ['backups', plan.chain.map((id, index) => `${id}${placesOf(plan.copies[index])}`).join(', ')],
    [
      'WAL',
      `${plan.from} to ${plan.stopsAt}, ${plan.segments} segments${plan.stopsAt === plan.to ? '' : `; there is more to ${plan.to}`}`,
    ],
    [
      'to fetch',
      `${formatBytes(plan.fetchBytes)}: backups ${formatBytes(plan.backupBytes)}, WAL ${plan.walBytesAreUpperBound ? 'at most ' : ''}${formatBytes(plan.walBytes)}`,
    ],
    [
      'disk',
      `${formatBytes(disk.peak)}: ${[`data ${formatBytes(disk.data)}`, ...unpacked, `WAL ${formatBytes(disk.wal)}`].join(', ')}`,
    ],
    ['time', `${time.seconds === null ? 'not known' : formatSeconds(time.seconds)}: ${phases.join(', ')}`],
  ]
}

/** Where there is a choice, or need, of several. */
function placesOf(copies: readonly string[] = []): string {
  return copies.length > 1 ? ` (in ${copies.map(printable).join(', ')})` : ''
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '  ')
}
