import type { GapReport, StoredReport, WalReport } from '../observe/wal-report.ts'
import { formatBytes, formatSeconds, formatTime, oneLine, printable, table } from './format.ts'

/* What `lifeboat wal status` and `lifeboat wal gaps` print for people. */

/** What is where, and what would be lost. */
export function describeWal(report: WalReport): string {
  return [describeServer(report), describeArchive(report), describeStored(report), describeSlots(report)]
    .filter((part) => part !== '')
    .join('\n')
}

function describeServer({ server, archiver, systemIdentifier, at }: WalReport): string {
  const rows: string[][] = []
  if (systemIdentifier !== null) rows.push(['cluster', `system identifier ${systemIdentifier}`])
  if (server === null) rows.push(['server', 'not seen'])
  else {
    const doing = server.inRecovery ? 'has replayed up to' : 'writes at'
    rows.push(['server', `${doing} ${server.lsn} on timeline ${server.timeline} (${ago(server.at, at)})`])
  }
  if (archiver !== null) {
    rows.push(['archiver', `${archiver.state ?? 'not known'}: ${oneLine(archiver.detail)}`])
    if (archiver.hint !== null) rows.push(['', archiver.hint])
  }
  return table(rows)
}

function describeArchive({ archive, at }: WalReport): string {
  if (archive === null) return ''
  const { directory, segments, bytes, partials, histories, labels, foreign, newest, freeBytes } = archive
  const others = [
    [partials, 'partial'],
    [histories, 'history'],
    [labels, 'backup label'],
    [foreign, 'foreign'],
  ] as const
  const told = others.flatMap(([count, what]) => (count === 0 ? [] : [`${count} ${what}`]))
  return table([
    ['archive', printable(directory)],
    ['', [`${segments} segments, ${formatBytes(bytes)}`, ...told].join(', ')],
    ...(newest === null ? [] : [['', `newest ${newest.name}, ${ago(newest.at, at)}`]]),
    ...(freeBytes === null ? [] : [['', `${formatBytes(freeBytes)} free`]]),
    ...timelineRows(archive.timelines),
  ])
}

function describeStored({ repositories, at }: WalReport): string {
  if (repositories.length === 0) return ''
  const rows = [['REPOSITORY', 'SEGMENTS', 'STORED', 'RECOVERY POINT', 'NOT STORED', 'BACKLOG', 'MISSING']]
  for (const one of repositories) {
    rows.push([
      printable(one.repository),
      String(one.segments),
      formatBytes(one.bytes),
      pointOf(one, at),
      one.exposureBytes === null ? '?' : formatBytes(one.exposureBytes),
      one.backlogSegments === null ? '?' : String(one.backlogSegments),
      one.missingSegments === null ? '?' : String(one.missingSegments),
    ])
  }
  const notes = repositories.flatMap((one) => [
    ...(one.contradictions > 0
      ? [`${one.repository}: ${one.contradictions} segments are stored twice with different content\n`]
      : []),
    ...(one.others.length > 0
      ? [`${one.repository}: also holds WAL of the system identifiers ${one.others.join(', ')}\n`]
      : []),
  ])
  const timelines = repositories.flatMap((one) => [
    ...(one.timelines.length === 0 ? [] : [[printable(one.repository), '']]),
    ...timelineRows(one.timelines),
  ])
  return `${table(rows)}${notes.join('')}${timelines.length === 0 ? '' : `\n${table(timelines)}`}`
}

/** Without a physical backup WAL restores nothing: then only how far it goes is told. */
function pointOf({ recoveryPoint, coveredUntil, hasBackup }: StoredReport, at: string): string {
  if (recoveryPoint !== null) return `${formatTime(new Date(recoveryPoint))} (${ago(recoveryPoint, at)})`
  if (hasBackup) return 'not known'
  return coveredUntil === null
    ? 'no physical backup'
    : `no physical backup; WAL to ${formatTime(new Date(coveredUntil))}`
}

function timelineRows(timelines: StoredReport['timelines']): string[][] {
  return timelines.map(({ timeline, parent, segments, first, last, gaps }) => [
    '',
    `timeline ${timeline}${parent === null ? '' : ` (from ${parent.timeline} at ${parent.lsn})`}: ` +
      `${segments} segments, ${first} to ${last}, ${gaps === 0 ? 'no gap' : gaps === 1 ? '1 gap' : `${gaps} gaps`}`,
  ])
}

function describeSlots({ slots }: WalReport): string {
  if (slots === null || slots.length === 0) return ''
  const rows = [['SLOT', 'TYPE', 'STATE', 'KEEPS BACK']]
  for (const { name, type, active, walStatus, retainedBytes, overLimit } of slots) {
    const state = [active ? 'active' : 'inactive', ...(walStatus === null ? [] : [walStatus])].join(', ')
    const kept = retainedBytes === null ? '–' : formatBytes(retainedBytes)
    rows.push([printable(name), type, state, `${kept}${overLimit ? ', over the limit' : ''}`])
  }
  return table(rows)
}

/** What is missing. */
export function describeGaps({ repositories }: WalReport): string {
  const rows = [['REPOSITORY', 'TIMELINE', 'FIRST', 'LAST', 'SEGMENTS', 'WHAT IS KNOWN']]
  for (const { repository, gaps } of repositories) {
    for (const gap of gaps) {
      const { timeline, first, last, segments } = gap
      rows.push([printable(repository), String(timeline), first, last, String(segments), knownOf(gap)])
    }
  }
  const unknown = repositories.filter(({ missingSegments }) => missingSegments === null)
  const notes = unknown
    .map(
      ({ repository }) =>
        `${repository}: not known: no WAL is stored there yet, or it cannot be looked at; what is: lifeboat wal status\n`,
    )
    .join('')
  if (rows.length > 1) return `${table(rows)}${notes}`
  return notes === '' ? 'nothing is missing\n' : notes
}

function knownOf({ acknowledged, elsewhere }: GapReport): string {
  const where = elsewhere.length === 0 ? 'nowhere' : `in ${elsewhere.map(printable).join(', ')}`
  if (acknowledged === null) return where
  return `acknowledged until ${formatTime(new Date(acknowledged.until))}: ${oneLine(acknowledged.reason)}; ${where}`
}

function ago(then: string, now: string): string {
  const seconds = (Date.parse(now) - Date.parse(then)) / 1000
  return seconds < 1 ? 'now' : `${formatSeconds(seconds)} ago`
}
