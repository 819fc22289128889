import { createHash } from 'node:crypto'
import type { Catalog } from '../observe/catalog.ts'
import { repositoryOfCollector } from '../observe/questions.ts'
import type { WalWork } from '../observe/wal-report.ts'
import type { Listing } from './backup-list.ts'
import { type Content, html, name } from './html.ts'
import { backupsTable, collectorsTable, jobsTable, standbyNote } from './page-tables.ts'
import { walNeedsAttention, walSection } from './page-wal.ts'
import type { HttpDependencies, RecoveryPolicy } from './ports.ts'
import {
  type DatabaseRecovery,
  isWatchOnly,
  type Recovery,
  type RecoveryState,
  recoverability,
} from './recoverability.ts'
import { style } from './style.ts'
import { count, duration, moment, utc } from './words.ts'

/**
 * The content security policy of the page: nothing is loaded and nothing runs; the one inline style sheet is known by its
 * hash, and the icon is in the page.
 */
export function pagePolicy(): string {
  const hash = createHash('sha256').update(style).digest('base64')
  return [
    "default-src 'none'",
    `style-src 'sha256-${hash}'`,
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
}

export type PageDependencies = Pick<
  HttpDependencies,
  'catalog' | 'clock' | 'cluster' | 'version' | 'policy' | 'tokens' | 'leases' | 'walWork'
>

type Tone = 'good' | 'warn' | 'bad' | 'idle'

const icon =
  'data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 32 32%22%3E%3Ccircle cx=%2216%22 cy=%2216%22 r=%2210%22 ' +
  'fill=%22none%22 stroke=%22%23d64527%22 stroke-width=%228%22/%3E%3Cpath d=%22M16 2v8M16 22v8M2 16h8M22 16h8%22 stroke=%22%23fff%22 stroke-width=%224%22/%3E%3C/svg%3E'

/**
 * The landing page. It answers first what matters in the worst hour: can we recover, until when, and was it proven? With
 * tokens configured it still is open, so it then leaves out what the metrics do not tell either: ids and messages.
 */
export function renderPage(
  { catalog, clock, cluster, version, policy, tokens, leases, walWork }: PageDependencies,
  listing: Listing,
): string {
  const now = clock.now()
  const known = catalog()
  const databases = recoverability(known, policy, now)
  const detailed = tokens.length === 0
  const work = walWork()
  const body = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${cluster} · Lifeboat</title>
<link rel="icon" href="${icon}">
`
  const rest = html`</head>
<body>
<header><b>Lifeboat</b> <span>cluster ${name(cluster)}</span> <span class="asof">as of ${utc(known.at)}</span></header>
<main>
${headline(known, databases, work)}
<h2>Recovery by database</h2>
${
  databases.length === 0
    ? html`<p class="empty">No database is known yet.</p>`
    : html`<div class="cards">${databases.toSorted((a, b) => urgency(b) - urgency(a)).map((database) => card(database, policy, now))}</div>`
}
${walSection(known, work, now, detailed)}<h2>Newest backups</h2>
${backupsTable(known, listing, now, detailed)}
<h2>Jobs</h2>
${standbyNote(leases(), now, detailed)}${jobsTable(known, now)}
<h2>What Lifeboat looks at</h2>
${collectorsTable(known, now, detailed)}
</main>
<footer>
<nav aria-label="Elsewhere"><a href="/metrics">Metrics</a><a href="/openapi.json">API description</a><a href="/api/backups">Backups</a><a href="/api/runs">Runs</a><a href="/api/jobs">Jobs</a>${known.wal === null ? null : html`<a href="/api/wal">WAL</a>`}<a href="/-/ready">Readiness</a></nav>
<p>Lifeboat ${version}. All times are UTC. Objectives: lose at most ${duration(policy.rpoSeconds)}, recover within ${duration(policy.rtoSeconds)}.</p>
</footer>
</body>
</html>
`
  // The style sheet goes in byte for byte, since its hash is what allows it; it is ours, and holds no markup.
  return `${body.text}<style>${style}</style>\n${rest.text}`
}

function headline(catalog: Catalog, databases: readonly DatabaseRecovery[], work: WalWork): Content {
  const say = (tone: Tone, title: string, detail: Content) =>
    html`<section class="verdict ${tone}" aria-label="Verdict"><h1>${title}</h1>${detail === null ? null : html`<p>${detail}</p>`}</section>`
  if (!catalog.complete) {
    return say('idle', 'Still looking', 'The first look at the server and the repositories has not ended yet.')
  }
  const missing = catalog.server?.missingDatabases ?? []
  const wanted = databases.filter(({ onServer }) => onServer !== false)
  const watchOnly = isWatchOnly(catalog)
  if (wanted.length === 0 && missing.length === 0) {
    const holders = watchOnly ? 'watched directory holds a dump' : 'repository holds a backup'
    return say('bad', 'Nothing can be recovered', `No database is known, and no ${holders}.`)
  }
  const best = wanted.map(({ database, recoveries }) => ({ database, state: bestOf(recoveries) }))
  const named = (...states: RecoveryState[]) =>
    best.filter(({ state }) => states.includes(state)).map(({ database }) => database)
  const lost = named('none', 'broken')
  const unproven = named('unproven')
  const worse =
    wanted.some(({ recoveries }) => recoveries.some(({ state }) => state !== 'proven')) ||
    catalog.collectors.some(({ success }) => success === false) ||
    walNeedsAttention(catalog, work) ||
    catalog.watches.some(({ unusable }) => unusable.some(({ state }) => state === 'invalid'))
  const unread = unreadRepositories(catalog)
  const unknown = !watchOnly && (catalog.server === null || catalog.server.source === 'inferred')
  const unseen = unknown ? 'The server was never seen: this is about the databases that have backups. ' : ''
  const absent = missing.length === 0 ? null : html`Configured but not on the server: ${list(missing)}. `
  const detail = (text: Content) => html`${text} ${unseen}${absent}`
  if (lost.length > 0 && unread.length > 0) {
    return say(
      'bad',
      'What can be recovered is not known',
      detail(html`Never read yet: ${list(unread)}. See what fails below.`),
    )
  }
  const physical = newestPoint(catalog)
  if (lost.length > 0 && physical !== null) {
    const reach = html`No repository holds a dump that could be used of ${list(lost)}. A physical backup and its WAL bring back the whole cluster, until ${utc(physical)}.`
    return say('warn', 'The whole cluster can be recovered, but not each database', detail(reach))
  }
  if (lost.length > 0) {
    const all = lost.length === wanted.length
    const title = all
      ? 'Nothing can be recovered'
      : `${lost.length} of ${count(wanted.length, 'database')} cannot be recovered`
    return say(
      'bad',
      title,
      detail(
        watchOnly
          ? html`No watched directory holds a dump that could be used of ${list(lost)}. Look at what writes them.`
          : html`No repository holds a backup that could be used of ${list(lost)}. Take one now.`,
      ),
    )
  }
  if (unproven.length > 0) {
    const title = `${unproven.length} of ${count(wanted.length, 'database')} ${unproven.length === 1 ? 'has' : 'have'} not been proven`
    return say(
      'warn',
      title,
      detail(html`No restore has shown yet that the backups of ${list(unproven)} work. Verify them now.`),
    )
  }
  if (worse || missing.length > 0 || unknown) {
    return say('warn', 'Recovery works, but something needs attention', detail('See what is marked below.'))
  }
  return say(
    'good',
    'Everything can be recovered',
    'Each database was restored from its backups, and what came back was right.',
  )
}

/** The latest moment to which physical backups and WAL reach; null: there are none, or nobody knows. */
function newestPoint({ wal }: Catalog): Date | null {
  const points = (wal?.repositories ?? []).flatMap(({ recoveryPoint }) => recoveryPoint?.getTime() ?? [])
  return points.length === 0 ? null : new Date(Math.max(...points))
}

/** More names than this make a sentence unreadable. */
const listed = 5

const bestFirst: readonly RecoveryState[] = ['proven', 'overdue', 'damaged', 'unproven', 'broken', 'none']

function bestOf(recoveries: readonly Recovery[]): RecoveryState {
  return bestFirst.find((state) => recoveries.some((recovery) => recovery.state === state)) ?? 'none'
}

/** Repositories that could not be read even once: that they hold nothing would be a guess. */
function unreadRepositories({ collectors, repositories }: Catalog): readonly string[] {
  const read = new Set(repositories.map(({ name }) => name))
  return collectors
    .map(({ collector }) => repositoryOfCollector(collector))
    .filter((repository) => repository !== null)
    .filter((repository) => !read.has(repository))
}

function list(names: readonly string[]): Content {
  const more = names.length - listed
  return [
    ...names.slice(0, listed).map((text, index) => html`${index === 0 ? null : ', '}${name(text)}`),
    more > 0 ? ` and ${more} more` : null,
  ]
}

/** What is no longer needed last, what is worst off first. */
function urgency({ onServer, recoveries }: DatabaseRecovery): number {
  return onServer === false ? -1 : bestFirst.indexOf(bestOf(recoveries))
}

function card({ database, onServer, recoveries }: DatabaseRecovery, policy: RecoveryPolicy, now: Date): Content {
  return html`<article class="card"><h3>${name(database)}</h3>
${onServer === false ? html`<p class="note">Not on the server any more, or not to be backed up.</p>` : null}
${recoveries.length === 0 ? html`<p class="note">No repository has been read yet.</p>` : null}
${recoveries.map((recovery) => section(recovery, onServer !== false, policy, now))}</article>`
}

const answers: Readonly<Record<RecoveryState, readonly [tone: Tone, badge: string, answer: string]>> = {
  proven: ['good', 'proven', 'Can be recovered, and a restore has proven it.'],
  overdue: ['warn', 'overdue', 'Can be recovered, but what is known is older than it should be.'],
  damaged: ['warn', 'newest failed', 'Can be recovered, but not from the newest backup: it failed its verification.'],
  unproven: ['warn', 'unproven', 'There is a backup, but no restore has proven it yet.'],
  broken: ['bad', 'broken', 'Cannot be recovered: every backup failed its verification.'],
  none: ['bad', 'no backup', 'Cannot be recovered: there is no backup.'],
}

/** Where no dump can be used a physical backup may do. */
function answerOf({ state, physicalUntil }: Recovery): readonly [tone: Tone, badge: string, answer: string] {
  if (physicalUntil === null || (state !== 'broken' && state !== 'none')) return answers[state]
  const why = state === 'none' ? 'There is no dump of it' : 'Every dump of it failed its verification'
  return [
    'warn',
    state === 'none' ? 'no dump' : 'dumps broken',
    `${why}; a physical backup and its WAL bring back the whole cluster.`,
  ]
}

function section(recovery: Recovery, isWanted: boolean, policy: RecoveryPolicy, now: Date): Content {
  const [tone, badge, answer] = answerOf(recovery)
  const { newest, until, proven } = recovery
  return html`<section><h4><span>in ${name(recovery.repository)}</span> <span class="badge ${isWanted ? tone : null}">${badge}</span></h4>
<p>${answer}</p>
${
  until === null || recovery.exposureSeconds === null
    ? null
    : html`<dl>
<dt>Until</dt><dd>${moment(until, now)}${recovery.backupOverdue ? html` <span class="badge warn">${until === newest?.consistentAt ? 'too old' : 'its dump is too old'}</span>` : null}</dd>
<dt>At risk</dt><dd>${duration(recovery.exposureSeconds)} of work <span class="ago">objective ${duration(policy.rpoSeconds)}${recovery.exposureSeconds > policy.rpoSeconds ? ', not met' : ''}</span></dd>
${provenRows(proven, recovery, policy, now)}</dl>`
}</section>`
}

function provenRows(proven: Recovery['proven'], recovery: Recovery, policy: RecoveryPolicy, now: Date): Content {
  const at = proven?.verification.provenAt
  if (!proven || !at) return html`<dt>Proven</dt><dd>never</dd>`
  const older =
    proven.backup === recovery.newest
      ? null
      : html` <span class="ago">for the state of ${utc(proven.backup.consistentAt)}</span>`
  const took = proven.verification.restoreSeconds
  return html`<dt>Proven</dt><dd>${moment(at, now)}${recovery.proofOverdue ? html` <span class="badge warn">too long ago</span>` : null}${older}</dd>
${took === null ? null : html`<dt>Took</dt><dd>${duration(took)} <span class="ago">objective ${duration(policy.rtoSeconds)}${took > policy.rtoSeconds ? ', not met' : ''}</span></dd>`}
`
}
