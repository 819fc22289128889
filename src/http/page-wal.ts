import { archiverHint } from '../domain/archiver.ts'
import type { StreamState } from '../domain/stream.ts'
import type { Catalog } from '../observe/catalog.ts'
import type { RepositoryShipping } from '../observe/shipping-state.ts'
import { isNearlyFull } from '../observe/wal-news.ts'
import type { WalWork } from '../observe/wal-report.ts'
import type { RepositoryWal, WalArchiveState } from '../observe/wal-state.ts'
import { type Content, html, name } from './html.ts'
import { cell, column, head, numberColumn, table } from './page-tables.ts'
import { count, duration, moment, size } from './words.ts'

/** Something about the WAL is wrong, and somebody has to look. What is not known is not wrong. */
export function walNeedsAttention({ archiver, wal }: Catalog, { shipping, stream }: WalWork): boolean {
  if (wal === null) return false
  return (
    isArchiverWrong(archiver, wal.archive, stream) ||
    isNearlyFull(wal.archive) ||
    wal.repositories.some(({ missingSegments }) => (missingSegments ?? 0) > 0) ||
    (wal.slots ?? []).some(({ overLimit, walStatus }) => overLimit || walStatus === 'lost') ||
    (shipping?.repositories ?? []).some((one) => one.failure !== null || quarantined(one) > 0) ||
    stream?.isUp === false
  )
}

/** Nothing where no WAL is looked at, or none was seen. */
export function walSection(catalog: Catalog, work: WalWork, now: Date, detailed: boolean): Content {
  const { wal, archiver } = catalog
  if (wal === null || (wal.archive === null && wal.repositories.every(({ segments }) => segments === 0))) return null
  const facts = [
    archiverLine(archiver, wal.archive, work.stream, detailed),
    streamLine(work.stream, detailed),
    archiveLine(wal.archive, now),
  ].filter((line) => line !== null)
  const rows = wal.repositories.map((one) =>
    row(one, work.shipping?.repositories.find(({ repository }) => repository === one.repository) ?? null, now),
  )
  const columns = [
    ...['Repository', 'Recovery point'].map(column),
    ...['Not stored', 'On its way', 'Missing', 'Quarantine'].map(numberColumn),
  ]
  return html`<h2>WAL</h2>
${facts.length === 0 ? null : html`<dl class="facts">${facts}</dl>`}
${rows.length === 0 ? null : table('WAL', columns, rows)}${notes(catalog, work, detailed)}
`
}

function fact(term: string, content: Content): Content {
  return html`<dt>${term}</dt><dd>${content}</dd>`
}

const badge = (tone: 'good' | 'warn' | 'bad' | null, text: string) => html`<span class="badge ${tone}">${text}</span>`
const aside = (text: Content) => html` <span class="note">${text}</span>`

function archiverLine(
  archiver: Catalog['archiver'],
  archive: WalArchiveState | null,
  stream: StreamState | null,
  detailed: boolean,
): Content {
  // Where WAL is received nothing need be archived.
  if (archiver === null || (stream !== null && archiver.state === 'off')) return null
  const { state, detail } = archiver
  const isWrong = isArchiverWrong(archiver, archive, stream)
  const tone = !isWrong ? (state === null || state === 'off' ? null : 'good') : state === 'lagging' ? 'warn' : 'bad'
  const hint = isWrong ? archiverHint(state) : null
  const why = detailed && state !== 'idle' ? aside(hint === null ? detail : `${detail}. To do: ${hint}`) : null
  return fact('Archiver', html`${badge(tone, state ?? 'not known')}${why}`)
}

function isArchiverWrong(
  archiver: Catalog['archiver'],
  archive: WalArchiveState | null,
  stream: StreamState | null,
): boolean {
  const state = archiver?.state ?? null
  if (state === 'off') return archive !== null && stream === null
  return archiverHint(state) !== null
}

function streamLine(stream: StreamState | null, detailed: boolean): Content {
  if (stream === null) return null
  const { phase, isUp, failure, holes } = stream
  const tone = isUp === null ? null : isUp ? 'good' : 'bad'
  const why =
    detailed && failure !== null ? aside(`${failure.message}${failure.hint ? ` (${failure.hint})` : ''}`) : null
  return fact(
    'Receiver',
    html`${badge(tone, phase)}${holes > 0 ? html` ${badge('bad', count(holes, 'hole'))}` : null}${why}`,
  )
}

function archiveLine(archive: WalArchiveState | null, now: Date): Content {
  if (archive === null) return null
  const { segments, bytes, newest, capacity, foreign } = archive
  const free =
    capacity === null
      ? null
      : html`, ${isNearlyFull(archive) ? badge('bad', `${size(capacity.freeBytes)} free`) : `${size(capacity.freeBytes)} free`}`
  return fact(
    'Archive',
    html`${count(segments, 'segment')}, ${size(bytes)}${newest === null ? null : html`, the newest ${duration(Math.max(0, (now.getTime() - newest.at.getTime()) / 1000))} ago`}${free}${foreign === 0 ? null : html`, ${count(foreign, 'foreign file')}`}`,
  )
}

function row(one: RepositoryWal, shipping: RepositoryShipping | null, now: Date): Content {
  const { repository, exposureBytes, backlogSegments, missingSegments } = one
  const kept = shipping === null ? null : quarantined(shipping)
  const failing = shipping?.failure != null ? html` ${badge('bad', 'not shipped')}` : null
  const number = (value: number | null) => (value === null ? '?' : String(value))
  const alarm = (value: number | null) => (value === null || value === 0 ? number(value) : badge('bad', number(value)))
  return html`<tr>${head('Repository', html`${name(repository)}${failing}`)}${cell('Recovery point', point(one, now))}
${cell('Not stored', exposureBytes === null ? '?' : size(exposureBytes), true)}${cell('On its way', number(backlogSegments), true)}${cell('Missing', alarm(missingSegments), true)}${cell('Quarantine', kept === null ? '–' : alarm(kept), true)}</tr>`
}

/** Without a physical backup WAL restores nothing: then only how far it goes is told. */
function point({ recoveryPoint, coveredUntil, hasBackup }: RepositoryWal, now: Date): Content {
  if (recoveryPoint !== null) return moment(recoveryPoint, now)
  if (hasBackup) return 'not known'
  const reach = coveredUntil === null ? null : aside(html`WAL to ${moment(coveredUntil, now)}`)
  return html`no physical backup${reach}`
}

function quarantined({ quarantined: reasons }: RepositoryShipping): number {
  return [...reasons.values()].reduce((sum, files) => sum + files, 0)
}

/** What is to be done, where that is not told by a line above. */
function notes({ wal }: Catalog, { shipping }: WalWork, detailed: boolean): Content {
  const slots = (wal?.slots ?? []).filter(({ overLimit, walStatus }) => overLimit || walStatus === 'lost')
  const items = [
    ...(detailed ? (shipping?.repositories ?? []) : []).flatMap(({ repository, failure }) =>
      failure === null
        ? []
        : [html`<li>${name(repository)}: ${failure.message}${failure.hint ? ` (${failure.hint})` : ''}</li>`],
    ),
    ...slots.map(({ name: slot, walStatus, retainedBytes }) => {
      const what = walStatus === 'lost' ? 'was given up by the server' : `keeps ${size(retainedBytes ?? 0)} of WAL`
      return html`<li>Replication slot ${name(slot)} ${what}: <code>lifeboat check</code> says what to do.</li>`
    }),
    ...(wal?.repositories.some(({ missingSegments }) => (missingSegments ?? 0) > 0)
      ? [
          html`<li>WAL is missing, and no recovery gets past it: <code>lifeboat wal gaps</code> says what, and where to look.</li>`,
        ]
      : []),
    ...(shipping?.repositories.some((one) => quarantined(one) > 0)
      ? [html`<li>Files of the archive were not stored: the log says which, and why.</li>`]
      : []),
  ]
  return items.length === 0 ? null : html`<ul class="note">${items}</ul>`
}
