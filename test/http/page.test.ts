import { createHash } from 'node:crypto'
import t from 'tap'
import { createListing } from '../../src/http/backup-list.ts'
import { html, name } from '../../src/http/html.ts'
import { type PageDependencies, renderPage } from '../../src/http/page.ts'
import { count, duration, moment, size } from '../../src/http/words.ts'
import type { Catalog } from '../../src/observe/catalog.ts'
import type { JobSummary } from '../../src/runner/job.ts'
import { at, backup, catalogOf, collectorState, proof, repositoryState, serverState } from '../support/catalog.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { proven, startHttp, tokens } from './harness.ts'

const page = (catalog: Catalog, fields: Partial<PageDependencies> = {}) =>
  renderPage(
    {
      catalog: () => catalog,
      clock: new FakeClock(at(600)),
      cluster: 'prod',
      version: '1.2.3',
      policy: { rpoSeconds: 3600, rtoSeconds: 14_400, dumpMaxAgeSeconds: 90_000, verificationMaxAgeSeconds: null },
      tokens: [],
      walWork: () => ({ shipping: null, stream: null }),
      leases: () => [],
      ...fields,
    },
    createListing(),
  )

/** What a person reads: the text without the markup, spaces joined. */
const words = (text: string) =>
  text
    .replace(/<style>[\s\S]*?<\/style>/, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')

const passed = { artifact: 'pass', restore: 'pass', data: 'pass' } as const

await t.test('the verdict', async (t) => {
  const good = backup(540, { database: 'app' })
  const other = backup(541, { database: 'other', id: '20260301T090100Z-dump-eeeeee' })
  const cases: [title: string, catalog: Partial<Catalog>, verdict: RegExp][] = [
    ['nothing known yet', { server: null, complete: false }, /Still looking/],
    ['no database at all', { server: serverState([]) }, /Nothing can be recovered No database is known/],
    ['no backup', { repositories: [repositoryState('r', [])] }, /Nothing can be recovered .* app \. Take one now/],
    ['no repository', {}, /Nothing can be recovered .* app \. Take one now/],
    [
      'proven',
      { repositories: [repositoryState('r', [good], [proof(good, 550, passed)])] },
      /Everything can be recovered .*Can be recovered, and a restore has proven it\. Until 2026-03-01 09:00:00 UTC 1 h ago At risk 1 h of work objective 1 h Proven 2026-03-01 09:10:00 UTC 50 min ago Took 1 min objective 4 h/,
    ],
    ['unproven', { repositories: [repositoryState('r', [good])] }, /1 of 1 database has not been proven .* app/],
    [
      'an inconclusive verification proves nothing',
      {
        repositories: [repositoryState('r', [good], [proof(good, 550, { artifact: 'pass', restore: 'inconclusive' })])],
      },
      /has not been proven .*inconclusive restore/,
    ],
    [
      'an intact file proves nothing',
      { repositories: [repositoryState('r', [good], [proof(good, 550, { artifact: 'pass' })])] },
      /has not been proven .*intact artifact/,
    ],
    [
      'every backup failed',
      { repositories: [repositoryState('r', [good], [proof(good, 550, { artifact: 'fail' })])] },
      /Nothing can be recovered .*every backup failed its verification/,
    ],
    [
      'the newest failed',
      {
        repositories: [
          repositoryState('r', [proven, good], [proof(proven, 60, passed), proof(good, 550, { artifact: 'fail' })]),
        ],
      },
      /needs attention .*not from the newest backup.* Until 2026-03-01 00:00:00 UTC 10 h ago At risk 10 h of work objective 1 h, not met/,
    ],
    [
      'a second copy is missing',
      { repositories: [repositoryState('r', [good], [proof(good, 550, passed)]), repositoryState('offsite', [])] },
      /needs attention .*in offsite no backup/,
    ],
    [
      'one of two',
      {
        server: serverState(['app', 'other']),
        repositories: [repositoryState('r', [good], [proof(good, 550, passed)])],
      },
      /1 of 2 databases cannot be recovered .* of other \. Take one now/,
    ],
    [
      'the backups of a dropped database are no worry',
      { repositories: [repositoryState('r', [good, other], [proof(good, 550, passed)])] },
      /Everything can be recovered .* other Not on the server any more/,
    ],
    [
      'backups of the cluster that was here before are not backups of this one',
      { repositories: [repositoryState('r', [{ ...good, systemIdentifier: '1' }])] },
      /Nothing can be recovered/,
    ],
    [
      'a configured database that does not exist',
      {
        server: serverState(['app'], { missingDatabases: ['typo'] }),
        repositories: [repositoryState('r', [good], [proof(good, 550, passed)])],
      },
      /needs attention .*Configured but not on the server: typo/,
    ],
    [
      'a collector fails',
      {
        repositories: [repositoryState('r', [good], [proof(good, 550, passed)])],
        collectors: [collectorState('server', { success: false })],
      },
      /needs attention/,
    ],
    [
      'a repository was never read',
      { collectors: [collectorState('repository:r', { success: false, lastSuccessAt: null })] },
      /What can be recovered is not known Never read yet: r \./,
    ],
    [
      'the server was never seen',
      { server: null, repositories: [repositoryState('r', [good], [proof(good, 550, passed)])] },
      /needs attention .*The server was never seen/,
    ],
  ]
  for (const [title, fields, verdict] of cases) {
    const text = page(catalogOf(fields))
    t.match(words(text), verdict, title)
  }
})

await t.test('limits of the policy', async (t) => {
  const old = repositoryState('r', [proven], [proof(proven, 60, passed)])
  const policy = { rpoSeconds: 60, rtoSeconds: 30, dumpMaxAgeSeconds: 3600, verificationMaxAgeSeconds: 7200 }
  const text = page(catalogOf({ repositories: [old] }), { policy })
  t.match(
    words(text),
    /needs attention .*overdue .*10 h ago too old .*9 h ago too long ago Took 1 min objective 30 s, not met/,
  )
  const lenient = { ...policy, dumpMaxAgeSeconds: null, verificationMaxAgeSeconds: null }
  t.match(words(page(catalogOf({ repositories: [old] }), { policy: lenient })), /Everything can be recovered/)
})

await t.test('nothing from outside becomes markup', async (t) => {
  const hostile = '</bdi><script>alert("1")</script>\n\'"><img src=x onerror=alert(1)>\u202egnp.exe\u0000&amp;'
  const failure = { code: 'storage-failed', message: hostile, hint: hostile } as const
  const bad = backup(0, { database: hostile, id: hostile })
  const failing = proof(bad, 10, { artifact: 'fail' })
  const cause = { ...failing, levels: { artifact: { ...failing.levels.artifact, cause: hostile } } } as typeof failing
  const catalog = catalogOf({
    server: serverState([hostile, `${hostile}2`], { missingDatabases: [hostile] }),
    repositories: [
      { ...repositoryState(hostile, [bad], [cause]), unusable: [{ id: hostile, state: 'invalid', failure }] },
    ],
    collectors: [collectorState(`repository:${hostile}`, { success: false, failure })],
  })
  const text = page(catalog, { cluster: hostile, version: hostile })
  t.notMatch(text, /<script|<img|&amp;amp;"|onerror=alert\(1\)>/)
  t.notOk(text.includes('\u0000') || text.includes('\u202e'), 'what cannot be seen is written out')
  t.match(text, '\\u{202e}gnp.exe\\u{0}')
  t.match(text, '&lt;script&gt;alert(&quot;1&quot;)')
  const tags = [...text.replace(/<style>[\s\S]*?<\/style>/, '').matchAll(/<\/?([a-z0-9]+)/gi)].map(([, tag]) => tag)
  const expected =
    'html head meta title link body header b bdi span main section h1 h2 h3 h4 p div article dl dt dd time table thead tbody tr th td code br footer nav a ul li'
  for (const tag of new Set(tags)) t.ok(expected.split(' ').includes(tag ?? ''), `<${tag}>`)
})

await t.test('the page loads nothing and runs nothing', async (t) => {
  const { call } = await startHttp(t)
  const { text, headers } = await call({ url: '/' })
  t.match(headers['content-type'], 'text/html; charset=utf-8')
  const policy = String(headers['content-security-policy'])
  const [, style = ''] = /<style>([\s\S]*?)<\/style>/.exec(text) ?? []
  t.match(policy, `style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`)
  t.match(policy, /^default-src 'none'/)
  t.notMatch(policy, /unsafe|https?:|script-src|\*/)
  t.notMatch(text, /<script|style="|\son[a-z]+="|@import|url\(/)
  for (const [, target = ''] of text.matchAll(/(?:href|src)="([^"]*)"/g)) t.match(target, /^(\/|data:image)/)
  t.match(text, /<html lang="en">/)
  t.match(text, /name="viewport"/)
})

await t.test('with tokens the page tells no more than the metrics', async (t) => {
  const failure = { code: 'server-unreachable', message: 'connection to db.internal refused' } as const
  const catalog = catalogOf({
    repositories: [repositoryState('r', [proven])],
    collectors: [collectorState('server', { success: false, failure })],
  })
  const open = page(catalog)
  t.match(open, proven.id)
  t.match(open, /db\.internal/)
  const closed = page(catalog, { tokens })
  t.notMatch(closed, proven.id)
  t.notMatch(closed, /db\.internal/)
  t.match(words(closed), /server failing/)
})

await t.test('jobs, and what there is more of', async (t) => {
  const job = (fields: Partial<JobSummary>): JobSummary => ({
    job: 'dump',
    lane: 'backup',
    timeoutSeconds: 3_600,
    schedule: null,
    nextRunAt: null,
    runs: 3,
    failures: 1,
    lastStartAt: null,
    lastSuccessAt: null,
    lastDurationSeconds: null,
    running: false,
    progressRatio: null,
    ...fields,
  })
  const many = Array.from({ length: 25 }, (_, index) =>
    backup(index, { id: `20260301T000000Z-dump-0000${index + 10}` }),
  )
  const repository = repositoryState('r', many)
  const catalog = catalogOf({
    repositories: [
      {
        ...repository,
        unusable: [
          { id: 'a', state: 'in-progress' },
          { id: 'b', state: 'incomplete' },
        ],
      },
    ],
    jobs: [
      job({
        running: true,
        progressRatio: 0.999,
        nextRunAt: at(660),
        lastSuccessAt: at(599.5),
        lastDurationSeconds: 75,
      }),
      job({ job: 'verify', running: true }),
      job({ job: 'restore' }),
    ],
    collectors: [collectorState('server', { success: null, lastSuccessAt: null, durationSeconds: null })],
  })
  const text = page(catalog)
  const read = words(text)
  t.match(text, /<progress max="100" value="99" aria-label="dump">/, 'not 100 before it is done')
  t.match(read, /in 1 h 2026-03-01 09:59:30 UTC 30 s ago 1 min 15 s 3 1/)
  t.match(read, /verify running on demand never – 3 1/)
  t.match(read, /restore idle/)
  t.match(read, /The newest 20 of 25\. 1 backup in progress\. 1 folder without a usable backup\./)
  t.match(read, /server waiting never –/)
})

await t.test('escaping', async (t) => {
  t.equal(
    html`<a title="${'"><\'&'}">${['a', html`<b>${'<'}</b>`, null, 1]}</a>`.text,
    '<a title="&quot;&gt;&lt;&#39;&amp;">a<b>&lt;</b>1</a>',
  )
  t.equal(name(' a  b ').text, '<bdi class="name">·a· b·</bdi>')
  t.equal(name('a\tb\u200bc\ud800').text, '<bdi class="name">a\\tb\\u{200b}c\\u{d800}</bdi>')
})

await t.test('words', async (t) => {
  const durations: [seconds: number, text: string][] = [
    [0, '0 s'],
    [0.26, '0.3 s'],
    [9.96, '10 s'],
    [59.4, '59 s'],
    [59.6, '1 min'],
    [61, '1 min 1 s'],
    [3599.6, '1 h'],
    [3605, '1 h'],
    [86_399, '23 h 59 min'],
    [86_400 * 40 + 3_600, '40 d 1 h'],
  ]
  for (const [seconds, text] of durations) t.equal(duration(seconds), text)
  const sizes: [bytes: number, text: string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 KiB'],
    [10_240, '10 KiB'],
    [1.5 * 2 ** 30, '1.5 GiB'],
    [2 ** 60, '1024 PiB'],
  ]
  for (const [bytes, text] of sizes) t.equal(size(bytes), text)
  t.equal(count(1, 'run'), '1 run')
  t.equal(count(0, 'run'), '0 runs')
  t.match(moment(at(0), at(0)).text, /just now/)
})
