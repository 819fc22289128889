import { verificationLevels } from '../domain/proof.ts'
import type { Catalog } from '../observe/catalog.ts'
import { isClockAhead, keepersOf } from '../observe/questions.ts'
import type { JobSummary } from '../runner/job.ts'
import type { LeaseStatus } from '../runner/lease.ts'
import type { Listing } from './backup-list.ts'
import { type Content, html, name } from './html.ts'
import { type Verification, verificationOf } from './recoverability.ts'
import { count, duration, moment, size } from './words.ts'

/** So many backups are shown; the API has them all. */
const shown = 20

/** So many of what cannot be used are explained. */
const explained = 5

/** A cell that carries its column's name, for narrow screens, where the table becomes a list. */
export function cell(label: string, content: Content, number = false): Content {
  return html`<td data-label="${label}"${number ? html` class="number"` : null}><div>${content}</div></td>`
}

export function head(label: string, content: Content): Content {
  return html`<th scope="row" data-label="${label}"><div>${content}</div></th>`
}

export function table(caption: string, columns: readonly Content[], rows: readonly Content[]): Content {
  return html`<div class="scroll" role="region" aria-label="${caption}" tabindex="0"><table><thead><tr>${columns}</tr></thead>
<tbody>${rows}</tbody></table></div>`
}

export const column = (label: string) => html`<th scope="col">${label}</th>`
export const numberColumn = (label: string) => html`<th scope="col" class="number">${label}</th>`

export function backupsTable(catalog: Catalog, listing: Listing, now: Date, detailed: boolean): Content {
  const all = listing(catalog)
  const unusable = keepersOf(catalog).flatMap((repository) => repository.unusable)
  const running = unusable.filter(({ state }) => state === 'in-progress').length
  const broken = unusable.length - running
  const notes = [
    all.length > shown ? `The newest ${shown} of ${all.length}.` : null,
    running > 0 ? `${count(running, 'backup')} in progress.` : null,
    broken > 0
      ? `${count(broken, catalog.watches.length > 0 ? 'folder or file' : 'folder')} without a usable backup.`
      : null,
  ].filter((note) => note !== null)
  const told = notes.length === 0 ? null : html`<p class="note">${notes.join(' ')}</p>`
  const note = html`${told}${detailed ? brokenList(catalog) : null}`
  if (all.length === 0) return html`<p class="empty">There is no backup yet.</p>${note}`
  const rows = all.slice(0, shown).map(
    ({ backup, repository }) => html`<tr>
${head('Database', html`${backup.database === '' ? 'whole cluster' : name(backup.database)}${detailed ? html`<br><code>${backup.id}</code>` : null}`)}
${cell('Repository', name(repository.name))}${cell('Type', html`${backup.type}${backup.isEncrypted ? html`<br><span class="note">encrypted</span>` : null}`)}${cell('Finished', html`${moment(backup.finishedAt, now)}${isClockAhead(catalog, backup) ? html` <span class="badge warn">clock-ahead</span>` : null}`)}
${cell('Took', backup.durationSeconds === null ? '–' : duration(backup.durationSeconds), true)}${cell('Stored', size(backup.storedBytes), true)}
${cell('Verification', verdict(verificationOf(backup, repository)))}</tr>`,
  )
  const columns = [
    ...['Database', 'Repository', 'Type', 'Finished'].map(column),
    ...['Took', 'Stored'].map(numberColumn),
    column('Verification'),
  ]
  return html`${table('Newest backups', columns, rows)}${note}`
}

/** What is wrong with the first few of the folders and files that hold no usable backup. */
function brokenList(catalog: Catalog): Content {
  const broken = keepersOf(catalog).flatMap(({ name: keeper, unusable }) =>
    unusable.flatMap(({ id, state, failure }) =>
      state === 'in-progress' ? [] : [html`<li>${name(keeper)}: ${failure?.message ?? `${id} is ${state}`}</li>`],
    ),
  )
  return broken.length === 0 ? null : html`<ul class="note">${broken.slice(0, explained)}</ul>`
}

function verdict({ standing, levels }: Verification): Content {
  const deepest = verificationLevels.findLast((level) => levels[level] !== undefined)
  if (deepest === undefined) return html`<span class="badge">not verified</span>`
  const failed = verificationLevels.find((level) => levels[level]?.verdict === 'fail')
  if (standing === 'refuted') {
    const cause = failed && levels[failed]?.cause
    return html`<span class="badge bad">failed</span> <span class="note">${failed ?? null}${cause ? `: ${cause}` : ''}</span>`
  }
  const result = levels[deepest]
  if (result?.verdict === 'inconclusive') {
    const before = standing === 'proven' ? html`<span class="badge good">proven</span> ` : null
    return html`${before}<span class="badge warn">inconclusive</span> <span class="note">${deepest}${result.cause ? `: ${result.cause}` : ''}</span>`
  }
  return standing === 'proven'
    ? html`<span class="badge good">proven</span> <span class="note">${deepest}</span>`
    : html`<span class="badge">intact</span> <span class="note">${deepest}</span>`
}

/** Says where this lifeboat stands by, and why nothing runs here then. */
export function standbyNote(leases: readonly LeaseStatus[], now: Date, detailed: boolean): Content {
  const waiting = leases.filter(({ state }) => state === 'waiting')
  if (waiting.length === 0) return null
  const items = waiting.map(({ repository, since, holder }) => {
    const who = detailed && holder !== null ? html` on ${name(holder.host)}, process ${holder.pid},` : null
    return html`<li>Another lifeboat${who} writes to ${name(repository)}; this one has stood by since ${moment(since, now)}, and takes over when that one is gone.</li>`
  })
  return html`<ul class="note">${items}</ul>
`
}

export function jobsTable({ jobs }: Catalog, now: Date): Content {
  if (jobs.length === 0) return html`<p class="empty">No job is known yet.</p>`
  const maybe = (at: Date | null, otherwise: string) => (at === null ? otherwise : moment(at, now))
  const rows = jobs.map(
    (job) => html`<tr>${head('Job', job.job)}${cell('Now', state(job))}
${cell('Next', maybe(job.nextRunAt, 'on demand'))}${cell('Last success', maybe(job.lastSuccessAt, 'never'))}
${cell('Took', job.lastDurationSeconds === null ? '–' : duration(job.lastDurationSeconds), true)}${cell('Runs', job.runs, true)}${cell('Failed', job.failures, true)}</tr>`,
  )
  const columns = [
    ...['Job', 'Now', 'Next', 'Last success'].map(column),
    ...['Took', 'Runs', 'Failed'].map(numberColumn),
  ]
  return table('Jobs', columns, rows)
}

function state({ job, running, progressRatio }: JobSummary): Content {
  if (!running) return html`<span class="badge">idle</span>`
  if (progressRatio === null) return html`<span class="badge good">running</span>`
  const percent = Math.floor(progressRatio * 100)
  return html`<progress max="100" value="${percent}" aria-label="${job}">${percent} %</progress> ${percent} %`
}

export function collectorsTable({ collectors }: Catalog, now: Date, detailed: boolean): Content {
  if (collectors.length === 0) return html`<p class="empty">Nothing yet.</p>`
  const rows = collectors.map(({ collector, success, lastSuccessAt, durationSeconds, failure }) => {
    const health =
      success === null
        ? html`<span class="badge">waiting</span>`
        : success
          ? html`<span class="badge good">ok</span>`
          : html`<span class="badge bad">failing</span>`
    const why =
      detailed && failure
        ? html` <span class="note">${failure.message}${failure.hint ? ` (${failure.hint})` : ''}</span>`
        : null
    return html`<tr>${head('Collector', name(collector))}${cell('Health', html`${health}${why}`)}
${cell('Last success', lastSuccessAt === null ? 'never' : moment(lastSuccessAt, now))}${cell('Took', durationSeconds === null ? '–' : duration(durationSeconds), true)}</tr>`
  })
  return table('Collectors', [...['Collector', 'Health', 'Last success'].map(column), numberColumn('Took')], rows)
}
